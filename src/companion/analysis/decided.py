"""What every arm gains over another, with the training seed as the unit, and what could be seen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from companion import paired
from companion.analysis import accuracy
from companion.statistics import Estimate


def against(
    samples: pd.DataFrame, places: Mapping[str, list[str]], other: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every policy minus `other`, paired by seed and problem.

    Args:
        samples: as `accuracy.joined`, of at least two seeds.
        places: the suites to average over, by what they are called, such as "in distribution".

    Returns:
        a row a policy, place and metric, with the columns policy, place, metric, gain (points, an
        Estimate by `paired.difference`), detectable (points: the smallest mean difference that
        a paired t test over as many seeds finds with a power of 0.8, were their spread the true one),
        sign_flip (the exact test's p-value) and holm (that, adjusted over the policies);
        and the gain of each seed: columns policy, place, metric, seed, gain.

    Raises:
        ValueError: as `accuracy.joined`, or there is one seed.
    """
    rows, each = [], []
    seeds = sorted(samples["seed"].unique().tolist())
    for place, suites in places.items():
        policies = accuracy.averaged(samples, suites)
        theirs = policies.pop(other)
        for metric, score in accuracy.metrics(theirs).items():
            scored = {suite: score(correct) for suite, correct in theirs.items()}
            for policy, correct in policies.items():
                ours = {suite: score(values) for suite, values in correct.items()}
                gains = paired.by_seed(ours, scored)
                names = {"policy": policy, "place": place, "metric": metric}
                rows.append(
                    names
                    | {
                        "gain": paired.difference(ours, scored),
                        "detectable": _detectable(gains),
                        "sign_flip": paired.sign_flip(gains),
                    }
                )
                each += [
                    names | {"seed": s, "gain": float(g)} for s, g in zip(seeds, gains, strict=True)
                ]
    table = pd.DataFrame(rows)
    for _, together in table.groupby(["place", "metric"]):
        p_values = dict(together["sign_flip"].items())
        table.loc[together.index, "holm"] = pd.Series(paired.holm(p_values))
    return table, pd.DataFrame(each)


def gains(
    samples: pd.DataFrame, suites: list[str], other: str, resamples: int = 2000
) -> pd.DataFrame:
    """Each policy minus `other`, in points: a row a policy, a column a metric, each cell an Estimate.

    Of several seeds a seed is the unit, as in `against`; of one, whose spread nobody knows, the interval
    is over problems alone (`accuracy.gains`).
    """
    if samples["seed"].nunique() == 1:
        return accuracy.gains(samples, suites, other, resamples)
    table, _ = against(samples, {"": suites}, other)
    found = {
        policy: dict(zip(rows["metric"], rows["gain"], strict=True))
        for policy, rows in table.groupby("policy", sort=False)
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=table["metric"].unique())


def _detectable(gains: np.ndarray) -> float:
    return paired.smallest_detectable(float(gains.std(ddof=1)), len(gains))


def of(table: pd.DataFrame, policy: str, place: str, metric: str) -> tuple[Estimate, float]:
    """One gain of `against`'s table, and what could have been seen."""
    names = table[["policy", "place", "metric"]].agg(tuple, axis=1)
    row = table[names == (policy, place, metric)].iloc[0]
    return row["gain"], row["detectable"]
