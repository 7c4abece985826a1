"""The qwen3 profiles: the paper's settings to the letter, in the frameworks' own words."""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
import torch

from companion import params, runs
from companion.commands import export
from companion.exhibits import hyperparameters
from companion.stages import checks, evaluate, reheat, rl, swift_command, verl_command
from companion.statistics import Estimate
from companion.study import arms

PROFILES = ["qwen3-0.6b", "qwen3-4b", "qwen3-8b"]


@pytest.fixture(params=PROFILES)
def profile(request):
    return params.load(request.param)


@pytest.mark.parametrize("table", [3, 4, 5])
def test_every_cell_equals_the_papers(profile, table):
    rows = hyperparameters.table(profile, table, {"Total epochs": "2.0"})
    assert len(rows) >= 6
    assert rows[rows["differs"] != ""].empty


def test_the_two_epochs_of_the_paper_are_the_most_that_rl_runs(profile):
    rl = profile.rl
    most = (rl.collapse.max_steps + rl.continued_steps) * rl.batch_size
    assert round(most / profile.task.train_problems, 2) == 2


def composed(profile, **changes):
    import verl
    from hydra import compose, initialize_config_dir

    asked = {
        "start": Path("policy"),
        "folder": Path("runs/x"),
        "steps": profile.rl.collapse.max_steps,
        "temperature": profile.rl.rollout_temperature,
        "stop_entropy": profile.rl.collapse.entropy,
    }
    folder = str(Path(verl.__file__).parent / "trainer" / "config")
    with initialize_config_dir(config_dir=folder, version_base=None):
        return compose("ppo_trainer", overrides=verl_command.overrides(profile, **asked | changes))


def test_verl_is_asked_for_table_3(profile):
    from verl.utils.config import validate_config

    config = composed(profile)
    validate_config(config, use_reference_policy=False, use_critic=False)
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.weight_decay) == (
        2e-6,
        10,
        0.1,
    )
    assert actor.optim.optimizer == "AdamW" and actor.optim.clip_grad == 1.0
    assert actor.optim.lr_scheduler_type == "constant"  # after the warm-up
    assert actor.fsdp_config.model_dtype == "fp32" and not config.algorithm.filter_groups.enable
    assert (config.data.train_batch_size, rollout.n, actor.ppo_mini_batch_size) == (64, 8, 64)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 10.0)
    assert actor.loss_agg_mode == "token-mean" and actor.policy_loss.loss_mode == "vanilla"
    assert (actor.use_kl_loss, actor.entropy_coeff, config.algorithm.use_kl_in_reward) == (
        False,
        0,
        False,
    )
    assert config.data.max_response_length == rollout.response_length == 8192
    assert (rollout.temperature, rollout.top_p, rollout.top_k) == (1.0, 1.0, -1)
    assert config.trainer.total_epochs == 2
    assert rollout.name == "vllm" and actor.strategy == "fsdp2"
    model = config.actor_rollout_ref.model
    assert model.use_remove_padding and model.override_config.attn_implementation == "sdpa"


def test_one_node_starts_a_ray_of_its_own_and_several_join_the_jobs(profile):
    own = composed(profile).ray_kwargs.ray_init
    assert own.address == "local" and not own.include_dashboard
    several = composed(params.change(profile, {"hardware.nodes": 2}))
    assert "address" not in several.ray_kwargs.ray_init and several.trainer.nnodes == 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"hardware.gpus_per_node": 6},
            "hardware.gpus_per_node is 6 and, times hardware.nodes (1), "
            "must divide rl.mini_batch_size x rl.responses_per_prompt (512)",
        ),
        (
            {"hardware.nodes": 3},
            "hardware.gpus_per_node is 8 and, times hardware.nodes (3), must divide "
            "rl.mini_batch_size x rl.responses_per_prompt (512)",
        ),
        (
            {"reheat.micro_batch_size": 3},
            "must divide reheat.batch_size / reheat.micro_batch_size (341.3",
        ),
        (
            {"hardware.nodes": 64},
            "must divide analysis.long_batch_size / reheat.micro_batch_size (256)",
        ),
        (
            {
                "hardware.platform": "cpu",
                "hardware.threads": 5,
                "rl.rollout_engine": "transformers",
            },
            "hardware.threads is 5 and, times hardware.nodes (1), must divide rl.mini_batch_size",
        ),
    ],
)
def test_an_update_that_ranks_cannot_share_is_refused_before_any_training(changes, sentence):
    with pytest.raises(ValueError) as refused:
        checks.settings(params.load("qwen3-4b", changes))
    assert sentence in str(refused.value)


