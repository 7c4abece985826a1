"""The objective through the head is the objective of the head's logits, without the logits."""

import pytest
import torch
from conftest import Largest

from companion import distillation, objective

ROWS, WIDTH, VOCABULARY = 11, 6, 50
KL = {"forward": objective.forward_kl, "reverse": objective.reverse_kl}


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.fixture
def hidden():
    return random(ROWS, WIDTH, seed=1)


@pytest.fixture
def head():
    return 2 * random(VOCABULARY, WIDTH, seed=2)


def by_hand(hidden, head, direction, teacher=None):
    """(KL, entropy, gradients) by autograd of the textbook formula on whole logits."""
    hidden, head = (x.clone().requires_grad_() for x in (hidden, head))
    z = hidden @ head.T
    q = objective.log_probs((z if teacher is None else teacher[0] @ teacher[1].T).detach(), 1.2)
    p = objective.log_probs(z)
    above, below = (q, p) if direction == "forward" else (p, q)
    kl = (above.exp() * (above - below)).sum(-1)
    return kl, objective.entropy(z), torch.autograd.grad(3 * kl.sum(), (hidden, head))


@pytest.mark.parametrize("direction", KL)
@pytest.mark.parametrize(
    "teacher", [None, (random(ROWS, 4, seed=3), random(VOCABULARY, 4, seed=4))]
)
@pytest.mark.parametrize("rows", [1, 4, ROWS, 100])
def test_equals_autograd_of_the_textbook_formula(
    hidden, head, direction, teacher, rows, monkeypatch
):
    monkeypatch.setattr(distillation, "CPU_LOGITS", rows * VOCABULARY)
    kl, entropy, gradients = by_hand(hidden, head, direction, teacher)
    ours = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    total, each, spread = distillation.through_head(*ours, 1.2, direction, teacher)
    found = torch.autograd.grad(3 * total, ours)
    torch.testing.assert_close(each, kl.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(spread, entropy.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(total, kl.sum(), rtol=0, atol=1e-11)
    for mine, expected in zip(found, gradients, strict=True):
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-11)
    assert not each.requires_grad and not spread.requires_grad

    z = (hidden @ head.T).requires_grad_()
    other = None if teacher is None else teacher[0] @ teacher[1].T
    alone, flat = distillation.self_distillation(z, 1.2, direction, other)
    torch.testing.assert_close(alone, each, rtol=0, atol=1e-12)
    torch.testing.assert_close(flat, spread, rtol=0, atol=1e-12)
    slope = torch.autograd.grad(3 * alone.sum(), z)[0]
    torch.testing.assert_close(slope @ head, gradients[0], rtol=0, atol=1e-11)
    if teacher is None:
        torch.testing.assert_close(each, KL[direction](hidden @ head.T, 1.2), rtol=0, atol=1e-12)


def test_a_teacher_at_the_scaled_logits_is_a_fixed_point(hidden, head):
    """A frozen teacher's: once the student is softmax(z / tau), nothing moves."""
    softened = (hidden / 1.2).requires_grad_()
    total, kl, _ = distillation.through_head(softened, head, 1.2, "forward", (hidden, head))
    assert kl.abs().max() < 1e-14
    assert torch.autograd.grad(total, softened)[0].abs().max() < 1e-14


def test_embeddings_tied_to_the_head_get_both_gradients(hidden, head):
    tokens = torch.arange(ROWS)
    tied = head.clone().requires_grad_()
    total, *_ = distillation.through_head(tied[tokens] + hidden, tied, 1.2, "forward")
    found = torch.autograd.grad(total, tied)[0]
    again = head.clone().requires_grad_()
    z = (again[tokens] + hidden) @ again.T
    expected = torch.autograd.grad(objective.forward_kl(z, 1.2).sum(), again)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("direction", KL)
def test_half_precision_is_within_half_a_percent_of_float64(direction):
    """Each token's gradient: logits are not rounded, only what the last product reads."""
    hidden = random(64, 128, seed=5, dtype=torch.bfloat16)
    head = 0.3 * random(2000, 128, seed=6, dtype=torch.bfloat16)
    ours = hidden.requires_grad_(), head.requires_grad_()
    total, *_ = distillation.through_head(*ours, 1.2, direction)
    mine, to_head = torch.autograd.grad(total, ours)
    exact = [x.detach().double().requires_grad_() for x in ours]
    kl = KL[direction](exact[0] @ exact[1].T, 1.2)
    expected, whole = torch.autograd.grad(kl.sum(), exact)
    error = (mine.double() - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert mine.dtype == to_head.dtype == torch.bfloat16
    assert error.median() < 0.005
    assert (to_head.double() - whole).norm() / whole.norm() < 0.005


def test_no_position_left_gives_zero_and_not_nan(hidden, head):
    ours = hidden[:0].clone().requires_grad_(), head.clone().requires_grad_()
    total, kl, entropy = distillation.through_head(*ours, 1.2, "forward")
    to_hidden, to_head = torch.autograd.grad(total, ours)
    assert total == 0 and kl.shape == entropy.shape == (0,) == to_hidden.shape[:1]
    assert torch.equal(to_head, torch.zeros_like(head))


def test_a_second_backward_is_refused_and_not_wrong(hidden, head):
    ours = hidden.clone().requires_grad_(), head
    total, *_ = distillation.through_head(*ours, 1.2, "forward")
    (2 * total).backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        total.backward()


def test_no_logits_of_all_rows_are_ever_made(monkeypatch):
    monkeypatch.setattr(distillation, "CPU_LOGITS", 4 * VOCABULARY)
    hidden = random(100 * ROWS, WIDTH).requires_grad_()
    head = random(VOCABULARY, WIDTH).requires_grad_()
    with Largest() as largest:
        distillation.through_head(hidden, head, 1.2, "forward")[0].backward()
    assert largest.elements == max(hidden.numel(), head.numel(), 4 * VOCABULARY)
