"""What a profile's stages took where they were published: hours, by the rows of its plan."""

from __future__ import annotations

import pandas as pd

from companion.params import ROOT
from companion.runs import Run
from companion.study import roles

ANALYSES = {"rl": "analyses: RL", "reheat": "analyses: reheating"}
"""By a run's stage; whatever else an analysis makes counts to its evaluations."""


def hours(profile: str) -> pd.Series:
    """The median over published seeds of what a row's runs took, checks of entropy included.

    A run that several parts of the study share counts once, where it comes first; a seed whose run
    was killed once does not count to its row. Empty if nothing of the profile is published.
    """
    if not (ROOT / "results" / profile / roles.INDEX).exists():
        return pd.Series(dtype=float)
    index = roles.published(profile).index
    rows = index.assign(
        row=[_row(*part) for part in zip(index["role"], index["key"], index["run"], strict=True)],
        hours=[run.seconds / 3600 for run in index["run"]],
        name=[run.name for run in index["run"]],
    ).drop_duplicates(["seed", "name"])
    whole = rows.groupby(["row", "seed"])["hours"].agg(lambda hours: hours.sum(skipna=False))
    return whole.groupby("row").median()


def _row(role: str, key: str, run: Run) -> str:
    """The row of the plan that a run counts to."""
    if role == "training":
        return "RL to collapse" if key == "Collapsed" else key
    if role == "reheated":
        return key
    if role == "evaluations":
        return "evaluation"
    return ANALYSES.get(run.identity["stage"], "analyses: evaluation")
