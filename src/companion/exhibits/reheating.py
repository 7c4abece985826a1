"""Ours: what reheating alone costs, before any further RL."""

from __future__ import annotations

import pandas as pd

from companion import tasks
from companion.analysis import accuracy, collect, decided
from companion.exhibits import limits
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.wording import holds, unchanged
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence

MARGIN = 1.5
"""Points of avg@k that would not matter (docs/preregistration.md)."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    rows = collect.in_order(
        collect.samples(evidence.every("evaluations")), ["Collapsed", *arms.REHEATED]
    )
    suites = tasks.suites(profile)
    cost = decided.gains(rows, suites, "Collapsed", profile.evaluation.bootstrap)
    note = limits.note(profile, accuracy.cut(rows, suites))
    return Shown(table=cost, note=note, sentence=sentence(cost), claims=claims(cost))


def sentence(cost: pd.DataFrame) -> str:
    """Args: `decided.gains` of each reheated policy against the collapsed one."""
    distilled, scaled = cost.loc["PR-FKL"].iloc[0], cost.loc["PR-scale*"].iloc[0]
    return (
        f"Before any further RL PR-FKL changes avg@8 by {distilled:+.1f} points, an interval that "
        f"{holds(distilled, {'0': 0})}, and scaling the logits to the same entropy by {scaled:+.1f}, "
        f"which {holds(scaled, {'0': 0})}; the paper finds no systematic loss."
    )


def claims(cost: pd.DataFrame) -> tuple[Claim, ...]:
    """Args: as `sentence`."""
    distilled = cost.loc["PR-FKL"].iloc[0]
    return (
        Claim(
            "Reheating by itself costs no accuracy",
            "reheating alone costs nothing",
            "no systematic loss (MATH-500, without a number)",
            f"{distilled:+.1f} points ({cost.columns[0]})",
            unchanged(distilled, MARGIN),
        ),
    )


EXHIBIT = Exhibit(
    name="reheating",
    title="Reheating alone: points against the collapsed policy",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    every_seed=True,
)
