"""What an arm gains over another, paired by training seed: intervals, tests, and what n seeds can see.

A training seed is the unit: problems and samples tell how well one training run is measured, and
never how the next would differ. Knows nothing of runs, arms or policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import optimize, stats

from companion.statistics import Estimate

Scores: TypeAlias = Mapping[str, np.ndarray]
"""By suite, scores in [0, 1] of shape [seeds, problems]."""
MOST_SEEDS = 20
"""Whose 2^n signs are all tried: a million."""


def by_seed(ours: Scores, other: Scores) -> np.ndarray:
    """Macro-average over suites of `ours - other` in points, of each seed. -> [seeds]

    Raises:
        ValueError: as `difference`.
    """
    return _means(_differences(ours, other))


def difference(ours: Scores, other: Scores) -> Estimate:
    """Macro-average over suites of `ours - other` in points, with its 95% interval.

    Seeds and, within each suite, problems are both samples, and all seeds share the problems. Of a
    mean over such crossed samples no bootstrap has the right variance (McCullagh 2000): resampling
    both (`statistics.paired_difference`; the pigeonhole bootstrap, Owen 2007) keeps (n - 1) / n of
    what n seeds add, counts the noise within three times, and has a normal distribution's quantiles.
    But of a mean every part of it has a closed form, resampled without end and corrected:

        seeds     S² of the n seeds' means / n          the seeds' spread, and the noise
        problems  S² of the m problems' means / m       the problems' spread, and the noise
        noise     S² of what neither explains / (n m)

    each S² divided by its degrees of freedom. seeds + (problems - noise) is the unbiased variance of
    the mean (two-way analysis of variance; of clusters, Cameron, Gelbach and Miller 2011). seeds has
    t's quantile of n - 1 degrees of freedom and problems - noise that of m - 1; the half-width is the
    root of the sum of the squares of both parts' own (Howe 1974; Zou and Donner 2008). A part below
    0 is none, so that the interval is never narrower than that of a paired t test over seeds; and
    seeds that happen to agree to the last answer are as far apart as the noise alone puts them.
    Simulated it covers 0.95 to 0.96, but for three seeds of a gain that comes or goes (docs/lab-log.md).

    Nothing is drawn: the same digits twice. One seed has no interval.

    Raises:
        ValueError: the two sides differ in suites, seeds or problems; a suite has fewer than two of
            either; suites have different seeds; a score is not in [0, 1].
    """
    differences = _differences(ours, other)
    each, suites = _means(differences), list(differences.values())
    noise = sum(map(_noise, suites)) / len(suites) ** 2
    of_problems = sum(map(_of_problems, suites)) / len(suites) ** 2 - noise
    of_seeds = each.var(ddof=1) / len(each) or noise
    problems = min(values.shape[1] for values in suites)
    half = math.hypot(
        _quantile(len(each) - 1) * math.sqrt(of_seeds),
        _quantile(problems - 1) * math.sqrt(max(of_problems, 0)),
    )
    return _around(each.mean(), half)


def _differences(ours: Scores, other: Scores) -> dict[str, np.ndarray]:
    """`ours - other` by suite in points, [seeds, problems]; ValueError for what has no interval."""
    sides = [
        {suite: np.asarray(side[suite], dtype=float) for suite in side} for side in (ours, other)
    ]
    shapes, others = ({suite: values.shape for suite, values in side.items()} for side in sides)
    if shapes != others:
        raise ValueError(
            f"the two sides are {shapes} and {others}; evaluate both on the same suites, seeds and "
            "problems"
        )
    if not shapes:
        raise ValueError("scores hold no suite; evaluate both sides first")
    for suite, shape in shapes.items():
        if len(shape) != 2 or min(shape) < 2:
            raise ValueError(
                f"scores of '{suite}' have the shape {shape} and must have at least 2 seeds and 2 "
                "problems; train another seed, or use statistics.paired_difference for one"
            )
    if len(seeds := {shape[0] for shape in shapes.values()}) > 1:
        raise ValueError(f"suites have {sorted(seeds)} seeds; evaluate every suite on all seeds")
    for side in sides:
        for suite, values in side.items():
            outside = values[~((values >= 0) & (values <= 1))]  # NaN is neither
            if outside.size:
                raise ValueError(
                    f"a score of '{suite}' is {outside[0]} and must be in [0, 1]; give avg@k or "
                    "pass@k of each problem"
                )
    return {suite: 100 * (sides[0][suite] - sides[1][suite]) for suite in shapes}


def _means(differences: Mapping[str, np.ndarray]) -> np.ndarray:
    """Macro-average over suites of each seed. -> [seeds]"""
    means: np.ndarray = np.mean([values.mean(axis=1) for values in differences.values()], axis=0)
    return means


def _of_problems(values: np.ndarray) -> float:
    """What the problems' spread, noise included, adds to the variance of the mean of `values` [n, m]."""
    return float(values.mean(axis=0).var(ddof=1) / values.shape[1])


