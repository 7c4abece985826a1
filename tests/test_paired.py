"""Paired by seed: intervals that cover, exact tests, and what n seeds can see; by hand and by scipy.

`python tests/test_paired.py` simulates the coverage at length and prints the table of docs/lab-log.md.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from companion import paired, statistics

SEEDS = st.lists(st.floats(-20, 20).map(lambda x: round(x, 3)), min_size=2, max_size=10)
SPREAD = SEEDS.filter(lambda values: np.std(values) > 1e-3)
"""Differences of seeds, in points; all equal ones have no t."""


# --- The interval ---------------------------------------------------------------------------


def study(rng, seeds, sd, problems=150, effect=0.0, gain=6.0, draw=None):
    """Scores avg@8 of two arms: Bernoulli answers to problems that both share.

    In points: `sd` of the seeds' true differences, `effect` their mean, and `gain` the most that a
    problem's own differs from that. No probability leaves [0, 1], so that the truth is `effect`.
    """
    draw = draw or (lambda n: rng.normal(0, sd, n))
    hard = rng.uniform(0.2, 0.8, (1, problems))
    own = rng.uniform(-gain, gain, (1, problems)) / 100
    chance = hard + (effect + draw(seeds)[:, None]) / 100 + own
    assert ((chance >= 0) & (chance <= 1)).all()
    return [{"s": rng.binomial(8, p) / 8} for p in (chance, np.repeat(hard, seeds, axis=0))]


def coverage(interval, effect, studies, seed=0, **settings):
    """The share of studies whose interval holds the truth, and the mean half-width in points."""
    rng = np.random.default_rng(seed)
    found = [interval(*study(rng, effect=effect, **settings)) for _ in range(studies)]
    holds = np.mean([one.low <= effect <= one.high for one in found])
    return holds, np.mean([one.high - one.low for one in found]) / 2


@pytest.mark.parametrize("seeds", [3, 8, 16])
@pytest.mark.parametrize("sd", [0, 2.5])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, sd):
    """0.95 ± 0.015 (two standard errors of 800 studies), or a little more (docs/lab-log.md)."""
    holds, _ = coverage(paired.difference, 2.0, 800, seeds=seeds, sd=sd)
    assert 0.93 <= holds <= 0.98


def test_the_percentiles_of_three_resampled_seeds_do_not():
    """Where little noise within seeds, counted three times, makes up for it."""

    def naive(*sides):
        return statistics.paired_difference(*sides, resamples=300)

    settings = {"studies": 200, "seeds": 3, "sd": 3.0, "problems": 750}
    assert coverage(naive, 2.0, **settings)[0] < 0.9
    assert coverage(paired.difference, 2.0, **settings)[0] > 0.93


def test_the_interval_by_hand():
    """Two seeds, two problems: differences 4 and 0 points, then 10 and 2; seeds' means 2 and 6."""
    ours = {"s": np.array([[0.54, 0.5], [0.6, 0.52]])}
    found = paired.difference(ours, {"s": np.full((2, 2), 0.5)})
    # Seeds: S² = 8, / 2. Problems' means 7 and 1: S² = 18, / 2. Rest ± 1: 4 / 1, / 4.
    half = stats.t.ppf(0.975, 1) * math.sqrt(8 / 2 + (18 / 2 - 4 / 4))
    assert found.value == pytest.approx(4)
    assert found.high - 4 == pytest.approx(half) == pytest.approx(4 - found.low)
    assert paired.by_seed(ours, {"s": np.full((2, 2), 0.5)}) == pytest.approx([2, 6])


def test_a_suite_counts_as_much_as_another_whatever_its_size():
    rng = np.random.default_rng(0)
    ours = {"large": np.full((3, 90), 0.6), "small": np.full((3, 10), 0.8)}
    found = paired.difference(ours, {k: np.full(v.shape, 0.5) for k, v in ours.items()})
    assert found.value == pytest.approx(20)
    scores = [{k: rng.random((4, 20)) for k in "ab"} for _ in range(2)]
    both = [{"s": (side["a"] + side["b"]) / 2} for side in scores]  # a mean of suites, seed by seed
    assert paired.by_seed(*scores) == pytest.approx(paired.by_seed(*both))
    assert paired.difference(*scores).value == pytest.approx(paired.difference(*both).value)


