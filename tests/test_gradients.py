"""Gradients at the first step: by hand, and on the shipped policy against Eq. 20."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from companion import params, study
from companion.analysis import gradients, rollouts

SMOKE = params.load("smoke")


@pytest.fixture(scope="module")
def few():
    return rollouts.roll_out(SMOKE, study.shipped(SMOKE), samples=1)


def test_pairs_by_hand():
    table = gradients.pairs({
        ("forward", 1.1): torch.tensor([3.0, 4.0]), ("forward", 1.5): torch.tensor([0.0, 10.0]),
    })
    (row,) = table.to_dict("records")
    assert (row["cosine"], row["norm_ratio"]) == pytest.approx((0.8, 2))


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=9),
    st.floats(0.1, 10),
)
def test_the_angle_does_not_see_a_gradients_size(values, factor):
    one, two = torch.tensor(values, dtype=torch.float64).T + torch.tensor([[10.0], [10.0]])
    kinds = ("forward", 1.1), ("forward", 1.5)
    row = gradients.pairs(dict(zip(kinds, (one, two), strict=True))).iloc[0]
    longer = gradients.pairs(dict(zip(kinds, (one, factor * two), strict=True))).iloc[0]
    assert -1 <= row["cosine"] <= 1 + 1e-12
    assert longer["cosine"] == pytest.approx(row["cosine"])
    assert longer["norm_ratio"] == pytest.approx(factor * row["norm_ratio"])


def test_reverse_kl_is_parallel_for_every_tau_and_scales_as_eq_20_says(few):
    policy = study.shipped(SMOKE)
    one, two = (gradients.gradient(policy, few, "reverse", tau) for tau in (1.1, 1.5))
    row = gradients.pairs({("reverse", 1.1): one, ("reverse", 1.5): two}).iloc[0]
    assert row["cosine"] == pytest.approx(1, abs=1e-5)
    assert row["norm_ratio"] == pytest.approx((1 - 1 / 1.5) / (1 - 1 / 1.1), rel=1e-4)


def test_batches_do_not_matter(few):
    policy = study.shipped(SMOKE)
    whole, parts = (gradients.gradient(policy, few, "forward", 1.2, tokens=n) for n in (8192, 300))
    assert torch.allclose(whole, parts, atol=1e-7)


def test_a_vanishing_gradient_is_one_sentence():
    with pytest.raises(ValueError, match=r"gradient of \('forward', 1.2\) is 0 and has no direct"):
        gradients.pairs({("forward", 1.2): torch.zeros(3)})


def test_reading_answers_gives_back_the_log_probabilities_they_were_sampled_with(few):
    policy = study.shipped(SMOKE)
    read = []
    for logits, hidden, answer in rollouts.read(policy, few, hidden=True, tokens=500):
        tokens = torch.tensor([t for i in dict.fromkeys(answer) for t in few.answers[i]])
        read.append(torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0])
        assert hidden.shape[1] == len(tokens) == len(answer)
    sampled = torch.tensor([x for row in few.log_probs for x in row])
    assert torch.allclose(torch.cat(read), sampled, atol=1e-4)


def test_greedy_answers_are_the_likeliest_tokens():
    policy = study.shipped(SMOKE)
    greedy = rollouts.roll_out(SMOKE, policy, greedy=True)
    for logits, _, answer in rollouts.read(policy, greedy):
        tokens = torch.tensor([t for i in dict.fromkeys(answer) for t in greedy.answers[i]])
        assert (logits.argmax(-1) == tokens).all()
