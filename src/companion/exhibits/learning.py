"""Ours: what RL itself adds, before and after the collapse."""

from __future__ import annotations

import pandas as pd

from companion import paper, tasks
from companion.analysis import accuracy, decided
from companion.exhibits import headline, limits
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.wording import judged
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence

UNTIL, AFTER = "Collapsed − Base", "+DAPO − Collapsed"


def make(profile: Profile, evidence: Evidence) -> Shown:
    rows, suites = headline.samples(evidence), tasks.suites(profile)
    found = table(rows, suites, profile.evaluation.bootstrap)
    cut = accuracy.cut(rows[rows["label"].isin(["Base", "Collapsed", arms.DAPO])], suites)
    return Shown(
        table=found,
        sentence=sentence(found, profile.rl.continued_steps),
        claims=claims(found),
        note=limits.note(profile, cut),
    )


def table(samples: pd.DataFrame, suites: list[str], resamples: int = 2000) -> pd.DataFrame:
    """Points of RL until the collapse and of the plain steps after it, paired by problem."""
    stages = {UNTIL: ("Collapsed", "Base"), AFTER: (arms.DAPO, "Collapsed")}
    return pd.DataFrame.from_dict(
        {
            name: decided.gains(samples, suites, before, resamples).loc[after]
            for name, (after, before) in stages.items()
        },
        orient="index",
    )


def sentence(table: pd.DataFrame, steps: int) -> str:
    (avg, passed), (more, further) = table.loc[UNTIL], table.loc[AFTER]
    average = paper.table1_average()
    reported = (average.loc[arms.DAPO] - average.loc["Base"]).round(2)
    each = " and ".join(
        f"{reported[model, 'avg@8']:+} and {reported[model, 'pass@8']:+} ({model[6:8]})"
        for model in reported.index.unique(0)
    )
    return (
        f"Until the collapse RL adds {avg:+.1f} points avg@8 and {passed:+.1f} pass@8 to the base "
        f"policy; {steps} further steps of plain DAPO add {more:+.1f} and {further:+.1f}. The paper's "
        f"RL adds {each} from Base to +DAPO."
    )


def claims(table: pd.DataFrame) -> tuple[Claim, ...]:
    """Args: as `sentence`."""
    added = table.loc[UNTIL].iloc[0]
    theirs = headline.in_the_paper("avg@8", arms.DAPO, "Base")
    each = ", ".join(f"{value:+.2f} ({model})" for model, value in theirs.items())
    return (
        Claim(
            "RL makes the base policy more accurate, until its entropy has collapsed",
            "RL adds accuracy",
            f"{each} points of accuracy",
            f"{added:+.1f} points ({table.columns[0]})",
            judged(added, theirs.values()),
        ),
    )


EXHIBIT = Exhibit(
    name="learning",
    title="What RL adds: points against the policy that it started from",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    every_seed=True,
)
