"""What is sampled is what the policy says: against teacher-forced log-probs and exact frequencies."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from companion import params, policies
from companion.params import ROOT
from companion.policies import encode_prompts, load_policy
from companion.schema import Hardware
from companion.stages import checks, entropy, vllm_engine
from companion.stages.answers import cut
from companion.stages.engines import opened
from companion.stages.sampling import _draw, sample

SMOKE = params.load("smoke")
POLICY = ROOT / SMOKE.task.base
PROMPTS = entropy.entropy_prompts(params.load("smoke", {"entropy.prompts": 20}))
SETTINGS = {"max_new_tokens": 64, "temperature": 1.0, "top_p": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def policy():
    return load_policy(POLICY)


def draw(policy, prompts, **changes):
    model, tokenizer = policy
    return sample(model, prompts, end_tokens={tokenizer.eos_token_id}, **(SETTINGS | changes))


@torch.inference_mode()
def teacher_forced(policy, prompt, answer, temperature=1.0):
    """Log-probs of the answer's tokens, the entropies at T = 1 and at T, from one plain forward."""
    logits = policy[0](torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1].double()
    log_p = (logits / temperature).log_softmax(-1)
    entropies = (torch.distributions.Categorical(logits=x).entropy() for x in (logits, log_p))
    chosen = log_p.gather(-1, torch.tensor(answer)[:, None])[:, 0]
    return tuple(x.numpy() for x in (chosen, *entropies))


@pytest.mark.parametrize("temperature", [1.0, 1.2])
def test_log_probs_and_entropies_are_the_policys(policy, temperature):
    prompts = encode_prompts(policy[1], PROMPTS)
    prompts = [p if i % 2 else [p[0], *p] for i, p in enumerate(prompts)]  # of two lengths
    answers = draw(policy, prompts, temperature=temperature)
    columns = (answers.tokens, answers.log_probs, answers.entropies, answers.drawn_entropies)
    for prompt, tokens, log_probs, entropies, drawn in zip(prompts, *columns, strict=True):
        expected, entropy, hot_entropy = teacher_forced(policy, prompt, tokens, temperature)
        np.testing.assert_allclose(log_probs, expected, atol=1e-4)
        np.testing.assert_allclose(entropies, entropy, atol=1e-4)  # at T = 1, whatever T was
        np.testing.assert_allclose(drawn, hot_entropy, atol=1e-4)  # at T


@pytest.mark.parametrize("limit", [1, 24, 64])
def test_an_answer_is_cut_where_it_did_not_end(policy, limit):
    """`cut` knows from the tokens alone what our sampler knows anyway."""
    prompts = encode_prompts(policy[1], PROMPTS)
    answers = draw(policy, prompts, max_new_tokens=limit)
    assert any(answers.ended) == (limit > 1)
    end = policy[1].eos_token_id
    assert [not cut(tokens, limit, {end}) for tokens in answers.tokens] == answers.ended
    assert cut([end, 5, 6], 3, {end}) and not cut([5, 6, end], 3, {end})
    assert not cut([5, 6, end], 3, {1, end}) and not cut([5, 6], 3, {end})


def test_an_answer_does_not_depend_on_its_neighbours_length(policy):
    prompts = encode_prompts(policy[1], PROMPTS)
    longer = [prompts[0], *([p[0]] * 5 + p for p in prompts[1:])]
    assert draw(policy, prompts).tokens[0] == draw(policy, longer).tokens[0]


def test_a_batch_split_over_ranks_gets_the_same_answers(policy):
    prompts = encode_prompts(policy[1], PROMPTS)
    whole = draw(policy, prompts)
    parts = [draw(policy, prompts[:7]), draw(policy, prompts[7:], first=7)]
    assert whole.tokens == [row for part in parts for row in part.tokens]
    assert draw(policy, prompts[7:]).tokens != whole.tokens[7:]


def test_an_answer_ends_with_its_end_token_or_at_the_limit(policy):
    end = policy[1].eos_token_id
    answers = draw(policy, encode_prompts(policy[1], PROMPTS), max_new_tokens=30)
    assert any(answers.ended) and not all(answers.ended)
    for tokens, ended in zip(answers.tokens, answers.ended, strict=True):
        assert end not in tokens[:-1]
        assert (tokens[-1] == end) == ended and (ended or len(tokens) == 30)


