"""One function a table of the paper: tidy measurements in, a DataFrame to show and to save out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pandas as pd

from companion.analysis.statistics import (
    Estimate,
    avg_at_k,
    macro_average,
    paired_difference,
    pass_at_k,
)
from companion.runs import Run

METRICS = {"avg@{k}": avg_at_k, "pass@{k}": pass_at_k}


def scores(samples: pd.DataFrame, label: str, suites: list[str]) -> dict[str, np.ndarray]:
    """Correctness of one policy: for each suite a bool [seeds, problems, samples].

    Args:
        samples: columns label, seed, suite, problem, sample, correct (`collect.samples`).
    """
    rows = samples[samples["label"] == label].sort_values(["seed", "problem", "sample"])
    k, seeds = rows["sample"].nunique(), rows["seed"].nunique()
    return {
        suite: rows.loc[rows["suite"] == suite, "correct"].to_numpy().reshape(seeds, -1, k)
        for suite in suites
    }


def table1(samples: pd.DataFrame, suites: list[str], resamples: int = 2000) -> pd.DataFrame:
    """Table 1: avg@k and pass@k in percent, a row a policy, with the macro-average last.

    Each cell is an Estimate with its 95% interval over seeds and problems.
    """
    k = samples["sample"].nunique()
    rows = {}
    for label in samples["label"].unique():
        correct = scores(samples, label, suites)
        row: dict[tuple[str, str], Estimate] = {}
        for name, score in METRICS.items():
            each = {suite: score(values) for suite, values in correct.items()}
            for suite, values in each.items():
                row[suite, name.format(k=k)] = macro_average({suite: values}, resamples)
            row["Avg", name.format(k=k)] = macro_average(each, resamples)
        rows[label] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table[[*suites, "Avg"]]


def reheating(
    samples: pd.DataFrame, evaluations: Iterable[Run], suites: list[str], resamples: int = 2000
) -> pd.DataFrame:
    """What reheating gives and costs, before any further RL: a row a policy.

    Entropy (nats, T = 1), macro-averages in percent, and their differences from the first
    policy in points, paired by problem.
    """
    entropies = {
        run.identity["settings"]["label"]: Estimate(**run.result["token_entropy"])
        for run in evaluations
    }
    labels = list(entropies)
    rows = samples[samples["label"].isin(labels)]
    table = table1(rows, suites, resamples)["Avg"]
    difference = gains(rows, suites, against=labels[0], resamples=resamples)
    difference.columns = [f"Δ {metric}" for metric in difference.columns]
    table = table.join(difference).loc[labels]
    table.insert(0, "entropy (nats)", list(entropies.values()))
    return table


def gains(
    samples: pd.DataFrame, suites: list[str], against: str, resamples: int = 2000
) -> pd.DataFrame:
    """Macro-average of each policy minus that of `against`, in points, paired by problem.

    A row a policy, a column a metric, each cell an Estimate.
    """
    k = samples["sample"].nunique()
    other = scores(samples, against, suites)
    rows = {}
    for label in samples["label"].unique():
        if label != against:
            ours = scores(samples, label, suites)
            rows[label] = {
                name.format(k=k): paired_difference(
                    {s: score(ours[s]) for s in suites}, {s: score(other[s]) for s in suites},
                    resamples,
                )
                for name, score in METRICS.items()
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def show(table: pd.DataFrame, spec: str = ".1f") -> pd.DataFrame:
    """The table as text: each Estimate as `value [low, high]`, nats with three decimals."""
    text = table.map(lambda cell: format(cell, spec) if isinstance(cell, Estimate) else "")
    for column in table.columns:
        if "nats" in str(column):
            text[column] = [format(cell, ".3f") for cell in table[column]]
    return text


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """The table as numbers, to save as CSV: columns row, the column levels, value, low, high."""
    levels = ["suite", "metric"] if table.columns.nlevels == 2 else ["metric"]
    rows = [
        {"policy": policy, **dict(zip(levels, np.atleast_1d(column), strict=True)), **asdict(cell)}
        for policy, row in table.iterrows()
        for column, cell in row.items()
        if isinstance(cell, Estimate)
    ]
    return pd.DataFrame(rows).round(4)
