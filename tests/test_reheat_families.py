"""Policies of other families than the paper's: tiny, of random weights, and asked what Qwen3 is."""

import pytest
import torch
from test_reheat import (
    ANSWERS,
    PROMPTS,
    gradient_by_the_book,
    gradient_through_swift,
    make_trainer,
    profile,
)

from companion import params, policies
from companion.stages import checks, reading, scaling
from companion.stages.answers import Answers
from companion.stages.engines import opened
from companion.tasks import countdown

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
FAMILIES = {
    "qwen2": SMALL,
    "qwen3": SMALL | {"tie_word_embeddings": False},
    "llama": SMALL,
    "mistral": SMALL | {"sliding_window": 8},
    "gemma2": SMALL | {"sliding_window": 8, "query_pre_attn_scalar": 16},
    "gemma3_text": SMALL | {"sliding_window": 8, "query_pre_attn_scalar": 16},
    "phi": {k: v for k, v in SMALL.items() if k != "head_dim"},
    "phi3": SMALL | {"pad_token_id": 0},
    "olmo2": SMALL,
    "smollm3": SMALL | {"pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 256},
}
CAPPED = "gemma2"


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def policy(family, tmp_path_factory):
    """Sharpened, so that its distributions are far from uniform; biases that are not 0."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp(family) / "policy", countdown.tokenizer()
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        **{"pad_token_id": tokenizer.pad_token_id} | FAMILIES[family] | ends,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.1)
        model.get_output_embeddings().weight.mul_(10)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(policy, rows, dtype=torch.float32):
    """Of every next token, each row read alone by the model itself."""
    model, _ = policies.load_policy(policy, dtype=dtype)
    with torch.inference_mode():
        return [model(torch.tensor([row])).logits[0] for row in rows]


def test_answers_are_samples_of_the_models_own_distribution(policy):
    """With prompts of unlike lengths in one batch, a cache, and answers longer than a sliding window."""
    with opened(policy, params.load("smoke")) as sampler:
        answers = sampler(PROMPTS, max_new_tokens=24, temperature=1.0, top_p=1.0, seed=3)
    tokenizer = policies.load_tokenizer(policy)
    asked = policies.encode_prompts(tokenizer, PROMPTS)
    alone = logits(policy, [p + a for p, a in zip(asked, answers.tokens, strict=True)])
    for row, (prompt, tokens) in enumerate(zip(asked, answers.tokens, strict=True)):
        log_p = alone[row][len(prompt) - 1 : -1].log_softmax(-1)
        said = log_p.gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(answers.log_probs[row]), said, rtol=0, atol=1e-4)
        entropy = -(log_p.exp() * log_p).sum(-1)
        torch.testing.assert_close(torch.tensor(answers.entropies[row]), entropy, rtol=0, atol=1e-4)
    assert len({tuple(tokens) for tokens in answers.tokens}) == len(PROMPTS)


def test_what_is_read_are_the_models_own_logits(policy):
    tokenizer = policies.load_tokenizer(policy)
    tokens = [tokenizer(answer)["input_ids"] for answer in ANSWERS]
    rollouts = reading.rollouts_of(policy, PROMPTS, Answers(tokens, [], [], []))
    read = torch.cat([found for found, *_ in reading.read(policy, rollouts)])
    rows = [p + a for p, a in zip(rollouts.prompts, tokens, strict=True)]
    whole = logits(policy, rows)
    expected = [z[-len(a) - 1 : -1] for z, a in zip(whole, tokens, strict=True)]
    torch.testing.assert_close(read, torch.cat(expected), rtol=0, atol=1e-4)


def test_scaling_divides_the_models_own_logits_or_is_refused(policy, family, tmp_path):
    if family == CAPPED:
        with pytest.raises(
            ValueError, match=r"cannot be scaled exactly: its logits are capped \(final_"
        ):
            scaling.save_scaled(policy, 1.3, tmp_path)
        return
    scaling.save_scaled(policy, 1.3, tmp_path / "scaled")
    rows = [list(range(10, 30))]
    [before], [after] = (
        logits(folder, rows, torch.float64) for folder in (policy, tmp_path / "scaled")
    )
    assert before.std() > 0.5
    torch.testing.assert_close(after, before / 1.3, rtol=0, atol=1e-6)


def test_ms_swift_reheats_it_by_the_textbooks_loss(policy, family, tmp_path, monkeypatch):
    direction = "reverse" if family in ("gpt2", "gemma3_text") else "forward"
    settings = profile(policy)
    trainer = make_trainer(settings, policy, tmp_path, direction)
    loss, gradient = gradient_through_swift(trainer, direction, 2)
    expected_loss, expected = gradient_by_the_book(trainer, direction)
    assert loss == pytest.approx(expected_loss, abs=1e-6) and loss > 1e-4
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, rtol=1e-3, atol=1e-6)
    through = params.change(settings, {"reheat.through_head": True})
    if family in (CAPPED, "phi"):
        with pytest.raises(
            ValueError, match=r"through_head is true and .* has (final_logit|lm_head.bias)"
        ):
            checks.plain_head(through, policy)
        return
    checks.plain_head(through, policy)
    monkeypatch.setattr(trainer, "through_head", True)
    assert gradient_through_swift(trainer, direction, 2)[0] == pytest.approx(
        expected_loss, abs=1e-6
    )


def test_an_unknown_family_is_not_scaled(tmp_path):
    from conftest import save_policy

    policy = save_policy(tmp_path / "policy", norm=[1.0])
    config = policy / "config.json"
    config.write_text(config.read_text().replace('"qwen3"', '"cohere"'))
    with pytest.raises(ValueError, match="its model_type is 'cohere', and known are only gemma, "):
        scaling.save_scaled(policy, 1.3, tmp_path / "scaled")
