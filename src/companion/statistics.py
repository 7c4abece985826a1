"""avg@k, pass@k and their intervals, by resampling seeds and problems (never single samples)."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval in its own unit; a bootstrap's unless its maker says otherwise."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """With a digit more where an end would read as 0 that is not: "+0.88 [+0.05, +1.72]"."""
        spec = spec or ".1f"
        if self.low * self.high > 0 and 0 in (
            float(f"{end:{spec}}") for end in (self.low, self.high)
        ):
            spec = re.sub(r"\.(\d+)f$", lambda digits: f".{int(digits[1]) + 1}f", spec)
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def avg_at_k(correct: np.ndarray) -> np.ndarray:
    """Mean accuracy of each problem over its samples. [..., k] -> [...], in [0, 1]."""
    shares: np.ndarray = np.asarray(correct, dtype=float).mean(axis=-1)
    return shares


def pass_at_k(correct: np.ndarray, k: int) -> np.ndarray:
    """How likely one of k of a problem's n samples is right. [..., n] -> [...], in [0, 1].

    The unbiased estimator 1 - C(n - c, k) / C(n, k) with c right samples (Chen et al. 2021,
    Eq. 1), by exact integers; with k = n the share of problems that any sample solves.

    Raises:
        ValueError: k is not from 1 to n.
    """
    right = np.asarray(correct, dtype=bool)
    n = right.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"k is {k} and must be from 1 to the {n} samples of a problem")
    chance = [1 - math.comb(n - c, k) / math.comb(n, k) for c in range(n + 1)]
    found: np.ndarray = np.array(chance)[right.sum(axis=-1)]
    return found


def macro_average(
    scores: Mapping[str, np.ndarray], resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Mean over suites of each suite's mean score, in percent.

    Training seeds and, within each suite, problems are resampled independently: both are
    samples, and all seeds share the problems. The suites are fixed (stratified bootstrap, as in
    rliable, Agarwal et al. 2021). With one seed the interval covers problems alone,
    and with a few it understates what seeds add: the mean of three, resampled, keeps 2/3 of their
    variance and never leaves their range.

    Args:
        scores: for each suite, scores in [0, 1] of shape [seeds, problems].

    Raises:
        ValueError: no suite, a suite without problems, or suites with different seeds.
    """
    arrays = {suite: np.atleast_2d(values) for suite, values in scores.items()}
    if not arrays or any(values.size == 0 for values in arrays.values()):
        raise ValueError(f"scores of {list(scores) or 'no suite'} hold no problem; evaluate first")
    seeds = {values.shape[0] for values in arrays.values()}
    if len(seeds) > 1:
        raise ValueError(f"suites have {sorted(seeds)} seeds; evaluate every suite on all seeds")
    counts = seeds.pop(), *(values.shape[1] for values in arrays.values())
    seed_weights, *weights = _resampling_weights(counts, resamples, seed)
    means = [
        np.einsum("rs,sp,rp->r", seed_weights, values, of_problems, optimize=True)
        for values, of_problems in zip(arrays.values(), weights, strict=True)
    ]
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    value = np.mean([values.mean() for values in arrays.values()])
    return Estimate(100 * float(value), 100 * float(low), 100 * float(high))


@functools.lru_cache(maxsize=8)
def _resampling_weights(
    counts: tuple[int, ...], resamples: int, seed: int
) -> tuple[np.ndarray, ...]:
    """Of each sample of so many the weights [resamples, count] of bootstrap resamples, each row summing
    to 1. Every cell of a table is resampled alike."""
    rng = np.random.default_rng(seed)
    return tuple(
        rng.multinomial(count, np.full(count, 1 / count), size=resamples) / count
        for count in counts
    )


def paired_difference(
    ours: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Macro-average of `ours - other`, in percentage points; both [seeds, problems] a suite.

    The same resampled seeds and problems enter both sides, which removes their own spread.

    Raises:
        ValueError: the two sides differ in suites, seeds or problems.
    """
    if {k: np.shape(v) for k, v in ours.items()} != {k: np.shape(v) for k, v in other.items()}:
        raise ValueError("the two sides differ in suites or problems; evaluate both on one set")
    differences = {suite: np.asarray(ours[suite]) - np.asarray(other[suite]) for suite in ours}
    return macro_average(differences, resamples, seed)


@dataclass(frozen=True)
class Jump:
    """The one step of a path that rises most beyond what its neighbours explain."""

    step: int
    """The index of the value after the jump."""
    size: float
    """How much larger this step is than the trend of all steps says, in the values' unit."""
    p_value: float
    """How often Gaussian noise about such a trend gives a step this odd somewhere."""


def largest_jump(values: np.ndarray, draws: int = 4000, seed: int = 0) -> Jump:
    """Tests whether a path [n] jumps up within a step, or only grows faster and slower.

    The steps between neighbouring values are fitted by a parabola (growth may speed up or slow
    down smoothly) and the step with the largest studentised residual is the candidate: a step that
    falls behind the others is no jump. Its null distribution, over all places, depends on n alone
    and is simulated.

    Raises:
        ValueError: fewer than 8 values, or one that is not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 8 or not np.isfinite(values).all():
        raise ValueError(f"values has {values.size} entries and must hold at least 8 finite ones")
    steps = np.diff(values)
    at = np.linspace(-1, 1, len(steps))
    basis, _ = np.linalg.qr(np.stack([np.ones_like(at), at, at**2], axis=1))
    rest = np.eye(len(steps)) - basis @ basis.T  # projects on what a parabola leaves
    leverage = np.diag(rest)
    noise = rest @ np.random.default_rng(seed).standard_normal((len(steps), draws))
    residual = rest @ steps
    oddness = residual / np.sqrt(leverage)
    null = (noise / np.sqrt(leverage)[:, None]).max(0) / np.linalg.norm(noise, axis=0)
    k = int(oddness.argmax())
    scale = float(np.linalg.norm(residual))
    observed = oddness[k] / scale if scale > 1e-12 * len(steps) ** 0.5 * np.ptp(values) else 0.0
    exceeded = int((null >= observed).sum())
    return Jump(k + 1, float(residual[k] / leverage[k]), (1 + exceeded) / (1 + draws))


def ratio_of_sums(
    numerator: np.ndarray, denominator: np.ndarray, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """sum(numerator) / sum(denominator), resampling pairs (token-weighted means over prompts)."""
    return of_draws(ratios(numerator, denominator, resamples, seed))


def ratios(
    numerator: np.ndarray, denominator: np.ndarray, resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """sum(numerator) / sum(denominator), of all pairs and then of each resampling. [1 + resamples]

    As many pairs are always resampled alike, so that draws of two quantities may be paired.
    """
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(numerator), size=(resamples, len(numerator)))
    with np.errstate(invalid="ignore"):  # a resample in which the denominator is 0 says nothing
        drawn = numerator[rows].sum(axis=1) / denominator[rows].sum(axis=1)
    return np.concatenate([[numerator.sum() / denominator.sum()], drawn])


def of_draws(drawn: np.ndarray) -> Estimate:
    """A value with the 95% interval of its resamplings, which follow it."""
    low, high = np.nanpercentile(drawn[1:], [2.5, 97.5])
    return Estimate(float(drawn[0]), float(low), float(high))
