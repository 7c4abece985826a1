"""Sampling noise of the paper's Table 1, which comes without intervals and with one seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from companion.analysis.audit import PROBLEMS, SAMPLES, cells, check_arms, problems

Z = 1.959964
"""97.5% quantile of the standard normal."""


def spreads(table1: pd.DataFrame) -> pd.DataFrame:
    """How many independent right-or-wrong trials each cell of Table 1 is worth.

    A cell is a mean over n problems, taken as drawn from many like them; its variance is the
    variance of the problems' scores over n, or a(1 - a) over the trials. pass@8 scores are 0 or
    1: n trials. For avg@8 the spread between problems is not reported, so it is bounded:

    - least: all problems are equally hard, 8n trials. This would bring pass@8 to 1 - (1 - a)^8,
      far above what is reported.
    - least given pass@8: problems that were ever solved were solved equally often.
    - most given pass@8: they were solved either always or once.
    - most: every problem is solved always or never, n trials. This would make pass@8 equal
      avg@8.
    - problems held fixed: the most that sampling answers adds for these very problems, given
      pass@8. Narrower, for it says nothing of other problems.

    Columns model, arm, benchmark, metric, spread, value (percent), trials.
    """
    table = table1[table1["benchmark"] != "Avg"]
    mean, solved = table["avg@8"] / 100, table["pass@8"] / 100
    always = (SAMPLES * mean - solved) / (SAMPLES - 1)
    mean_square = {  # of the problems' scores
        "least given pass@8": mean**2 / solved,
        "most given pass@8": always + (solved - always) / SAMPLES**2,
    }
    worth = {  # trials a problem
        spread: mean * (1 - mean) / (square - mean**2) for spread, square in mean_square.items()
    }
    worth["problems held fixed"] = (SAMPLES - 1) * (1 - mean) / (1 - mean / solved)
    columns = [("pass@8", "known", 1), ("avg@8", "least", SAMPLES), ("avg@8", "most", 1)]
    columns += [("avg@8", spread, values) for spread, values in worth.items()]
    count = problems(table["benchmark"])
    return pd.concat(
        [
            table[["model", "arm", "benchmark"]].assign(
                metric=metric, spread=spread, value=table[metric], trials=count * trials
            )
            for metric, spread, trials in columns
        ],
        ignore_index=True,
    )


def intervals(table1: pd.DataFrame) -> pd.DataFrame:
    """95% intervals of the cells of Table 1 under each of `spreads`: columns low, high added.

    Wilson score intervals, in percent, over each cell's trials.
    """
    table = spreads(table1)
    low, high = wilson(table["value"] / 100, table["trials"])
    return table.assign(low=100 * low, high=100 * high)


def wilson(share: float, trials: float) -> tuple[float, float]:
    """95% Wilson score interval of a share in [0, 1]. Trials need not be whole, as scipy asks."""
    centre = share + Z**2 / (2 * trials)
    half = Z * np.sqrt(share * (1 - share) / trials + (Z / (2 * trials)) ** 2)
    scale = 1 + Z**2 / trials
    return (centre - half) / scale, (centre + half) / scale


def macro_intervals(table1: pd.DataFrame) -> pd.DataFrame:
    """95% normal intervals of the Avg columns, from the variances of the five cells.

    Columns model, arm, metric, spread (`spreads`), value (percent), error (standard error in
    points), low, high.
    """
    keys, table = ["model", "arm", "metric"], spreads(table1)
    table["variance"] = table["value"] * (100 - table["value"]) / table["trials"]
    sums = table.groupby([*keys, "spread"], sort=False)["variance"].sum()
    error = (np.sqrt(sums) / len(PROBLEMS)).rename("error").reset_index()
    average = cells(table1).query("benchmark == 'Avg'").drop(columns="benchmark")
    return _with_interval(error.merge(average, on=keys), "value")


def gains(table1: pd.DataFrame, against: str = "+DAPO") -> pd.DataFrame:
    """Each reheated arm's Avg minus that of `against`, in points, with 95% normal intervals.

    The intervals are unpaired: the errors of both sides are taken as independent. All arms
    answered the same problems, so a comparison problem by problem would be narrower, but the
    paper reports no score of a single problem and the pairing cannot be recovered. Only with
    the problems held fixed is nothing lost. Seeds of training are not covered: there is one.

    Raises:
        ValueError: `against` is not an arm of Table 1.
    """
    check_arms(table1, against)
    table = macro_intervals(table1)
    arms = table[table["arm"].str.startswith(f"{against} w/ ")]
    keys = ["model", "metric", "spread"]
    table = arms.merge(table[table["arm"] == against], on=keys, suffixes=("", "_other"))
    table["difference"] = table["value"] - table["value_other"]
    table["error"] = np.hypot(table["error"], table["error_other"])
    return _with_interval(table[["arm", *keys, "difference", "error"]], "difference")


def _with_interval(table: pd.DataFrame, column: str) -> pd.DataFrame:
    half = Z * table["error"]
    return table.assign(low=table[column] - half, high=table[column] + half)
