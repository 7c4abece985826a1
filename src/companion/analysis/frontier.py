"""Ways to raise a policy's entropy, side by side: what each keeps and gains at the same entropy.

A way is a row of policies that begins with the collapsed one; its name is the first word of their
keys ("merge 0.4"), as `study.experiments.frontier` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from companion import paired
from companion.analysis import accuracy, collect
from companion.runs import Run
from companion.statistics import (
    Estimate,
    avg_at_k,
    macro_average,
    paired_difference,
    pass_at_k,
)

BASE, COLLAPSED = "Base", "Collapsed"
WAYS = ("scaling", "frozen", "live", "merge")
"""Dividing the logits, distilling from a frozen and from a live teacher, merging with the base."""

Scores = dict[str, dict[str, np.ndarray]]
"""By metric ("avg", "pass") and suite: each problem's score in [0, 1], [seeds, problems]."""


@dataclass(frozen=True)
class Policy:
    """One policy, evaluated; of one seed, or of several together."""

    key: str
    entropy: float
    """Mean token entropy in nats; over seeds their mean."""
    scores: Scores

    @property
    def way(self) -> str:
        """ "merge" of "merge 0.4"; "Base" and "Collapsed" lie on their own."""
        return self.key.split()[0]


def read(evaluations: Mapping[str, Run], suites: list[str]) -> tuple[list[Policy], pd.DataFrame]:
    """The policies of one seed in order, and how many of their answers were cut (`accuracy.cut`).

    A run at a time: together a seed's samples are millions.

    Raises:
        ValueError: two policies were not asked the same.
    """
    asked = {_asked(run) for run in evaluations.values()}
    if len(asked) > 1:
        raise ValueError(
            f"evaluations of the frontier have {len(asked)} sets of problems or numbers of samples; "
            "evaluate every policy alike"
        )
    policies, cut = [], []
    for key, run in evaluations.items():
        samples = collect.samples([run])
        [correct] = accuracy.joined(samples, suites).values()
        k = next(iter(correct.values())).shape[-1]
        scores = {
            "avg": {suite: avg_at_k(right) for suite, right in correct.items()},
            "pass": {suite: pass_at_k(right, k) for suite, right in correct.items()},
        }
        policies.append(Policy(key, run.result["token_entropy"]["value"], scores))
        cut.append(accuracy.cut(samples, suites).set_axis([key]))
    return policies, pd.concat(cut)


def _asked(run: Run) -> tuple[object, ...]:
    settings = run.identity["settings"]
    return tuple(settings.get(name) for name in ("data", "samples", "temperature", "top_p"))


def way(policies: Sequence[Policy], name: str) -> list[Policy]:
    """The policies on a way by their entropy, the collapsed one among them."""
    on = [policy for policy in policies if policy.way in (name, COLLAPSED)]
    return sorted(on, key=lambda policy: policy.entropy)


def level(policies: Sequence[Policy]) -> float:
    """The highest entropy that every way reaches, in nats: what they can be compared at.

    PR-FKL's own (the end of "live") unless another way ends before it.
    """
    return min(way(policies, name)[-1].entropy for name in WAYS)


def at(policies: Sequence[Policy], name: str, entropy: float) -> Scores:
    """What a way has at this entropy (nats): between its two nearest policies, in proportion.

    Of each problem's scores, so that intervals stay paired by problem. Beyond the way's ends, its
    end.
    """
    on = way(policies, name)
    entropies = [policy.entropy for policy in on]
    right = int(np.clip(np.searchsorted(entropies, entropy), 1, len(on) - 1))
    below, above = on[right - 1], on[right]
    share = float(np.interp(entropy, [below.entropy, above.entropy], [0, 1]))
    return {
        metric: {
            suite: (1 - share) * below.scores[metric][suite] + share * values
            for suite, values in suites.items()
        }
        for metric, suites in above.scores.items()
    }


def stacked(scores: Sequence[Scores]) -> Scores:
    """Several seeds' scores as one: [seeds, problems]. ValueError if they have other problems."""
    shapes = {str({s: v.shape[1] for s, v in one["avg"].items()}) for one in scores}
    if len(shapes) > 1:
        raise ValueError(
            f"seeds have {' and '.join(sorted(shapes))} problems; evaluate them on the same"
        )
    first = scores[0]
    return {
        metric: {s: np.concatenate([one[metric][s] for one in scores]) for s in suites}
        for metric, suites in first.items()
    }


def together(seeds: Sequence[Sequence[Policy]]) -> list[Policy]:
    """The seeds' policies as one list, the n-th of each way with the n-th: [seeds, problems].

    Checkpoints differ in their steps by seed, and so does how many there are: what not every seed
    has is left out.
    """
    found: list[Policy] = []
    for name in (BASE, COLLAPSED, *WAYS):
        rows = [[policy for policy in policies if policy.way == name] for policies in seeds]
        for policies in zip(*rows, strict=False):
            entropy = float(np.mean([policy.entropy for policy in policies]))
            scores = stacked([policy.scores for policy in policies])
            found.append(Policy(policies[0].key, entropy, scores))
    return found


def points(
    policies: Sequence[Policy], groups: Mapping[str, list[str]], resamples: int = 2000
) -> pd.DataFrame:
    """What to draw: columns key, way, entropy (nats), place, metric, value, low, high (percent).

    Args:
        groups: suites that are averaged over, by what they are called together (column place).
    """
    rows = []
    for policy in policies:
        for place, suites in groups.items():
            for metric, scores in policy.scores.items():
                cell = macro_average({suite: scores[suite] for suite in suites}, resamples)
                row = (policy.key, policy.way, policy.entropy, place, metric)
                rows.append((*row, cell.value, cell.low, cell.high))
    columns = ["key", "way", "entropy", "place", "metric", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def compared(
    seeds: Sequence[Sequence[Policy]], groups: Mapping[str, list[str]], resamples: int = 2000
) -> pd.DataFrame:
    """At every seed's own `level`: each way minus the collapsed policy, and merging minus scaling.

    In points, paired by problem: a row a comparison, a column a (place, metric), each cell an
    Estimate; over problems with one seed, over seeds and problems with more (`paired.difference`).
    """
    levels = [level(policies) for policies in seeds]
    collapsed = stacked([p.scores for policies in seeds for p in policies if p.way == COLLAPSED])
    reached = {
        name: stacked([at(p, name, entropy) for p, entropy in zip(seeds, levels, strict=True)])
        for name in WAYS
    }
    pairs = {name: (reached[name], collapsed) for name in WAYS}
    pairs["merge - scaling"] = (reached["merge"], reached["scaling"])
    rows = {
        name: {
            (place, metric): _difference(
                {suite: ours[metric][suite] for suite in suites},
                {suite: other[metric][suite] for suite in suites},
                resamples,
            )
            for place, suites in groups.items()
            for metric in ours
        }
        for name, (ours, other) in pairs.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


def _difference(
    ours: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], resamples: int
) -> Estimate:
    one = len(next(iter(ours.values()))) == 1
    return paired_difference(ours, other, resamples) if one else paired.difference(ours, other)