def _noise(values: np.ndarray) -> float:
    """What the noise of each seed on each problem adds to that of `values` [n, m]."""
    n, m = values.shape
    seeds, problems = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    rest = values - seeds - problems + values.mean()
    return float((rest**2).sum() / ((n - 1) * (m - 1)) / (n * m))


def _quantile(freedom: int, confidence: float = 0.95) -> float:
    """Of t: how many standard errors an interval reaches from its middle."""
    return float(stats.t.ppf((1 + confidence) / 2, freedom))


def _around(middle: float, half: float) -> Estimate:
    return Estimate(float(middle), float(middle - half), float(middle + half))


def over_seeds(
    each: Sequence[Estimate] | Sequence[float], least: float = -math.inf, most: float = math.inf
) -> Estimate:
    """The mean of one measurement a seed, with the 95% t interval of their spread.

    It ends at `least` and `most`, the bounds of what is measured (a cosine's -1 and 1), which t knows
    nothing of.

    What a seed's own interval covers is part of that spread. Of a single seed, whose spread nobody
    knows, it is that seed's own interval, or for a bare number none: both ends are its value.

    Raises:
        ValueError: there is no seed.
    """
    values = _checked([one.value if isinstance(one, Estimate) else one for one in each], least=1)
    if len(each) == 1:
        return each[0] if isinstance(each[0], Estimate) else _around(each[0], 0)
    error = values.std(ddof=1) / math.sqrt(len(values))
    found = _around(values.mean(), _quantile(len(values) - 1) * error)
    return Estimate(found.value, max(found.low, least), min(found.high, most))


# --- Tests over the seeds' differences ------------------------------------------------------


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """p-value of the exact two-sided paired sign-flip test: how often is a mean so far from 0?

    Were the arms alike, each seed's difference [n] might as well have the other sign (Fisher 1935,
    §21): of all 2^n signs, the share whose mean is at least as far from 0, ties included. No
    distribution is assumed; n seeds give no less than 2 / 2^n, so that 5 never reach 0.05.

    Raises:
        ValueError: fewer than 1 or more than MOST_SEEDS differences, or one that is not finite.
    """
    values = _checked(differences, least=1)
    if len(values) > MOST_SEEDS:
        raise ValueError(
            f"differences has {len(values)} entries and must have at most {MOST_SEEDS}, whose signs "
            "can all be tried; use scipy.stats.permutation_test for more"
        )
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    rounding = 1e-12 * np.abs(values).sum()  # equal sums may be added up in another order
    return float(np.mean(np.abs(sums) >= abs(values.sum()) - rounding))


@dataclass(frozen=True)
class Equivalence:
    """Whether two arms differ by less than a margin."""

    p_value: float
    """Of the hypothesis that they differ by the margin or more: equivalent at 5% if below 0.05."""
    interval: Estimate
    """The mean difference and its 90% interval, within the margin exactly if p_value < 0.05."""


