"""The formulas of Appendix B against autograd, and the properties that the paper rests on."""

from __future__ import annotations

import math
from itertools import pairwise

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import distillation, objective

KL = {
    "forward": (objective.forward_kl, objective.forward_kl_gradient),
    "reverse": (objective.reverse_kl, objective.reverse_kl_gradient),
}
TAUS = (1 / 1.2, 1.1, 1.2, 1.5)

logits = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 30)),
    elements=st.floats(-30, 30, allow_subnormal=False),
).map(torch.from_numpy)
taus = st.floats(0.3, 4).filter(lambda tau: abs(tau - 1) > 1e-2)
directions = st.sampled_from(("forward", "reverse"))


def textbook(z: torch.Tensor, tau: float, direction: str) -> torch.Tensor:
    """Eq. 8 and 13 word for word, KL of each row."""
    p, q = torch.softmax(z, -1), torch.softmax(z.detach() / tau, -1)
    above, below = (q, p) if direction == "forward" else (p, q)
    return torch.where(above > 0, above * (above / below).log(), 0.0).sum(-1)


def derivative(values, z: torch.Tensor) -> torch.Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(values(z).sum(), z)[0]


def rows(count: int, vocabulary: int, scale: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, vocabulary, generator=generator, dtype=torch.float64)


def sharp_row(entropy: float, vocabulary: int = 151_936) -> torch.Tensor:
    """One logit above a normal background, high enough for this entropy in nats."""
    z = rows(1, vocabulary, 1.0)
    low, high = 0.0, 100.0
    for _ in range(60):
        z[0, 0] = middle = (low + high) / 2
        low, high = (middle, high) if objective.entropy(z) > entropy else (low, middle)
    return z


