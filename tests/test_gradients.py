"""Gradients at the first step: by hand, and on the shipped policy against Eq. 20."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from companion import objective, params
from companion.analysis import gradients, rollouts
from companion.policies import load_policy
from companion.stages import reading
from companion.study import arms

SMOKE = params.load("smoke", {"analysis.samples": 1})


@pytest.fixture(scope="module")
def few():
    return rollouts.roll_out(SMOKE, arms.shipped(SMOKE))


@pytest.fixture(scope="module")
def model():
    return load_policy(arms.shipped(SMOKE), dtype=torch.float32)[0]


def flat(tensors):
    return torch.cat([values.flatten() for values in tensors])


def definition(model, few, tau):
    """Plain autograd of Eq. 8 on one answer at a time: no padding, head on all tokens."""
    model.eval()
    model.zero_grad()
    total = sum(map(len, few.answers))
    for prompt, answer in zip(few.prompts, few.answers, strict=True):
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        (objective.forward_kl(logits, tau).sum() / total).backward()
    return [p.grad for p in model.parameters()]


def test_pairs_by_hand():
    table = gradients.pairs(
        {
            ("forward", 1.1): [torch.tensor([[3.0], [0.0]]), torch.tensor([4.0])],
            ("forward", 1.5): [torch.tensor([[0.0], [0.0]]), torch.tensor([10.0])],
        }
    )
    (row,) = table.to_dict("records")
    assert (row["cosine"], row["norm_ratio"]) == pytest.approx((0.8, 2))


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=9),
    st.floats(0.1, 10),
)
def test_the_angle_does_not_see_a_gradients_size(values, factor):
    one, two = torch.tensor(values, dtype=torch.float64).T + torch.tensor([[10.0], [10.0]])
    kinds = ("forward", 1.1), ("forward", 1.5)
    row = gradients.pairs(dict(zip(kinds, ([one], [two]), strict=True))).iloc[0]
    longer = gradients.pairs(dict(zip(kinds, ([one], [factor * two]), strict=True))).iloc[0]
    assert -1 <= row["cosine"] <= 1 + 1e-12
    assert longer["cosine"] == pytest.approx(row["cosine"])
    assert longer["norm_ratio"] == pytest.approx(factor * row["norm_ratio"])


def test_reverse_kl_is_parallel_for_every_tau_and_scales_as_eq_20_says(few, model):
    one, two = (gradients.gradient(model, few, "reverse", tau) for tau in (1.1, 1.5))
    row = gradients.pairs({("reverse", 1.1): one, ("reverse", 1.5): two}).iloc[0]
    assert row["cosine"] == pytest.approx(1, abs=1e-5)
    assert row["norm_ratio"] == pytest.approx((1 - 1 / 1.5) / (1 - 1 / 1.1), rel=1e-4)


@pytest.mark.parametrize(("batch", "positions"), [(8192, 1024), (300, 7)])
def test_equals_its_definition_however_it_is_cut(few, monkeypatch, batch, positions):
    monkeypatch.setattr(reading, "BATCH_TOKENS", batch)
    monkeypatch.setattr(gradients, "POSITIONS", positions)
    exact = load_policy(arms.shipped(SMOKE), dtype=torch.float64)[0]
    ours = flat(gradients.gradient(exact, few, "forward", 1.2))
    assert (ours - flat(definition(exact, few, 1.2))).norm() < 1e-9 * ours.norm()


def test_only_the_layers_inputs_wait_for_the_way_back(few, model):
    """Of the one batch: no layer's inside (an MLP's is wider than d) and no logits."""
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        gradients.gradient(model, few, "forward", 1.2)
    ((_, inputs, _, _),) = reading.batches(few, model.device)
    states = inputs.numel() * model.config.hidden_size
    assert max(kept) == states
    assert sum(kept) < (model.config.num_hidden_layers + 4) * states


def test_logits_of_answers_alone_and_few_at_a_time(few, model, monkeypatch):
    monkeypatch.setattr(gradients, "POSITIONS", 50)
    rows = []
    hook = model.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: rows.append(len(logits))
    )
    gradients.gradient(model, few, "forward", 1.2)
    hook.remove()
    answered = sum(map(len, few.answers))
    assert max(rows) == 50 and sum(rows) == 2 * answered  # there, and again on the way back


def test_a_vanishing_gradient_is_one_sentence():
    with pytest.raises(ValueError, match=r"gradient of \('forward', 1.2\) is 0 and has no direct"):
        gradients.pairs({("forward", 1.2): [torch.zeros(3)]})


def test_reading_answers_gives_back_the_log_probabilities_they_were_sampled_with(few, monkeypatch):
    monkeypatch.setattr(reading, "BATCH_TOKENS", 500)  # several batches
    policy = arms.shipped(SMOKE)
    read = []
    for logits, hidden, answer in reading.read(policy, few, hidden=True):
        tokens = torch.tensor([t for i in dict.fromkeys(answer) for t in few.answers[i]])
        read.append(torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0])
        assert hidden.shape[1] == len(tokens) == len(answer)
    sampled = torch.tensor([x for row in few.log_probs for x in row])
    assert torch.allclose(torch.cat(read), sampled, atol=1e-4)


def test_greedy_answers_are_the_likeliest_tokens():
    policy = arms.shipped(SMOKE)
    greedy = rollouts.roll_out(SMOKE, policy, greedy=True)
    for logits, _, answer in reading.read(policy, greedy):
        tokens = torch.tensor([t for i in dict.fromkeys(answer) for t in greedy.answers[i]])
        assert (logits.argmax(-1) == tokens).all()


@pytest.mark.parametrize(
    "change",
    [
        {"evaluation.engine": "vllm"},
        {"evaluation.max_new_tokens": 9},
        {"analysis.samples": 2},
        {"analysis.problems": 6},
    ],
)
def test_whatever_decides_the_rollouts_names_the_run(change):
    assert rollouts.settings(params.change(SMOKE, change)) != rollouts.settings(SMOKE)
