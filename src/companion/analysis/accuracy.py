"""How many problems policies solve, from every sample: avg@k, pass@k, and paired differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd

from companion.analysis import collect
from companion.statistics import (
    Estimate,
    avg_at_k,
    macro_average,
    paired_difference,
    pass_at_k,
)

KEY = ["suite", "problem", "sample"]
"""What two policies are compared by, seed for seed."""


def joined(samples: pd.DataFrame, suites: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """Correctness of every policy, in order: for each suite a bool [seeds, problems, samples].

    The same place means the same seed, problem and number of the sample in all of them, whatever
    the order of the rows.

    Args:
        samples: columns label, seed, suite, problem, sample, correct (`collect.samples`), and
            prompt and gold where they are kept.

    Raises:
        ValueError: two policies, or two seeds, were not asked the same: another problem or gold,
            another number of samples, one that is lost or is there twice.
    """
    rows = samples[samples["suite"].isin(suites)]
    if rows.empty:
        raise ValueError(
            f"there are no samples of {', '.join(suites)}; evaluate some policies there"
        )
    groups = dict(list(rows.set_index(KEY).sort_index().groupby(["label", "seed"], sort=False)))
    (first, one), *_ = groups.items()
    _check_whole(one, suites, _called(first))
    for name, other in groups.items():
        _check_same(_called(first), one.index, _called(name), other.index)
    _check_texts(rows)
    labels, seeds = samples["label"].unique(), sorted(samples["seed"].unique())
    for name in itertools.product(labels, seeds):
        if name not in groups:
            raise ValueError(f"there is no {_called(name)}; evaluate every policy on every seed")
    return {
        label: {
            suite: np.stack([_square(groups[label, seed].loc[suite]) for seed in seeds])
            for suite in suites
        }
        for label in labels
    }


def averaged(samples: pd.DataFrame, suites: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """`joined`, with the checkpoints of an arm together: [seeds, problems, checkpoints, samples].

    Every metric is taken of each checkpoint and then averaged: pass@k is never of two policies.
    """
    policies = joined(samples, suites)
    together: dict[str, list[dict[str, np.ndarray]]] = {}
    for label, correct in policies.items():
        together.setdefault(collect.arm_of(label), []).append(correct)
    return {
        arm: {suite: np.stack([c[suite] for c in checkpoints], axis=2) for suite in suites}
        for arm, checkpoints in together.items()
    }


def _called(group: tuple[str, int]) -> str:
    return f"'{group[0]}' of seed {group[1]}"


def _square(rows: pd.DataFrame) -> np.ndarray:
    """Of one policy, seed and suite, sorted: [problems, samples]."""
    return rows["correct"].to_numpy().reshape(rows.index.get_level_values(0).nunique(), -1)


def _check_whole(rows: pd.DataFrame, suites: list[str], name: str) -> None:
    """ValueError unless there are all suites, and each problem has the same samples, once each."""
    if lacking := [suite for suite in suites if suite not in rows.index.get_level_values(0)]:
        raise ValueError(f"{name} has no samples of suite '{lacking[0]}'; evaluate it there")
    unique = rows.index.unique()
    every = sorted(set(unique.get_level_values("sample")))
    problems = unique.droplevel("sample").unique()
    whole = pd.MultiIndex.from_tuples(((*p, k) for p in problems for k in every), names=KEY)
    _check_same("every problem", whole, name, rows.index)


def _check_same(one: str, expected: pd.MultiIndex, other: str, found: pd.MultiIndex) -> None:
    """ValueError unless both hold the same keys, once each."""
    if found.has_duplicates:
        raise ValueError(
            f"{other} has {_place(found[found.duplicated()])} twice; give each run once"
        )
    if len(lost := expected.difference(found)):
        raise ValueError(f"{other} lacks {_place(lost)}, which {one} has; evaluate both alike")
    if len(more := found.difference(expected)):
        raise ValueError(f"{other} has {_place(more)}, which {one} lacks; evaluate both alike")


def _place(keys: pd.MultiIndex) -> str:
    suite, problem, sample = keys[0]
    return f"sample {sample} of problem '{problem}' in suite '{suite}'"


def _check_texts(rows: pd.DataFrame) -> None:
    """ValueError unless all were asked a problem by the same words, for the same answer."""
    for column in ("prompt", "gold"):
        if column in rows:
            texts = rows.drop_duplicates([*KEY[:2], column]).dropna(subset=column)
            if (twice := texts.duplicated(KEY[:2])).any():
                suite, problem = texts.loc[twice, KEY[:2]].iloc[0]
                raise ValueError(
                    f"problem '{problem}' in suite '{suite}' has more than one {column}; compare "
                    "evaluations of the same problems"
                )


def table(samples: pd.DataFrame, suites: list[str], resamples: int = 2000) -> pd.DataFrame:
    """avg@k and pass@k in percent, a row a policy, with the macro-average last.

    Each cell is an Estimate with its 95% interval over seeds and problems. ValueError as `joined`.
    """
    rows = {}
    for label, correct in averaged(samples, suites).items():
        row: dict[tuple[str, str], Estimate] = {}
        for name, score in metrics(correct).items():
            each = {suite: score(values) for suite, values in correct.items()}
            for suite, values in each.items():
                row[suite, name] = macro_average({suite: values}, resamples)
            row["Avg", name] = macro_average(each, resamples)
        rows[label] = row
    cells = pd.DataFrame.from_dict(rows, orient="index")
    cells.columns = pd.MultiIndex.from_tuples(cells.columns)
    return cells[[*suites, "Avg"]]


def metrics(correct: dict[str, np.ndarray]) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The metrics by their names, such as "avg@8": [seeds, problems, checkpoints, samples] -> [seeds,
    problems]."""
    n = next(iter(correct.values())).shape[-1]
    return {
        f"avg@{n}": lambda c: avg_at_k(c).mean(axis=-1),
        f"pass@{n}": lambda c: pass_at_k(c, k=n).mean(axis=-1),
    }