def equivalent(differences: Sequence[float] | np.ndarray, margin: float) -> Equivalence:
    """Two one-sided paired t tests that the mean of `differences` [seeds] is within ± `margin`.

    The larger of the two p-values (Schuirmann 1987). A large p-value says that the seeds do not
    tell, not that the arms differ. Without any spread the test is its limit: 0 inside, 1 outside.

    Args:
        margin: what would not matter, in the differences' unit; fixed before the data are seen.

    Raises:
        ValueError: fewer than 2 differences, one that is not finite, a margin that is not positive.
    """
    values = _checked(differences, least=2)
    _check_positive("margin", margin, "give the largest difference that would not matter")
    mean, freedom = float(values.mean()), len(values) - 1
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    nearest = (margin - abs(mean)) / max(error, 1e-300)
    interval = _around(mean, _quantile(freedom, 0.90) * error)
    return Equivalence(float(stats.t.sf(nearest, freedom)), interval)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values by name, in the given order: below alpha, an error among all has that chance.

    The k-th smallest of m is multiplied by m - k + 1, and none is less than a smaller one's (Holm
    1979): no assumption on how the tests depend on one another.

    Raises:
        ValueError: a p-value is not in [0, 1].
    """
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise ValueError(f"the p-value of '{name}' is {p} and must be in [0, 1]; test it again")
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


# --- What n seeds can see -------------------------------------------------------------------


def smallest_detectable(sd: float, seeds: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The mean difference that a two-sided paired t test finds with this power, in the unit of `sd`.

    By the noncentral t distribution (Cohen 1988, §2.5).

    Args:
        sd: standard deviation of the seeds' differences.
        seeds: pairs, at least 2.

    Raises:
        ValueError: fewer than 2 seeds, a negative sd, alpha or power not in (0, 1), or a power not
            above alpha, which no difference at all has already.
    """
    _check_spread(sd)
    if isinstance(seeds, bool) or not isinstance(seeds, int | np.integer) or seeds < 2:
        raise ValueError(
            f"seeds is {seeds!r} and must be a whole number from 2; train another seed"
        )
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha} and must lie between 0 and 1, for example 0.05")
    if not alpha < power < 1:
        raise ValueError(
            f"power is {power} and must lie between alpha ({alpha}) and 1, such as 0.8"
        )
    freedom = seeds - 1
    beyond = stats.t.isf(alpha / 2, freedom)

    def shortfall(shift: float) -> float:
        """`shift`: the mean in standard errors."""
        # The far side by symmetry: its own tail is NaN in scipy where nothing is left of it.
        found = [stats.nct.sf(beyond, freedom, sign * shift) for sign in (1, -1)]
        return float(sum(found)) - power

    high = 1.0
    while shortfall(high) < 0:
        high *= 2
    return float(optimize.brentq(shortfall, 0, high)) * sd / math.sqrt(seeds)


def seeds_needed(sd: float, half_width: float, confidence: float = 0.95) -> int:
    """The least number of seeds whose t interval reaches no further than `half_width` from its mean.

    With the spread `sd` of the seeds' differences taken as known, in the unit of `half_width`; the
    spread that those seeds will have may be larger.

    Raises:
        ValueError: a negative sd, a half_width that is not positive, confidence not in (0, 1).
    """
    _check_spread(sd)
    _check_positive("half_width", half_width, "give the precision that is asked for")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence} and must lie between 0 and 1, such as 0.95")
    normal = float(stats.norm.ppf((1 + confidence) / 2))
    seeds = max(2, math.ceil((normal * sd / half_width) ** 2))  # t's is wider
    while _quantile(seeds - 1, confidence) * sd / math.sqrt(seeds) > half_width:
        seeds += 1
    return seeds


def _checked(differences: Sequence[float] | np.ndarray, least: int) -> np.ndarray:
    """[seeds]; ValueError for too few, or what is no number."""
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or len(values) < least:
        raise ValueError(
            f"differences has the shape {values.shape} and must be a list of at least {least}, one a "
            "seed; train another seed"
        )
    if not np.isfinite(values).all():
        wrong = values[~np.isfinite(values)][0]
        raise ValueError(f"a difference is {wrong} and must be finite; evaluate that seed again")
    return values


def _check_spread(sd: float) -> None:
    if not 0 <= sd < math.inf:
        raise ValueError(
            f"sd is {sd} and must be a finite number from 0; take it from a pilot's differences"
        )


def _check_positive(name: str, value: float, remedy: str) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value} and must be a positive number; {remedy}")