def test_where_only_seeds_differ_it_is_the_paired_t_interval():
    """And never narrower, whatever problems add."""
    each = np.array([0.03, -0.01, 0.02, 0.05])
    ours = {"s": np.repeat(0.5 + each[:, None], 30, axis=1)}
    found = paired.difference(ours, {"s": np.full((4, 30), 0.5)})
    t = stats.ttest_1samp(100 * each, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((t.low, t.high))
    rng = np.random.default_rng(1)
    for _ in range(20):
        sides = study(rng, 3, 1.0, problems=20)
        t = stats.ttest_1samp(paired.by_seed(*sides), 0).confidence_interval(0.95)
        found = paired.difference(*sides)
        assert found.low <= t.low + 1e-9 and found.high >= t.high - 1e-9


def test_its_parts_are_what_resampling_gives_without_end():
    """Of seeds alone, and of problems alone; (n - 1) / n of each is what a bootstrap keeps."""
    rng = np.random.default_rng(2)
    ours, other = study(rng, 4, 2.5, problems=12)
    values = 100 * (ours["s"] - other["s"])
    by_seed = [rng.choice(values.mean(1), 4).mean() for _ in range(20000)]
    assert np.var(by_seed) == pytest.approx(3 / 4 * values.mean(1).var(ddof=1) / 4, rel=0.05)
    by_problem = [rng.choice(values.mean(0), 12).mean() for _ in range(20000)]
    found = paired._of_problems(values)
    assert np.var(by_problem) == pytest.approx(11 / 12 * found, rel=0.05)
    rest = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    assert paired._noise(values) == pytest.approx((rest**2).sum() / (3 * 11) / (4 * 12))


def test_seeds_that_happen_to_agree_are_not_certain():
    """Each wins one problem, another one: means are equal, and nobody knows to a digit."""
    ours, other = np.zeros((2, 10)), np.zeros((2, 10))
    ours[0, 3] = ours[1, 7] = 1
    found = paired.difference({"s": ours}, {"s": other})
    assert found.value == 10 and found.high - found.low > 10
    same = paired.difference({"s": np.ones((2, 10))}, {"s": np.zeros((2, 10))})
    assert same.low == same.high == 100  # each problem alike on each seed: there is no noise


@given(st.integers(0, 1000), st.integers(2, 5), st.integers(2, 6))
def test_exchanged_sides_give_the_interval_of_the_other_sign(seed, seeds, problems):
    rng = np.random.default_rng(seed)
    ours, other = ({s: rng.random((seeds, problems)) for s in "ab"} for _ in range(2))
    one, back = paired.difference(ours, other), paired.difference(other, ours)
    assert (one.value, one.low, one.high) == pytest.approx((-back.value, -back.high, -back.low))


HALF = np.full((2, 3), 0.5)


@pytest.mark.parametrize(
    ("ours", "other", "sentence"),
    [
        ({"a": HALF}, {"b": HALF}, "evaluate both on the same suites"),
        ({"a": HALF}, {"a": HALF[:, :2]}, r"\(2, 3\)} and {'a': \(2, 2\)}; evaluate both on the same"),
        ({}, {}, "scores hold no suite; evaluate"),
        ({"a": HALF[:1]}, {"a": HALF[:1]}, r"'a' have the shape \(1, 3\) .* train another seed"),
        ({"a": HALF[:, :1]}, {"a": HALF[:, :1]}, r"shape \(2, 1\) and must have at least 2 seeds and 2"),
        ({"a": HALF[0]}, {"a": HALF[0]}, r"shape \(3,\) and must have"),
        ({"a": HALF, "b": np.full((3, 3), 0.5)},) * 2 + (r"suites have \[2, 3\] seeds; evaluate every",),
        ({"a": 3 * HALF}, {"a": HALF}, r"a score of 'a' is 1.5 and must be in \[0, 1\]; give avg@k"),
        ({"a": HALF}, {"a": HALF * math.nan}, r"a score of 'a' is nan and must be"),
    ],
)  # fmt: skip
def test_scores_without_an_interval_are_one_sentence(ours, other, sentence):
    for call in (paired.difference, paired.by_seed):
        with pytest.raises(ValueError, match=sentence) as error:
            call(ours, other)
        assert "\n" not in str(error.value)


# --- Tests over seeds -----------------------------------------------------------------------


def test_sign_flips_by_hand():
    assert paired.sign_flip([1, 2, 3]) == 2 / 8  # all of one sign: the most extreme two
    assert paired.sign_flip([-1, 2, 3]) == 4 / 8  # |sum| 4 or more: ± (1 2 3) and ± (-1 2 3)
    assert paired.sign_flip([1, -1]) == 1  # every flip is as far from 0, ties counted
    assert paired.sign_flip([0, 0, 0]) == 1
    assert paired.sign_flip([5.0]) == 1
    assert paired.sign_flip([0.1, 0.2, 0.3]) == 2 / 8  # sums that rounding would tell apart
    assert paired.sign_flip([0.1, 0.2, -0.3]) == 1
    assert paired.sign_flip(np.ones(20)) == 2 / 2**20


@given(SEEDS)
def test_sign_flips_are_scipys_permutation_test_and_symmetric(values):
    # scipy flips the signs of one sample: its mean, against 0.
    exact = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=2**10
    )
    assert paired.sign_flip(values) == pytest.approx(min(1, exact.pvalue))
    assert paired.sign_flip([-x for x in values]) == paired.sign_flip(values[::-1])
    assert paired.sign_flip(values) >= 2 / 2 ** len(values)