@pytest.mark.parametrize("name", params.profiles())
def test_ranks_share_every_profiles_updates(name):
    checks.settings(params.load(name))


def test_the_reward_is_dapos_with_the_overlong_buffer(profile):
    reward = composed(profile).reward
    assert reward.reward_manager.name == "dapo"
    buffer = reward.reward_kwargs.overlong_buffer_cfg
    assert (buffer.enable, buffer.len, buffer.penalty_factor) == (True, 1024, 1.0)
    assert reward.reward_kwargs.max_resp_len == 8192


def test_log_probs_and_entropy_are_taken_in_float32_and_in_pieces(profile):
    """By verl's fused kernels: whole logits are never there, and entropy comes before the update."""
    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    config = composed(profile)
    model = config.actor_rollout_ref.model
    assert model.use_fused_kernels and model.fused_kernel_options.impl_backend == "torch"
    assert not config.actor_rollout_ref.actor.calculate_entropy
    assert not config.algorithm.rollout_correction.bypass_mode  # which would leave it out
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 3, 64, generator=random).bfloat16()
    head = (torch.randn(50_000, 64, generator=random) / 2).bfloat16()
    tokens = torch.tensor([[1, 2, 3]])
    exact = torch.distributions.Categorical(logits=(hidden @ head.T).double())
    log_probs, entropy = FusedLinearForPPO()(hidden, head, tokens)
    torch.testing.assert_close(log_probs.double(), exact.log_prob(tokens), rtol=0, atol=1e-3)
    torch.testing.assert_close(entropy.double(), exact.entropy(), rtol=2**-8, atol=0)