@given(logits, taus, directions)
@settings(deadline=None)
def test_closed_forms_equal_autograd_of_the_textbook_formula(z, tau, direction):
    value, gradient = KL[direction]
    expected = textbook(z, tau, direction)
    slope = derivative(lambda x: textbook(x, tau, direction), z)
    kl, _ = distillation.self_distillation(z, tau, direction)

    torch.testing.assert_close(value(z, tau), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(kl, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradient(z, tau), slope, rtol=0, atol=1e-10)
    torch.testing.assert_close(derivative(lambda x: value(x, tau), z), slope, rtol=0, atol=1e-10)
    torch.testing.assert_close(
        derivative(lambda x: distillation.self_distillation(x, tau, direction)[0], z),
        slope,
        rtol=0,
        atol=1e-10,
    )


@given(logits)
@settings(deadline=None)
def test_entropy_and_its_gradient_equal_autograd(z):
    p = torch.softmax(z, -1)
    torch.testing.assert_close(
        objective.entropy(z), torch.special.entr(p).sum(-1), rtol=0, atol=1e-10
    )
    torch.testing.assert_close(
        objective.entropy_gradient(z), derivative(objective.entropy, z), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("direction", KL)
@pytest.mark.parametrize(("vocabulary", "scale"), [(150, 3.0), (151_936, 2.0), (151_936, 6.0)])
def test_float32_stays_within_a_millionth_of_float64(vocabulary, scale, direction):
    exact = rows(4, vocabulary, scale).float().double()
    for tau in TAUS:
        kl, _ = distillation.self_distillation(exact.float(), tau, direction)
        gradient = derivative(
            lambda x, tau=tau: distillation.self_distillation(x, tau, direction)[0], exact.float()
        )
        torch.testing.assert_close(kl.double(), textbook(exact, tau, direction), rtol=0, atol=1e-6)
        torch.testing.assert_close(
            gradient.double(), KL[direction][1](exact, tau), rtol=0, atol=1e-6
        )


@given(logits, taus)
@settings(deadline=None)
def test_reverse_gradient_is_entropy_ascent(z, tau):
    """Eq. 18 and 20: tau is only a scale."""
    p, h = torch.softmax(z, -1), objective.entropy(z)[:, None]
    eq18 = (1 - 1 / tau) * p * (torch.log_softmax(z, -1) + h)
    eq20 = -(1 - 1 / tau) * objective.entropy_gradient(z)
    torch.testing.assert_close(objective.reverse_kl_gradient(z, tau), eq18, rtol=0, atol=1e-10)
    torch.testing.assert_close(objective.reverse_kl_gradient(z, tau), eq20, rtol=0, atol=1e-10)


@given(logits, taus)
@settings(deadline=None)
def test_teacher_keeps_the_ranking_and_moves_mass_monotonically(z, tau):
    """Eq. 12: q/p falls with p for tau > 1, rises for tau < 1."""
    log_p, log_q = objective.log_probs(z), objective.log_probs(z, tau)
    order = z.argsort(-1)
    ranked_q = log_q.gather(-1, order)
    ranked_ratio = (log_q - log_p).gather(-1, order)
    step = ranked_ratio.diff(dim=-1) * (-1 if tau > 1 else 1)

    assert (ranked_q.diff(dim=-1) >= 0).all()
    assert (step >= -1e-12).all()
    eq12 = (1 / tau - 1) * log_p - (log_p / tau).logsumexp(-1, keepdim=True)
    torch.testing.assert_close(log_q - log_p, eq12, rtol=0, atol=1e-10)


@given(logits, taus, directions, st.floats(-50, 50))
@settings(deadline=None)
def test_shifting_the_logits_changes_nothing(z, tau, direction, shift):
    for function in KL[direction]:
        torch.testing.assert_close(function(z + shift, tau), function(z, tau), rtol=0, atol=1e-10)


@given(logits, taus, directions)
@settings(deadline=None)
def test_kl_is_not_negative_and_its_gradient_adds_up_to_zero(z, tau, direction):
    value, gradient = KL[direction]
    assert (value(z, tau) >= -1e-12).all()
    assert gradient(z, tau).sum(-1).abs().max() < 1e-10


@given(logits, taus, directions)
@settings(deadline=None)
def test_descent_moves_entropy_the_way_tau_says(z, tau, direction):
    """The directional derivative of H along -gradient has the sign of tau - 1."""
    slope = -(KL[direction][1](z, tau) * objective.entropy_gradient(z)).sum(-1)
    assert ((slope >= -1e-15) if tau > 1 else (slope <= 1e-15)).all()


@pytest.mark.parametrize("direction", KL)
@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize(
    "z",
    [
        torch.full((1, 7), 3.0, dtype=torch.float64),
        torch.tensor([[1e6, 0.0, -3.0]], dtype=torch.float64),
        torch.tensor([[0.0, -math.inf, -math.inf]], dtype=torch.float64),
    ],
    ids=["uniform", "deterministic", "one token left"],
)
def test_fixed_points(z, tau, direction):
    value, gradient = KL[direction]
    torch.testing.assert_close(value(z, tau), torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(gradient(z, tau), torch.zeros_like(z))


def test_both_gradients_agree_to_second_order_as_tau_goes_to_one():
    z = rows(8, 50, 3.0)

    def gap(tau: float) -> float:
        forward, reverse = (gradient(z, tau) for _, gradient in KL.values())
        return (forward - reverse).norm()

    taus = [1 / (1 - e) for e in (0.04, 0.02, 0.01, 0.005)]
    orders = [math.log2(gap(a) / gap(b)) for a, b in pairwise(taus)]
    assert orders == pytest.approx([2, 2, 2], abs=0.1)


def test_at_the_papers_tau_the_gradients_of_a_sharp_row_differ():
    """A row of 0.04 nats: forward is several times larger, and outgrows 1 - 1/tau by far."""
    z = sharp_row(0.04)
    forward = {tau: objective.forward_kl_gradient(z, tau)[0] for tau in (1.1, 1.2, 1.5)}
    reverse = objective.reverse_kl_gradient(z, 1.2)[0]
    assert forward[1.2].norm() / reverse.norm() > 3
    assert forward[1.5].norm() / forward[1.1].norm() > 20
    assert torch.cosine_similarity(forward[1.1], forward[1.5], dim=0) > 0.999


@pytest.mark.parametrize("direction", KL)
def test_a_masked_vocabulary_is_as_if_it_were_not_there(direction):
    z = rows(3, 20, 2.0)
    masked = torch.cat([z, torch.full((3, 5), -math.inf, dtype=torch.float64)], -1)
    kl, h = distillation.self_distillation(masked, 1.2, direction)
    gradient = derivative(lambda x: distillation.self_distillation(x, 1.2, direction)[0], masked)

    torch.testing.assert_close(kl, KL[direction][0](z, 1.2))
    torch.testing.assert_close(h, objective.entropy(z))
    torch.testing.assert_close(gradient[:, :20], KL[direction][1](z, 1.2))
    assert (gradient[:, 20:] == 0).all()


@pytest.mark.parametrize("direction", KL)
def test_no_position_left_gives_zero_and_not_nan(direction):
    z = torch.randn(2, 3, 11, requires_grad=True)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    kl, h = distillation.self_distillation(z[nothing], 1.2, direction)
    kl.sum().backward()
    assert kl.shape == h.shape == (0,)
    assert torch.equal(z.grad, torch.zeros_like(z))


@pytest.mark.parametrize("direction", KL)
def test_half_precision_logits_are_computed_in_float32(direction):
    z = rows(4, 1000, 4.0).bfloat16()
    kl, h = distillation.self_distillation(z, 1.2, direction)
    gradient = derivative(lambda x: distillation.self_distillation(x, 1.2, direction)[0], z)
    assert kl.dtype == h.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(kl.double(), textbook(z.double(), 1.2, direction), rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, KL[direction][1](z.double(), 1.2).bfloat16())


@pytest.mark.parametrize("direction", KL)
def test_chunks_and_upstream_weights_change_nothing(direction, monkeypatch):
    z, weight = rows(7, 12, 2.0), torch.linspace(0, 1, 7, dtype=torch.float64)

    def weighted(x: torch.Tensor) -> torch.Tensor:
        return distillation.self_distillation(x, 1.2, direction)[0] * weight

    whole = derivative(weighted, z)
    monkeypatch.setattr(distillation, "CPU_PIECE", 24)  # two rows at a time, the last one alone
    torch.testing.assert_close(derivative(weighted, z), whole, rtol=0, atol=0)
    torch.testing.assert_close(whole, weight[:, None] * KL[direction][1](z, 1.2))


def test_entropy_has_no_gradient():
    z = rows(2, 5, 1.0).requires_grad_()
    _, h = distillation.self_distillation(z, 1.2, "forward")
    assert not h.requires_grad
