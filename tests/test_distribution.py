"""What reheating changes token by token, by hand and as properties."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from companion.analysis import distribution
from companion.analysis.distribution import compare


def logits(*rows):
    return torch.tensor(rows, dtype=torch.float64).log()


def test_by_hand():
    old, new = logits([0.5, 0.25, 0.125, 0.125]), logits([0.125, 0.25, 0.125, 0.5])
    two = compare(old, new, candidates=2)
    assert two["kl"].item() == pytest.approx(0.5 * math.log(4) - 0.125 * math.log(4))
    assert two["entropy_change"].item() == pytest.approx(0)
    assert two["overlap"].item() == 0.5  # {0, 1} and {3, 1}
    assert two["mass"].item() == pytest.approx(0.25 / 0.75)


def test_ties_at_the_edge_are_all_candidates_wherever_they_stand():
    old, new = logits([0.4, 0.2, 0.2, 0.2]), logits([0.4, 0.3, 0.2, 0.1])
    assert compare(old, old, 2)["overlap"].item() == 1
    assert compare(old, new, 2)["overlap"].item() == 0.5  # 2 of 4: three tie for second place
    assert compare(old, new, 2)["mass"].item() == pytest.approx(1)


def test_fewer_tokens_than_candidates():
    few = compare(logits([0.7, 0.2, 0.1]), logits([0.1, 0.2, 0.7]))
    assert few["overlap"].item() == 1 and few["mass"].item() == pytest.approx(1)


def test_masked_tokens_are_no_candidates_of_nan():
    z = torch.tensor([[1.0, 0.5, -math.inf]])
    same = compare(z, z)
    assert all(torch.isfinite(values).all() for values in same.values())
    assert same["kl"].item() == 0


@given(st.integers(2, 40), st.integers(0, 1000), st.floats(1.01, 3))
def test_a_softened_policy_keeps_its_candidates_and_gains_entropy(vocabulary, seed, tau):
    z = torch.randn(5, vocabulary, generator=torch.Generator().manual_seed(seed)).double()
    soft = compare(z, z / tau)
    assert (soft["overlap"] == 1).all() and torch.allclose(soft["mass"], torch.ones(5).double())
    assert (soft["entropy_change"] > 0).all() and (soft["kl"] > 0).all()


def test_a_few_positions_at_a_time_are_all_of_them(monkeypatch):
    old, new = torch.randn(2, 30, 50, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(distribution, "POSITIONS", 7)
    for name, values in distribution._compared(old, new).items():
        assert values.equal(distribution.compare(old, new)[name])


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"before has the shape \(1, 3\) and after \(1, 4\)"):
        compare(torch.zeros(1, 3), torch.zeros(1, 4))
