"""Notebooks 01, 02 and 04: policies beside the first of them, in entropy and accuracy."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from companion import tasks
from companion.analysis import accuracy, collect
from companion.exhibits import files, limits
from companion.exhibits.exhibit import Shown
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate


def show(profile: Profile, name: str, evaluations: Iterable[Run]) -> Shown:
    """A row an evaluation, kept as table `name`: see `table`."""
    runs = list(evaluations)
    suites = tasks.suites(profile, runs[0].identity["settings"]["split"])
    samples = collect.samples(runs)
    found = table(samples, runs, suites, profile.evaluation.bootstrap)
    note = limits.note(profile, accuracy.cut(samples, suites))
    return files.keep(profile, name, Shown(table=found, note=note))


def table(
    samples: pd.DataFrame, evaluations: Iterable[Run], suites: list[str], resamples: int = 2000
) -> pd.DataFrame:
    """A row a policy: what it can do, and what that is beside the first.

    Entropy (nats, T = 1), macro-averages in percent, and their differences from the first
    policy in points, paired by problem.
    """
    entropies = {
        run.identity["settings"]["label"]: Estimate(**run.result["token_entropy"])
        for run in evaluations
    }
    labels = list(entropies)
    rows = samples[samples["label"].isin(labels)]
    cells = accuracy.table(rows, suites, resamples)["Avg"]
    difference = accuracy.gains(rows, suites, against=labels[0], resamples=resamples)
    difference.columns = [f"Δ {metric}" for metric in difference.columns]
    cells = cells.join(difference).loc[labels]
    cells.insert(0, "entropy (nats)", list(entropies.values()))
    return cells