def curve(samples: pd.DataFrame, suites: list[str]) -> pd.DataFrame:
    """Macro-average of pass@k in percent, a row a policy, a column each k = 1, 2, 4, … up to the
    samples of a problem, over seeds. ValueError as `joined`."""
    policies = averaged(samples, suites)
    n = next(iter(next(iter(policies.values())).values())).shape[-1]
    return pd.DataFrame.from_dict(
        {
            label: {
                f"pass@{k}": 100 * np.mean([pass_at_k(c, k).mean() for c in correct.values()])
                for k in (2**i for i in range(n.bit_length()))
            }
            for label, correct in policies.items()
        },
        orient="index",
    )


def cut(samples: pd.DataFrame, suites: list[str]) -> pd.DataFrame:
    """The share of answers without an end token, in percent: cut at the token limit, and graded so.

    A row a policy, a column a suite and "Avg", their macro-average, over seeds.
    """
    rows = samples[samples["suite"].isin(suites)]
    arms = {label: collect.arm_of(label) for label in rows["label"].unique()}
    rows = rows.assign(label=rows["label"].map(arms))
    share = 100 * (1 - rows.groupby(["label", "suite"], sort=False)["ended"].mean().unstack())
    return share.assign(Avg=share.mean(axis=1))[["Avg", *suites]].rename_axis(None)


def by_seed(samples: pd.DataFrame, suites: list[str]) -> pd.DataFrame:
    """Macro-average of avg@k in percent: a row a policy, a column a seed. ValueError as `joined`."""
    averages = {
        label: 100 * np.mean([avg_at_k(c).mean(axis=(1, 2)) for c in correct.values()], axis=0)
        for label, correct in averaged(samples, suites).items()
    }
    return pd.DataFrame.from_dict(
        averages, orient="index", columns=sorted(samples["seed"].unique())
    )


def gains(
    samples: pd.DataFrame, suites: list[str], against: str, resamples: int = 2000
) -> pd.DataFrame:
    """Macro-average of each policy minus that of `against`, in points, paired by problem.

    A row a policy, a column a metric, each cell an Estimate. ValueError as `joined`.
    """
    policies = averaged(samples, suites)
    other = policies.pop(against)
    return pd.DataFrame.from_dict(
        {
            label: {
                name: paired_difference(
                    {s: score(ours[s]) for s in suites},
                    {s: score(other[s]) for s in suites},
                    resamples,
                )
                for name, score in metrics(other).items()
            }
            for label, ours in policies.items()
        },
        orient="index",
    )
