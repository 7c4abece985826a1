"""Ours: the out-of-distribution suite, for every policy of Table 1."""

from __future__ import annotations

import pandas as pd

from companion import tasks
from companion.analysis import accuracy, decided
from companion.exhibits import headline, limits
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.headline import HEADLINE
from companion.exhibits.wording import holds
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown | None:
    suite = tasks.ood(profile)
    if suite is None:  # left out
        return None
    rows, resamples = headline.samples(evidence), profile.evaluation.bootstrap
    table = accuracy.table(rows, [suite], resamples)["Avg"]
    gains = decided.gains(rows, [suite], arms.DAPO, resamples)
    seeds = accuracy.by_seed(rows, [suite]).loc["Collapsed"]
    note = limits.note(profile, accuracy.cut(rows, [suite]))
    return Shown(table=table, note=note, sentence=sentence(table, gains, seeds))


def sentence(table: pd.DataFrame, gains: pd.DataFrame, collapsed_by_seed: pd.Series) -> str:
    """Args: the suite's table and gains over continued DAPO; the collapsed policy's avg by seed."""
    base, collapsed = (table.loc[row].iloc[0] for row in ("Base", "Collapsed"))
    each = ", ".join(f"{value:.1f}" for value in collapsed_by_seed)
    gain = gains.loc[HEADLINE].iloc[0]
    return (
        f"On problems of a kind that RL never trained on the base policy gets {base:.1f}% of its "
        f"samples right and the collapsed one {collapsed:.1f}% (by seed: {each}). PR-FKL minus "
        f"continued DAPO is then {gain:+.1f} points, which {holds(gain, {'0': 0})}; the paper evaluates "
        "GPQA for its reheating checkpoints only (Fig. 4)."
    )


EXHIBIT = Exhibit(
    name="ood",
    title="Out of distribution (percent)",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    every_seed=True,
)