def test_same_seed_same_answers_other_seed_others(policy):
    prompts = encode_prompts(policy[1], PROMPTS)
    assert draw(policy, prompts).tokens == draw(policy, prompts).tokens
    assert draw(policy, prompts).tokens != draw(policy, prompts, seed=4).tokens


def test_draws_follow_the_distribution():
    probs = torch.tensor([[0.5, 0.3, 0.2, 0.0]]).expand(20_000, -1)
    uniform = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(_draw(probs, 1.0, uniform), minlength=4) / 20_000
    torch.testing.assert_close(share, probs[0], atol=0.015, rtol=0)
    nucleus = torch.bincount(_draw(probs, 0.7, uniform), minlength=4) / 20_000
    torch.testing.assert_close(nucleus, torch.tensor([0.625, 0.375, 0, 0]), atol=0.015, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53])
def test_extreme_uniforms_never_draw_an_impossible_token(uniform):
    probs = torch.tensor([[0.0, 0.6, 0.4, 0.0]])
    drawn = int(_draw(probs, 1.0, torch.tensor([uniform], dtype=torch.float64)))
    assert probs[0, drawn] > 0


def test_answers_do_not_depend_on_how_prompts_are_divided_into_calls():
    with opened(POLICY, SMOKE) as sampler:
        whole = sampler(PROMPTS, **SETTINGS)
        parts = [sampler(PROMPTS[:7], **SETTINGS), sampler(PROMPTS[7:], **SETTINGS, first=7)]
    assert parts[0].texts + parts[1].texts == whole.texts


def test_entropies_read_again_are_those_of_sampling():
    """As after vLLM, which reports none."""
    with opened(POLICY, SMOKE) as sampler:
        answers = sampler(PROMPTS, **SETTINGS)
    silent = dataclasses.replace(answers, entropies=[])
    found = entropy.token_entropies(POLICY, PROMPTS, silent)
    assert [*map(len, found)] == [*map(len, answers.tokens)]
    for again, first in zip(found, answers.entropies, strict=True):
        np.testing.assert_allclose(again, first, rtol=1e-3, atol=1e-6)


def test_vllm_and_transformers_sample_from_the_same_policy(policy, monkeypatch):
    """Bar: log-probs of vLLM's answers within 1e-4 nats of a plain forward in fp32.

    Two engines, as on two GPUs: every answer must come back to its own prompt.
    """
    monkeypatch.setattr(vllm_engine, "_shares", lambda hardware: ["", ""])
    with opened(POLICY, SMOKE, "vllm") as sampler:
        answers = sampler(PROMPTS, **SETTINGS)
        with pytest.raises(RuntimeError, match="an answer of 300 is longer than the 256 tokens"):
            sampler(PROMPTS[:1], **SETTINGS | {"max_new_tokens": 300})
    with opened(POLICY, SMOKE) as sampler:
        own = sampler(PROMPTS, **SETTINGS)
    prompts = encode_prompts(policy[1], PROMPTS)
    for prompt, tokens, log_probs in zip(prompts, answers.tokens, answers.log_probs, strict=True):
        np.testing.assert_allclose(log_probs, teacher_forced(policy, prompt, tokens)[0], atol=1e-4)
    assert np.mean(answers.ended) == pytest.approx(np.mean(own.ended), abs=0.3)
    assert answers.texts[0].split()[1] in "+-*/"


@pytest.mark.parametrize(
    ("named", "shares"),
    [
        (None, ["0,1", "2,3"]),
        ("", ["0,1", "2,3"]),
        ("4,5,6,7", ["4,5", "6,7"]),
        ("7,GPU-a,3,2,1", ["7,GPU-a", "3,2"]),
    ],
)
def test_vllm_takes_the_gpus_that_the_user_left_it(monkeypatch, named, shares):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    hardware = Hardware(platform="gpu", gpus_per_node=4, tensor_parallel=2)
    assert vllm_engine._shares(hardware) == shares


def test_too_few_visible_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ValueError, match="is '0,1' and must name 8 GPUs"):
        vllm_engine._shares(Hardware(platform="gpu", gpus_per_node=8))


