"""The qwen3 profiles: the paper's settings to the letter, in the frameworks' own words."""

import os
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
import torch

from companion import evaluate, export, params, reheat, rl, runs, study, tables

PROFILES = ["qwen3-0.6b", "qwen3-4b", "qwen3-8b"]


@pytest.fixture(params=PROFILES)
def profile(request):
    return params.load(request.param)


@pytest.mark.parametrize("table", [3, 4, 5])
def test_every_cell_equals_the_papers(profile, table):
    rows = tables.hyperparameters(profile, table)
    assert len(rows) >= 6
    assert rows[rows["differs"] != ""].empty


def composed(profile, **changes):
    import verl
    from hydra import compose, initialize_config_dir

    asked = {
        "start": Path("policy"), "folder": Path("runs/x"), "steps": profile.rl.collapse.max_steps,
        "temperature": profile.rl.rollout_temperature,
        "stop_entropy": profile.rl.collapse.entropy,
    }
    folder = str(Path(verl.__file__).parent / "trainer" / "config")
    with initialize_config_dir(config_dir=folder, version_base=None):
        return compose("ppo_trainer", overrides=rl.overrides(profile, **asked | changes))


def test_verl_is_asked_for_table_3(profile):
    from verl.utils.config import validate_config

    config = composed(profile)
    validate_config(config, use_reference_policy=False, use_critic=False)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.weight_decay) == (2e-6, 10, 0.1)
    assert actor.optim.optimizer == "AdamW" and actor.optim.clip_grad == 1.0
    assert (config.data.train_batch_size, rollout.n, actor.ppo_mini_batch_size) == (64, 8, 64)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 10.0)
    assert actor.loss_agg_mode == "token-mean" and actor.policy_loss.loss_mode == "vanilla"
    assert (actor.use_kl_loss, actor.entropy_coeff, config.algorithm.use_kl_in_reward) == (False, 0, False)
    assert config.data.max_response_length == rollout.response_length == 8192
    assert (rollout.temperature, rollout.top_p, rollout.top_k) == (1.0, 1.0, -1)
    assert config.trainer.total_epochs == 2
    assert rollout.name == "vllm" and actor.strategy == "fsdp2"


def test_the_reward_is_dapos_with_the_overlong_buffer(profile):
    reward = composed(profile).reward
    assert reward.reward_manager.name == "dapo"
    buffer = reward.reward_kwargs.overlong_buffer_cfg
    assert (buffer.enable, buffer.len, buffer.penalty_factor) == (True, 1024, 1.0)
    assert reward.reward_kwargs.max_resp_len == 8192


def test_rollout_reheating_changes_the_temperature_alone(profile):
    plain, hot = (composed(profile, temperature=t) for t in (1.0, profile.rl.rr_temperature))
    assert hot.actor_rollout_ref.rollout.temperature == 1.2
    hot.actor_rollout_ref.rollout.temperature = 1.0
    assert hot == plain


def test_ms_swift_is_asked_for_table_4(profile, tmp_path):
    from swift.arguments import RLHFArguments
    from swift.utils import parse_args

    profile = params.change(profile, {"task.base": "results/checkpoints/countdown-base"})
    start = params.ROOT / profile.task.base
    (tmp_path / reheat.PROMPTS).write_text('{"messages": [{"role": "user", "content": "1 + 1?"}]}\n')
    words = reheat.command(profile, start, tmp_path)
    with patch.dict(os.environ):  # FSDP leaves settings there
        asked, rest = parse_args(RLHFArguments, [*words[words.index("rlhf") + 1:], "--use_cpu", "true"])
    assert rest == []
    assert (asked.rlhf_type, asked.lmbda) == ("gkd", 1)
    assert (asked.learning_rate, asked.lr_scheduler_type) == (1e-6, "constant")
    ranks = profile.hardware.gpus_per_node
    assert asked.per_device_train_batch_size * asked.gradient_accumulation_steps * ranks == 1024
    assert (asked.temperature, asked.top_p, asked.top_k) == (1, 1, -1)
    assert asked.max_completion_length == 4096 and asked.max_length == 2048
    assert asked.bf16 and asked.use_vllm and asked.vllm_mode == "colocate"
    # fp32 weights and whole checkpoints: nothing is rounded between verl and ms-swift.
    assert str(asked.torch_dtype) == "torch.float32" and not asked.deepspeed
    assert asked.fsdp_config["state_dict_type"] == "FULL_STATE_DICT"


def test_thresholds_are_those_of_section_4_1(profile):
    assert profile.rl.collapse.entropy == 0.08
    assert profile.reheat.recovery_entropy == 0.12
    assert profile.rl.rr_temperature == profile.reheat.tau == 1.2


# --- End to end at toy size -----------------------------------------------------------------


def test_weights_travel_unrounded_through_both_frameworks_with_vllm(tmp_path, monkeypatch):
    """The qwen3 profiles' path on CPU: vLLM rollouts in verl, ms-swift, vLLM in the evaluation.

    Neither framework trains anything here, verl because its first step warms up from 0: what comes
    out must be what went in, bit for bit, with its tokenizer and its sampling defaults.
    """
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, GenerationConfig

    monkeypatch.setattr(runs, "ROOT", tmp_path)
    profile = params.load("smoke", {
        "rl.rollout_engine": "vllm", "rl.collapse.max_steps": 1, "rl.collapse.check_every": 1,
        "entropy.prompts": 8, "reheat.learning_rate": 1e-30, "reheat.max_steps": 1,
        "evaluation.engine": "vllm", "task.test_problems": 2, "evaluation.samples": 2,
    })
    base = study.base(profile)
    collapse = rl.collapse(profile)
    assert collapse.metrics["rollout_gap"].max() <= 1e-4  # vLLM and trainer, in nats
    hot = reheat.reheat(profile, collapse.policy, force=True)
    ours = load_file(base / "model.safetensors")
    for policy in (collapse.policy, hot.policy):
        theirs = load_file(policy / "model.safetensors")
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert {str(value.dtype) for value in theirs.values()} == {"torch.float32"}
        one, other = (AutoTokenizer.from_pretrained(path) for path in (base, policy))
        assert (one.get_vocab(), one.chat_template) == (other.get_vocab(), other.chat_template)
        defaults = [GenerationConfig.from_pretrained(path).to_diff_dict() for path in (base, policy)]
        assert defaults[0] == defaults[1]

    run = evaluate.evaluate(profile, hot.policy, "hot")
    samples = pd.read_parquet(run.folder / "samples.parquet")
    assert len(samples) == 6 * 2 * 2
    assert (samples["token_ids"].map(len) == samples["tokens"]).all()
    assert set(samples) >= {"prompt", "gold", "answer", "ended", "correct"}
    assert export.export(run, tmp_path / "lm-eval").exists()
