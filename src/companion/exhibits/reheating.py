"""Ours: what reheating alone costs, before any further RL."""

from __future__ import annotations

import pandas as pd

from companion import tasks
from companion.analysis import accuracy, collect
from companion.exhibits.exhibit import Exhibit, Shown
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    rows = collect.in_order(
        collect.samples(evidence.every("evaluations")), ["Collapsed", *arms.REHEATED]
    )
    cost = accuracy.gains(rows, tasks.suites(profile), "Collapsed", profile.evaluation.bootstrap)
    return Shown(table=cost, sentence=sentence(cost))


def sentence(cost: pd.DataFrame) -> str:
    """Args: `accuracy.gains` of each reheated policy against the collapsed one."""
    distilled, scaled = cost.loc["PR-FKL"].iloc[0], cost.loc["PR-scale*"].iloc[0]
    verb = "contradicts" if distilled.high < 0 else "agrees with"
    return (
        f"Before any further RL PR-FKL costs {distilled:+.1f} points avg@8, which {verb} the paper's "
        f"finding of no systematic loss; scaling the logits to the same entropy costs {scaled:+.1f}."
    )


EXHIBIT = Exhibit(
    name="reheating",
    title="Reheating alone: points against the collapsed policy",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    every_seed=True,
)