def test_what_gpus_log_of_rollouts_and_trainer_is_in_the_metrics(tmp_path, capsys):
    """A warning where vLLM and the trainer are two policies."""
    from types import SimpleNamespace

    from companion import metrics
    from companion.stages import verl_files

    logged = {
        "critic/rewards/mean": 0.5,
        "actor/entropy": 0.2,
        "response_length/mean": 900.0,
        "perf/time_per_step": 100.0,
        "rollout_corr/kl": 0.001,
        "training/rollout_probs_diff_max": 0.25,
    }
    lines = [{"step": 1, "data": logged}, {"step": 2, "data": logged | {"rollout_corr/kl": 0.4}}]
    (tmp_path / "verl.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    verl_files.follow(SimpleNamespace(folder=tmp_path), [], 2)()
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert [row["rollout_kl"] for row in rows] == [0.001, 0.4]
    assert rows[0]["rollout_entropy"] == 0.2 and rows[0]["rollout_prob_gap_max"] == 0.25
    said = capsys.readouterr().out
    assert said.count("vLLM samples from another policy") == 1 and "rl.importance_cap" in said


def test_importance_sampling_is_truncated_where_asked_for(profile):
    asked = params.change(profile, {"rl.importance_cap": 2.0})
    correction = composed(asked).algorithm.rollout_correction
    assert (correction.rollout_is, correction.rollout_is_threshold) == ("token", 2.0)
    assert composed(profile).algorithm.rollout_correction.rollout_is is None
    plain, capped = (rl._settings(p, 1.0) for p in _without_data(profile, asked))
    assert "importance_cap" not in plain and capped.items() - plain.items() == {
        ("importance_cap", 2.0)
    }
    with pytest.raises(ValueError, match="rl.importance_cap is 2.0 and must be null on the CPU"):
        checks.settings(params.load("smoke", {"rl.importance_cap": 2.0}))


def _without_data(*profiles):
    """The same settings of a task whose data are made by rule."""
    task = params.load("smoke").task
    return [profile.model_copy(update={"task": task}) for profile in profiles]


def test_no_two_engines_share_a_stream_and_none_begins_again(profile):
    """verl adds an engine's number to the seed; seeds 1 to 3 of a study, each resumed twice."""
    starts = [None, Path("verl/global_step_10"), Path("verl/global_step_20")]
    asked = {"start": Path("policy"), "folder": Path("x"), "steps": 30, "temperature": 1.0}
    name = "actor_rollout_ref.rollout.seed="
    words = [
        word
        for seed in (1, 2, 3)
        for start in starts
        for word in verl_command.overrides(
            params.change(profile, {"seed": seed}), **asked, resume_from=start
        )
    ]
    seeds = [int(word.removeprefix(name)) for word in words if word.startswith(name)]
    streams = [seed + engine for seed in seeds for engine in range(64)]
    assert len(seeds) == 9
    assert len(set(streams)) == len(streams) and max(streams) < 2**32


def test_both_frameworks_keep_others_plug_ins_out_of_vllm(profile, tmp_path):
    assert verl_command.environment(profile, tmp_path)["VLLM_PLUGINS"] == ""


def test_gradients_are_added_up_in_float32():
    """accelerate's policy for bf16 would add them up in bf16, over 128 micro-batches."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from swift.utils.utils import import_external_file

    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, mixed_precision_policy="bf16")
    assert plugin.mixed_precision_policy.reduce_dtype == torch.bfloat16
    import_external_file(str(swift_command.PLUGIN)).add_up_in_float32(plugin)
    policy = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)


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
    (tmp_path / swift_command.PROMPTS).write_text(
        '{"messages": [{"role": "user", "content": "1 + 1?"}]}\n'
    )
    words = swift_command.arguments(profile, start, tmp_path)
    with patch.dict(os.environ):  # FSDP leaves settings there
        asked, rest = parse_args(RLHFArguments, [*words, "--use_cpu", "true"])
    assert rest == []
    assert (asked.rlhf_type, asked.lmbda) == ("gkd", 1)
    assert (asked.learning_rate, asked.lr_scheduler_type) == (1e-6, "constant")
    assert (asked.weight_decay, asked.adam_beta2) == (0, 0.999)
    ranks = profile.hardware.gpus_per_node
    assert asked.per_device_train_batch_size * asked.gradient_accumulation_steps * ranks == 1024
    assert (asked.temperature, asked.top_p, asked.top_k) == (1, 1, -1)
    assert asked.max_completion_length == 4096 and asked.max_length == 2048
    assert asked.bf16 and asked.use_vllm and asked.vllm_mode == "colocate"
    # fp32 weights and whole checkpoints: nothing is rounded between verl and ms-swift.
    assert str(asked.torch_dtype) == "torch.float32" and not asked.deepspeed
    assert asked.fsdp_config["state_dict_type"] == "FULL_STATE_DICT"
    # Nothing that is not among the pins.
    assert asked.attn_impl == "sdpa" and not asked.padding_free


def test_checkpoints_are_whole_whatever_transformers_forwards(profile):
    """5.9 leaves out what FSDP's configuration says of them; accelerate asks the environment."""
    from accelerate.utils import FullyShardedDataParallelPlugin

    with patch.dict(os.environ, swift_command.environment(profile)):
        plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"


def saved(folder, step):
    """A checkpoint as ms-swift saves it under FSDP."""
    files = ("model.safetensors", "optimizer.bin", "pytorch_model_fsdp.bin", "trainer_state.json")
    (folder / f"checkpoint-{step}").mkdir()
    for name in files:
        (folder / f"checkpoint-{step}" / name).touch()


def test_a_checkpoint_is_measured_on_emptied_gpus_and_earlier_ones_become_policies(
    tmp_path, monkeypatch
):
    from types import SimpleNamespace

    from swift.utils.utils import import_external_file

    swift_plugin = import_external_file(str(swift_command.PLUGIN))  # as ms-swift does
    folder, done = tmp_path / "swift", []
    swift_command.write_inputs(params.load("smoke"), "forward", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(swift_plugin, "broadcast_object_list", lambda measured: measured)
    monkeypatch.setattr(
        swift_plugin,
        "token_entropy",
        lambda policy, profile: done.append(policy.name) or Estimate(0.05, 0.04, 0.06),
    )
    callback = swift_plugin.MeasureAndStop(SimpleNamespace(output_dir=str(folder)), None)
    for step in (1, 2, 3):
        saved(folder, step)
        callback.row = {"step": step}  # as on_log leaves it
        state = SimpleNamespace(is_world_process_zero=True, global_step=step)
        callback.on_save(callback.args, state, SimpleNamespace())
    assert done == ["emptied", "checkpoint-1", "emptied", "checkpoint-2", "emptied", "checkpoint-3"]
    left = {
        step: {file.name for file in (folder / f"checkpoint-{step}").iterdir()}
        for step in (1, 2, 3)
    }
    assert left[1] == {"model.safetensors", "trainer_state.json"}
    assert left[2] == left[3] >= {"model.safetensors", "optimizer.bin", "pytorch_model_fsdp.bin"}

    # Other ranks empty theirs, and wait for the measure.
    monkeypatch.setattr(
        swift_plugin,
        "broadcast_object_list",
        lambda measured: measured.insert(0, {"token_entropy": 0.05}),
    )
    callback.on_save(
        callback.args,
        SimpleNamespace(is_world_process_zero=False, global_step=4),
        SimpleNamespace(),
    )
    assert done[-2:] == ["checkpoint-3", "emptied"]


def test_thresholds_are_those_of_section_4_1(profile):
    assert profile.rl.collapse.entropy == 0.08
    assert profile.reheat.recovery_entropy == 0.12
    assert profile.rl.rr_temperature == profile.reheat.tau == 1.2


# --- End to end at toy size -----------------------------------------------------------------


@pytest.mark.slow
def test_weights_travel_unrounded_through_both_frameworks_with_vllm(tmp_path, monkeypatch):
    """The qwen3 profiles' path on CPU: vLLM rollouts in verl, ms-swift, vLLM in the evaluation.

    Neither framework trains anything here, verl because its first step warms up from 0: what comes
    out must be what went in, bit for bit, with its tokenizer and its sampling defaults.
    """
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, GenerationConfig

    monkeypatch.setattr(runs, "ROOT", tmp_path)
    # In four pieces: the embeddings and the head that is tied to them come in different ones.
    monkeypatch.setattr(verl_command, "_bucket", lambda policy: 1)
    profile = params.load(
        "smoke",
        {
            "rl.rollout_engine": "vllm",
            "rl.collapse.max_steps": 1,
            "rl.collapse.check_every": 1,
            "entropy.prompts": 8,
            "reheat.learning_rate": 1e-30,
            "reheat.max_steps": 1,
            "evaluation.engine": "vllm",
            "task.test_problems": 2,
            "evaluation.samples": 2,
        },
    )
    base = arms.base(profile)
    collapse = rl.collapse(profile)
    assert collapse.metrics["rollout_gap_max"].max() <= 1e-4  # vLLM and trainer, in nats
    assert 0 < collapse.metrics["truncated"].max() < 1  # the base policy's longest are cut
    hot = reheat.reheat(profile, collapse.policy, force=True)
    ours = load_file(base / "model.safetensors")
    for policy in (collapse.policy, hot.policy):
        theirs = load_file(policy / "model.safetensors")
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert {str(value.dtype) for value in theirs.values()} == {"torch.float32"}
        one, other = (AutoTokenizer.from_pretrained(path) for path in (base, policy))
        assert (one.get_vocab(), one.chat_template) == (other.get_vocab(), other.chat_template)
        defaults = [
            GenerationConfig.from_pretrained(path).to_diff_dict() for path in (base, policy)
        ]
        assert defaults[0] == defaults[1]

    run = evaluate.evaluate(profile, hot.policy, "hot")
    samples = pd.read_parquet(run.folder / "samples.parquet")
    assert len(samples) == 6 * 2 * 2
    assert (samples["token_ids"].map(len) == samples["tokens"]).all()
    assert set(samples) >= {"prompt", "gold", "answer", "ended", "correct"}
    assert export.export(run, tmp_path / "lm-eval").exists()