@given(SPREAD, st.floats(0.1, 10))
def test_equivalence_is_two_one_sided_t_tests(values, margin):
    found = paired.equivalent(values, margin)
    above = stats.ttest_rel(values, np.full(len(values), -margin), alternative="greater").pvalue
    below = stats.ttest_rel(values, np.full(len(values), margin), alternative="less").pvalue
    assert found.p_value == pytest.approx(max(above, below), abs=1e-9)
    t = stats.ttest_1samp(values, 0).confidence_interval(0.90)
    assert (found.interval.low, found.interval.high) == pytest.approx((t.low, t.high), abs=1e-9)


@given(SPREAD, st.floats(0.1, 10), st.floats(0.01, 5))
def test_a_wider_margin_is_met_more_easily_and_signs_do_not_matter(values, margin, more):
    found = paired.equivalent(values, margin)
    assert paired.equivalent(values, margin + more).p_value < found.p_value
    assert paired.equivalent([-x for x in values], margin).p_value == pytest.approx(found.p_value)
    assume(abs(found.p_value - 0.05) > 1e-6)
    inside = -margin < found.interval.low and found.interval.high < margin
    assert (found.p_value < 0.05) == inside


def test_equivalence_without_spread_is_its_limit():
    p = [paired.equivalent([x, x, x], 2.0).p_value for x in (0, 1.5, 2.0, -3)]
    assert p == [0, 0, 0.5, 1]
    assert paired.equivalent([1, 1], 2.0).interval == statistics.Estimate(1, 1, 1)


def test_holm_by_hand():
    """Times 4, 3, 2, 1; 0.03 x 2 = 0.06 and 0.04 x 1 is raised to it."""
    found = paired.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(found) == ["a", "b", "c", "d"] and paired.holm({}) == {}
    assert paired.holm({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_is_its_stepping_down_and_never_less_than_what_it_was_given(values, alpha):
    names = dict(enumerate(values))
    found = paired.holm({str(k): p for k, p in names.items()})
    assert all(found[str(k)] >= p for k, p in names.items())
    order = sorted(names, key=names.get)
    for low, high in itertools.pairwise(order):
        assert found[str(low)] <= found[str(high)]
    assume(all(abs(p - alpha) > 1e-9 for p in found.values()))
    rejected = set()
    for rank, k in enumerate(order):  # as Holm wrote it: until one is not rejected
        if (len(order) - rank) * values[k] >= alpha:
            break
        rejected.add(str(k))
    assert rejected == {k for k, p in found.items() if p < alpha}


# --- What n seeds can see -------------------------------------------------------------------


def test_the_smallest_detectable_effect_has_its_power_by_simulation():
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 8):
        effect = paired.smallest_detectable(2.5, seeds)
        p = stats.ttest_1samp(rng.normal(effect, 2.5, (20000, seeds)), 0, axis=1).pvalue
        assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.012)


def test_the_smallest_detectable_effect_by_the_book():
    """d = 0.5 of a paired test needs 34 pairs for a power of 0.8 (Cohen 1988; G*Power)."""
    assert paired.smallest_detectable(1, 33) > 0.5 > paired.smallest_detectable(1, 34)
    # Many seeds: the normal quantiles' sum.
    large = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / math.sqrt(10**6)
    assert paired.smallest_detectable(1, 10**6) == pytest.approx(large, rel=1e-4)
    assert paired.smallest_detectable(0, 3) == 0


@given(st.floats(0.1, 10), st.integers(2, 40), st.floats(0.3, 0.95))
def test_more_seeds_see_smaller_effects_and_more_power_needs_larger_ones(sd, seeds, power):
    effect = paired.smallest_detectable(sd, seeds, power)
    assert paired.smallest_detectable(sd, seeds + 1, power) < effect
    assert paired.smallest_detectable(sd, seeds, power + 0.04) > effect
    assert paired.smallest_detectable(2 * sd, seeds, power) == pytest.approx(2 * effect)


def test_seeds_needed_by_hand():
    """t of 12 degrees of freedom is 2.179, and 2.179 x 2.5 / sqrt(13) = 1.511; of 13: 1.443."""
    assert paired.seeds_needed(2.5, 1.5) == 14
    assert paired.seeds_needed(2.5, 1.52) == 13
    assert paired.seeds_needed(0, 0.1) == 2


