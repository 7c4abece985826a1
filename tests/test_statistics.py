"""avg@k, pass@k and intervals against hand-computed values."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from companion import statistics
from companion.statistics import largest_jump


def test_an_interval_that_leaves_0_out_reads_so():
    assert f"{statistics.Estimate(0.8812, 0.0452, 1.7173):+.1f}" == "+0.88 [+0.05, +1.72]"
    assert f"{statistics.Estimate(-0.27, -0.5, -0.0399):+.1f}" == "-0.27 [-0.50, -0.04]"
    assert f"{statistics.Estimate(0.54, -0.044, 1.13):+.1f}" == "+0.5 [-0.0, +1.1]"  # holds it
    assert f"{statistics.Estimate(12.5, 8.1, 16.9)}" == "12.5 [8.1, 16.9]"
    assert f"{statistics.Estimate(3, 0.2, 9):.0f}" == "3.0 [0.2, 9.0]"


CORRECT = np.array([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])


def test_avg_and_pass_at_k_by_hand():
    assert statistics.avg_at_k(CORRECT).tolist() == [0.25, 1.0, 0.0]
    assert statistics.pass_at_k(CORRECT, 4).tolist() == [1.0, 1.0, 0.0]
    assert statistics.pass_at_k(CORRECT, 1).tolist() == [0.25, 1.0, 0.0]
    assert statistics.pass_at_k(CORRECT, 2).tolist() == [0.5, 1.0, 0.0]


@given(st.integers(0, 2**7 - 1), st.integers(1, 7))
def test_pass_at_k_is_its_definition(bits, k):
    """The share of all subsets of k of a problem's samples in which one is right."""
    correct = [bool(bits >> i & 1) for i in range(7)]
    subsets = list(itertools.combinations(correct, k))
    expected = sum(map(any, subsets)) / len(subsets)
    assert statistics.pass_at_k(np.array(correct), k) == pytest.approx(expected, abs=1e-15)


def test_pass_at_64_is_unbiased_and_keeps_its_digits():
    """Over draws of 128 samples its mean is 1 - (1 - p)^64, which plugging in c/n misses."""
    p = 0.01
    drawn = np.random.default_rng(0).random((20000, 128)) < p
    exact = 1 - (1 - p) ** 64
    found = statistics.pass_at_k(drawn, 64)
    assert found.mean() == pytest.approx(exact, abs=4 * found.std() / np.sqrt(len(found)))
    assert abs((1 - (1 - drawn.mean(-1)) ** 64).mean() - exact) > 0.02
    one = np.arange(128) < 1
    assert statistics.pass_at_k(one, 64) == 0.5  # 1 - C(127, 64) / C(128, 64)
    assert statistics.pass_at_k(~one, 64) == 1.0


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_of_more_than_was_sampled_is_one_sentence(k):
    with pytest.raises(ValueError, match=f"k is {k} and must be from 1 to the 4 samples"):
        statistics.pass_at_k(CORRECT, k)


def test_macro_average_weighs_suites_not_problems():
    scores = {"easy": np.ones((1, 99)), "hard": np.zeros((1, 1))}
    assert statistics.macro_average(scores).value == 50.0


def test_interval_resamples_problems_not_samples():
    """rliable issue 20: over samples the interval of half right, half wrong problems is too narrow."""
    scores = {"suite": np.repeat([[0.0, 1.0]], 50, axis=1)}  # 100 problems
    estimate = statistics.macro_average(scores, resamples=4000)
    width = 100 * 2 * 1.96 * 0.5 / np.sqrt(100)
    assert estimate.high - estimate.low == pytest.approx(width, rel=0.08)


def test_spread_between_seeds_widens_the_interval():
    rng = np.random.default_rng(0)
    one = (rng.random((1, 400)) < 0.5).astype(float)
    agreeing = statistics.macro_average({"s": np.repeat(one, 3, axis=0)})
    differing = statistics.macro_average({"s": np.concatenate([one, one * 0, one])})
    assert differing.high - differing.low > 2 * (agreeing.high - agreeing.low)


def test_pairing_removes_the_spread_of_problems():
    rng = np.random.default_rng(1)
    scores = {"suite": rng.random((1, 50))}
    shifted = {"suite": scores["suite"] + 0.1}
    difference = statistics.paired_difference(shifted, scores)
    assert difference.low == pytest.approx(10) and difference.high == pytest.approx(10)


def test_ratio_of_sums_is_token_weighted():
    estimate = statistics.ratio_of_sums(np.array([1.0, 9.0]), np.array([1.0, 3.0]))
    assert estimate.value == 2.5  # not the mean of 1 and 3


@given(
    npst.arrays(float, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=st.floats(0, 1))
)
def test_estimate_lies_within_the_range_of_its_scores(values):
    estimate = statistics.macro_average({"s": values}, resamples=50)
    slack = 1e-9
    assert 100 * values.min() - slack <= estimate.low <= estimate.high <= 100 * values.max() + slack


@pytest.mark.parametrize("scores", [{}, {"suite": np.empty((1, 0))}])
def test_nothing_to_average_is_refused(scores):
    with pytest.raises(ValueError, match="evaluate first"):
        statistics.macro_average(scores)


def test_unequal_sides_are_refused():
    with pytest.raises(ValueError, match="differ in suites or problems"):
        statistics.paired_difference({"a": np.ones((1, 2))}, {"a": np.ones((1, 3))})


def test_a_jump_is_found_where_it_is_and_measured_beyond_the_trend():
    smooth = 0.07 + 0.001 * np.arange(20)
    jump = largest_jump(smooth + 0.02 * (np.arange(20) >= 12))
    assert jump.step == 12 and jump.p_value < 0.001
    assert jump.size == pytest.approx(0.02, rel=1e-6)
    # A plateau in the middle of the way, however odd, is none.
    assert largest_jump(smooth - 0.02 * (np.arange(20) >= 12)).p_value > 0.05


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 5))
def test_faster_and_slower_growth_is_no_jump(slope, curve, size):
    at = np.linspace(0, 1, 15)
    smooth = size * (slope * at + curve * at**2 + at**3)  # its steps are a parabola
    assert largest_jump(smooth).p_value == 1


def test_noise_alone_is_called_a_jump_as_often_as_the_level_says():
    rng = np.random.default_rng(0)
    paths = np.cumsum(rng.normal(1, 0.3, (200, 16)), axis=1)
    found = np.mean([largest_jump(path, draws=500).p_value < 0.05 for path in paths])
    assert 0.01 < found < 0.1


def test_a_path_too_short_for_a_jump_is_one_sentence():
    with pytest.raises(ValueError, match="values has 7 entries and must hold at least 8"):
        largest_jump(np.arange(7))
