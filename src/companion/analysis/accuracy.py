"""How many problems policies solve, from every sample: avg@k, pass@k, and paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from companion.statistics import (
    Estimate,
    avg_at_k,
    macro_average,
    paired_difference,
    pass_at_k,
)

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


def table(samples: pd.DataFrame, suites: list[str], resamples: int = 2000) -> pd.DataFrame:
    """avg@k and pass@k in percent, a row a policy, with the macro-average last.

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
    cells = pd.DataFrame.from_dict(rows, orient="index")
    cells.columns = pd.MultiIndex.from_tuples(cells.columns)
    return cells[[*suites, "Avg"]]


def by_seed(samples: pd.DataFrame, suites: list[str]) -> pd.DataFrame:
    """Macro-average of avg@k in percent: a row a policy, a column a seed."""
    return pd.DataFrame(
        {
            seed: {
                label: 100
                * np.mean([avg_at_k(c).mean() for c in scores(rows, label, suites).values()])
                for label in rows["label"].unique()
            }
            for seed, rows in samples.groupby("seed")
        }
    )


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
                    {s: score(ours[s]) for s in suites},
                    {s: score(other[s]) for s in suites},
                    resamples,
                )
                for name, score in METRICS.items()
            }
    return pd.DataFrame.from_dict(rows, orient="index")