@given(st.floats(0.1, 5), st.floats(0.2, 5))
def test_seeds_needed_is_the_least_number(sd, half_width):
    n = paired.seeds_needed(sd, half_width)

    def reached(seeds):
        return stats.t.ppf(0.975, seeds - 1) * sd / math.sqrt(seeds) <= half_width

    assert reached(n) and (n == 2 or not reached(n - 1))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: paired.sign_flip([]), r"differences has the shape \(0,\) .* at least 1, one a seed"),
        (lambda: paired.sign_flip(np.ones(21)), "21 entries and must have at most 20, .*; use scipy"),
        (lambda: paired.sign_flip([1, math.nan]), "a difference is nan and must be finite; evaluate"),
        (lambda: paired.equivalent([1.0], 2), r"shape \(1,\) and must be a list of at least 2.*train"),
        (lambda: paired.equivalent([[1, 2]], 2), r"shape \(1, 2\) and must be a list"),
        (lambda: paired.equivalent([1, math.inf], 2), "a difference is inf"),
        (lambda: paired.equivalent([1, 2], 0), "margin is 0 and must be a positive number; give the"),
        (lambda: paired.equivalent([1, 2], math.nan), "margin is nan and must be"),
        (lambda: paired.holm({"RR": 1.2}), r"the p-value of 'RR' is 1.2 and must be in \[0, 1\]; test"),
        (lambda: paired.holm({"RR": math.nan}), "the p-value of 'RR' is nan"),
        (lambda: paired.smallest_detectable(-1, 3), "sd is -1 and must be a finite number from 0; take"),
        (lambda: paired.smallest_detectable(1, 1), "seeds is 1 and must be a whole number from 2; tr"),
        (lambda: paired.smallest_detectable(1, True), "seeds is True and must be a whole number"),
        (lambda: paired.smallest_detectable(1, 3, power=0.05), r"power is 0.05 .* alpha \(0.05\) and 1"),
        (lambda: paired.smallest_detectable(1, 3, alpha=0), "alpha is 0 and must lie between 0 and 1"),
        (lambda: paired.seeds_needed(math.nan, 1), "sd is nan and must be"),
        (lambda: paired.seeds_needed(1, 0), "half_width is 0 and must be a positive number; give the"),
        (lambda: paired.seeds_needed(1, 1, 1), "confidence is 1 and must lie between 0 and 1, such"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


# --- At length ------------------------------------------------------------------------------


def seeds_only(*sides):
    """The paired t interval of the seeds' means."""
    each = paired.by_seed(*sides)
    half = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / math.sqrt(len(each))
    return statistics.Estimate(each.mean(), each.mean() - half, each.mean() + half)


def table(studies=4000, naive=400):
    """Coverage and mean half-width (points) by spread of the seeds, and by their number."""
    rng = np.random.default_rng(1)

    def comes_or_goes(n):
        """Four in ten seeds +12 points, the others -8: sd 9.8."""
        return np.where(rng.random(n) < 0.4, 12.0, -8.0)

    kinds = {
        "no seed, no problem": {"sd": 0, "gain": 0.0},
        "problems alone": {"sd": 0},
        "seeds, sd 2.5": {"sd": 2.5},
        "seeds, sd 2.5; 750 problems": {"sd": 2.5, "problems": 750},
        "it comes or goes": {"sd": 0, "draw": comes_or_goes},
    }
    print("| what differs | seeds | resampled | t over seeds | ours |\n|---|---|---|---|---|")
    for name, settings in kinds.items():
        for seeds in (3, 8, 16):
            cells = [
                "{:.3f} (± {:.2f})".format(*coverage(made, 2.0, count, seeds=seeds, **settings))
                for made, count in (
                    (lambda *sides: statistics.paired_difference(*sides, resamples=500), naive),
                    (seeds_only, studies),
                    (paired.difference, studies),
                )
            ]
            print(f"| {name} | {seeds} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    table()


def test_over_seeds_is_the_t_interval_of_their_spread_or_one_seeds_own():
    each = [statistics.Estimate(value, -9, 9) for value in (1.0, 2.0, 3.0)]
    found = paired.over_seeds(each)
    expected = stats.t.interval(0.95, 2, loc=2, scale=stats.sem([1, 2, 3]))
    assert (found.value, found.low, found.high) == pytest.approx((2, *expected))
    assert paired.over_seeds([1.0, 2.0, 3.0]) == found
    assert paired.over_seeds(each[:1]) == each[0]
    assert paired.over_seeds([2.0]) == statistics.Estimate(2, 2, 2)
    cosine = paired.over_seeds([-0.99, -0.9, -0.6], -1, 1)  # t's own ends are -1.34 and -0.32
    assert cosine.low == -1 and cosine.high == pytest.approx(-0.323, abs=1e-3)
    with pytest.raises(ValueError, match="one a seed; train another seed"):
        paired.over_seeds([])