@pytest.mark.fault("vLLM dies")
def test_vllm_says_why_it_fails(tmp_path):
    with pytest.raises(ValueError, match="no-policy' is no policy"):  # before it starts
        with opened(tmp_path / "no-policy", SMOKE, "vllm") as sampler:
            sampler(PROMPTS, **SETTINGS)
    with pytest.raises(
        RuntimeError, match="(?s)vLLM failed:.*no-policy"
    ):  # ended before it is asked
        with vllm_engine._started(tmp_path / "no-policy", SMOKE.hardware, "", tmp_path) as engine:
            engine.process.wait()
            engine.ask({})
            engine.answers()


def test_a_draw_at_the_very_end_takes_a_token_that_has_probability():
    probs = torch.tensor([[0.25, 0.75, 0.0, 0.0]])
    for uniform, token in ((0.0, 0), (0.3, 1), (1.0, 1)):  # 1.0: what rounding makes of just below
        assert _draw(probs, 1.0, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]


@pytest.fixture(scope="module")
def two_ends(tmp_path_factory):
    """A policy that lists two end tokens in its generation_config, as Qwen3 does; and the two."""
    folder = shutil.copytree(POLICY, tmp_path_factory.mktemp("two") / "policy")
    tokenizer, path = policies.load_tokenizer(POLICY), folder / "generation_config.json"
    ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("yes")]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": ends}))
    return folder, set(ends)


def test_every_engine_ends_with_every_end_token_that_a_policy_lists(two_ends):
    """Also in what counts cut answers, and in `same_task`. Where nothing is drawn, with the same tokens.

    With the tokenizer's end token alone transformers had ended 3 of 12 answers, and vLLM all.
    """
    folder, ends = two_ends
    own = policies.load_tokenizer(POLICY).eos_token_id
    assert policies.end_tokens(POLICY) == {own} and policies.end_tokens(folder) == ends
    given = {}
    for engine in ("transformers", "vllm"):
        with opened(folder, SMOKE, engine) as sampler:
            given[engine] = [sampler(PROMPTS, **SETTINGS | {"top_p": p}) for p in (1.0, 1e-9)]
    for answers in (*given["transformers"], *given["vllm"]):
        for tokens, ended in zip(answers.tokens, answers.ended, strict=True):
            assert ended == (tokens[-1] in ends) and not ends & set(tokens[:-1])
            assert cut(tokens, SETTINGS["max_new_tokens"], ends) != ended
        assert ends - {own} <= {row[-1] for row in answers.tokens}
    (_, ours), (_, theirs) = given.values()
    assert (theirs.tokens, theirs.ended) == (ours.tokens, ours.ended)
    with pytest.raises(ValueError, match="ends its answers with the tokens .* give both the same"):
        checks.same_task(SMOKE, folder)


def test_answers_to_one_prompt_are_those_of_prompts_of_their_own(policy):
    """Its reading is shared, beside prompts of other lengths and in any order."""
    short, long = encode_prompts(policy[1], PROMPTS[:2])
    longer = [short[0]] * 3 + long
    asked = [short, short, longer, long, longer, short]
    shared = draw(policy, asked)
    alone = [draw(policy, [prompt], first=i) for i, prompt in enumerate(asked)]
    assert shared.tokens == [answers.tokens[0] for answers in alone]
    assert len({tuple(shared.tokens[i]) for i in (0, 1, 5)}) > 1
    for i, answers in enumerate(alone):
        torch.testing.assert_close(
            torch.tensor(shared.log_probs[i]), torch.tensor(answers.log_probs[0]), rtol=0, atol=1e-4
        )


def test_a_cache_with_room_holds_what_transformers_own_holds():
    """Written token by token, with rows repeated and dropped in between."""
    from transformers.cache_utils import DynamicLayer

    from companion.stages.sampling import _Roomy

    ours, theirs = _Roomy(), DynamicLayer()
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([0, 0, 1, 1, 1])
    for step, length in enumerate([5, *[1] * 20]):
        keys, values = torch.randn(2, len(rows) if step else 2, 2, length, 4, generator=generator)
        for cache in (ours, theirs):
            cache.update(keys, values)
            if step in (0, 9):
                cache.batch_select_indices(rows)
        if step == 9:
            break
    assert ours.get_seq_length() == theirs.get_seq_length() == 14
    assert torch.equal(ours.keys, theirs.keys) and torch.equal(ours.values, theirs.values)
