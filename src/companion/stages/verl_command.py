"""verl's command line: a profile's RL as overrides of verl 0.9.1's `ppo_trainer`, and its environment.

Knows nothing of runs: what is trained from where, and when it ends, is said by `rl`.
"""

from __future__ import annotations

import glob
import math
import os
import re
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from companion import hashes, tasks
from companion.schema import Profile

ADAPTERS = Path(__file__).parents[1] / "adapters"
LOGGER = "trainer.logger"

OWN_RAY = {
    # Whatever cluster there is, of this user or in a variable left over.
    "+ray_kwargs.ray_init.address": "local",
    # Nobody looks at it, and a run's start waits for it: a minute where the GPU path first ran.
    "+ray_kwargs.ray_init.include_dashboard": False,
}
"""On one node: a Ray of the run's own, while it runs."""


def command(profile: Profile, **asked: Any) -> list[str]:
    """verl's command; `asked` as in `overrides`."""
    # Rollouts in the ranks leave verl's other processes nothing to do.
    here = profile.rl.rollout_engine == "transformers"
    module = "companion.adapters.verl_here" if here else "verl.trainer.main_ppo"
    return [sys.executable, "-W", "ignore", "-m", module, *overrides(profile, **asked)]


def overrides(
    profile: Profile,
    *,
    start: Path,
    folder: Path,
    steps: int,
    temperature: float,
    stop_entropy: float | None = None,
    kept: Sequence[int] = (),
    resume_from: Path | None = None,
) -> list[str]:
    """Overrides of verl 0.9.1's `ppo_trainer` config: the method, then the platform it runs on.

    Args:
        start: Hugging Face folder of the policy.
        folder: of the run; holds train.parquet, validation.parquet and profile.json.
        stop_entropy: end after the first checkpoint below this many nats.
        kept: saved steps whose policies stay in `folder`, as `policies/step-N`.
        resume_from: verl's own checkpoint, `…/global_step_N`, to go on from.
    """
    rl, task = profile.rl, profile.task
    steps_per_epoch = task.train_problems // rl.batch_size
    filters = "acc" if rl.dynamic_sampling else "null"
    method: dict[str, Any] = {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": True,
        "algorithm.use_kl_in_reward": False,
        "algorithm.filter_groups.enable": rl.dynamic_sampling,
        "algorithm.filter_groups.metric": "acc",  # the default counts the overlong penalty
        "data.train_files": _no_pattern(folder / "train.parquet"),
        "data.val_files": _no_pattern(folder / "validation.parquet"),
        "data.max_prompt_length": task.max_prompt_tokens,
        "data.max_response_length": rl.max_response_tokens,
        "data.train_batch_size": rl.batch_size,
        "data.seed": profile.seed,
        "data.dataloader_num_workers": 0,
        "actor_rollout_ref.model.path": start,
        "actor_rollout_ref.actor.strategy": "fsdp2",
        "actor_rollout_ref.actor.ppo_mini_batch_size": rl.mini_batch_size,
        "actor_rollout_ref.actor.clip_ratio_low": rl.clip_low,
        "actor_rollout_ref.actor.clip_ratio_high": rl.clip_high,
        "actor_rollout_ref.actor.clip_ratio_c": rl.clip_c,
        "actor_rollout_ref.actor.loss_agg_mode": "token-mean",
        "actor_rollout_ref.actor.use_kl_loss": False,
        "actor_rollout_ref.actor.entropy_coeff": rl.entropy_coeff or 0,
        "actor_rollout_ref.actor.data_loader_seed": profile.seed,
        "actor_rollout_ref.actor.optim.lr": rl.learning_rate,
        "actor_rollout_ref.actor.optim.lr_scheduler_type": "constant",
        "actor_rollout_ref.actor.optim.lr_warmup_steps": rl.warmup_steps,
        "actor_rollout_ref.actor.optim.weight_decay": rl.weight_decay,
        "actor_rollout_ref.actor.optim.clip_grad": rl.gradient_clip,  # actor.grad_clip is dead
        "actor_rollout_ref.actor.checkpoint.save_contents": "[model,optimizer,extra,hf_model]",
        "actor_rollout_ref.rollout.n": rl.responses_per_prompt,
        "actor_rollout_ref.rollout.temperature": temperature,
        "actor_rollout_ref.rollout.top_p": rl.rollout_top_p,
        "actor_rollout_ref.rollout.top_k": -1,
        "actor_rollout_ref.rollout.calculate_log_probs": True,
        "actor_rollout_ref.rollout.seed": profile.seed,
        # main_ppo ignores the older reward_model.* keys and would take a manager that knows no
        # overlong penalty.
        "reward.reward_manager.name": "dapo",
        "reward.custom_reward_function.path": ADAPTERS / "rewards.py",
        "reward.custom_reward_function.name": "compute_score",
        "+reward.reward_kwargs.max_resp_len": rl.max_response_tokens,
        "+reward.reward_kwargs.overlong_buffer_cfg.enable": rl.overlong_buffer_tokens > 0,
        "+reward.reward_kwargs.overlong_buffer_cfg.len": rl.overlong_buffer_tokens,
        "+reward.reward_kwargs.overlong_buffer_cfg.penalty_factor": rl.overlong_penalty,
        "+reward.reward_kwargs.overlong_buffer_cfg.log": True,
        "trainer.v1.sampler.custom_sampler.path": ADAPTERS / "replay_buffer.py",
        "trainer.v1.sampler.custom_sampler.name": "CountingReplayBuffer",
        "+trainer.v1.sampler.sampler_kwargs.policy": start,
        "+trainer.v1.sampler.sampler_kwargs.max_response_tokens": rl.max_response_tokens,
        "+trainer.v1.sampler.sampler_kwargs.batch_size": rl.batch_size,
        "+trainer.v1.sampler.sampler_kwargs.filter_metric": filters,
        "trainer.logger": "[console,file]",
        "trainer.total_training_steps": steps,
        "trainer.total_epochs": -(-steps // steps_per_epoch),
        "trainer.save_freq": rl.collapse.check_every,
        "trainer.max_actor_ckpt_to_keep": 2,  # the newest may not be measured yet
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
        "trainer.default_local_dir": folder / "verl",
        "trainer.resume_mode": "resume_path" if resume_from else "disable",
        "trainer.checkpoint_callback_class": "companion.adapters.entropy_stop.EntropyStop",
        "+companion.profile": folder / "profile.json",
        "+companion.stop_entropy": "null" if stop_entropy is None else stop_entropy,
    }
    for name, value in tasks.reward(profile).items():
        method[f"+reward.custom_reward_function.reward_kwargs.{name}"] = value
    if kept:
        method["+companion.kept"] = f"[{','.join(map(str, kept))}]"
    if resume_from:
        method["trainer.resume_from_path"] = resume_from
    here = profile.hardware.platform == "cpu"
    platform = _cpu(profile, start) if here else _gpu(profile, resume_from)
    ours = method | platform
    _check_further(rl.verl, {name.lstrip("+") for name in ours})
    return [f"{name}={_word(value)}" for name, value in ours.items() if name not in rl.verl] + [
        f"{name}={_in_hydra(value)}" for name, value in rl.verl.items()
    ]


def _check_further(further: Mapping[str, Any], ours: Container[str]) -> None:
    """ValueError if `rl.verl` says what the profile says, but for loggers, of which metrics need one."""
    for name, value in further.items():
        if name == LOGGER:
            if "file" not in value:
                raise ValueError(
                    f"rl.verl sets {name} to {value} and must keep 'file' in it, from which "
                    "metrics.jsonl is made"
                )
        elif name.lstrip("+") in ours:
            raise ValueError(
                f"rl.verl sets '{name}', which follows from a field of the profile; set that instead"
            )


def _in_hydra(value: Any) -> str:
    """A value of a profile in Hydra's grammar; text in quotes."""
    if isinstance(value, list):
        return f"[{','.join(map(_in_hydra, value))}]"
    if value is None:
        return "null"
    return _quoted(value) if isinstance(value, str) else str(value)


def _word(value: Any) -> str:
    """A value in Hydra's grammar. A path is quoted: a comma in it would begin a sweep.

    In quotes, a quote is escaped, and what escapes stands before a quote (hydra 1.3,
    grammar/OverrideLexer.g4).
    """
    return _quoted(str(value)) if isinstance(value, Path) else str(value)


def _quoted(text: str) -> str:
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", text) + "'"


def _no_pattern(path: Path) -> Path:
    """A file's path for `datasets.load_dataset`, to which brackets are a pattern."""
    return Path(glob.escape(str(path)))


def _gpu(profile: Profile, resume_from: Path | None) -> dict[str, Any]:
    rl, hardware = profile.rl, profile.hardware
    longest = profile.task.max_prompt_tokens + rl.max_response_tokens
    platform = {
        "trainer.n_gpus_per_node": hardware.gpus_per_node,
        "trainer.nnodes": hardware.nodes,
        "actor_rollout_ref.model.external_lib": "companion.adapters.weight_transfer",
        # Log-probabilities from hidden states, 512 tokens at a time and in fp32: whole logits would take
        # gigabytes, and without flash-attention verl goes through them token by token. The entropy comes
        # with them, before the update.
        "actor_rollout_ref.model.use_fused_kernels": True,
        "actor_rollout_ref.model.fused_kernel_options.impl_backend": "torch",
        "actor_rollout_ref.actor.calculate_entropy": False,
        "actor_rollout_ref.model.use_remove_padding": True,
        # flash-attention cannot be installed beside these pins. Packed answers do not see each other:
        # transformers takes their bounds from the position ids (tests/test_adapters_verl.py).
        "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
        "actor_rollout_ref.model.enable_gradient_checkpointing": True,
        "actor_rollout_ref.actor.use_dynamic_bsz": True,
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": longest,
        "actor_rollout_ref.actor.fsdp_config.model_dtype": "fp32",  # what is kept; it computes in bf16
        "actor_rollout_ref.actor.fsdp_config.param_offload": True,
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload": True,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.8,
        "actor_rollout_ref.rollout.seed": _rollout_seed(profile.seed, resume_from),
        "actor_rollout_ref.rollout.max_model_len": longest,
        "actor_rollout_ref.rollout.max_num_batched_tokens": max(longest, 8192),
        "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz": True,
        "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": longest,
    }
    if rl.importance_cap:
        correction = "algorithm.rollout_correction"
        platform |= {
            f"{correction}.rollout_is": "token",
            f"{correction}.rollout_is_threshold": rl.importance_cap,
        }
    return platform | (OWN_RAY if hardware.nodes == 1 else {})


def _rollout_seed(seed: int, resume_from: Path | None) -> int:
    """Of vLLM's engines, to which verl adds the number of each (vllm_async_server.py:343).

    Apart for every seed of a study, and for every start: an engine begins its stream anew with
    its process. Below 2**32, numpy's range.
    """
    step = int(resume_from.name.removeprefix("global_step_")) if resume_from else 0
    return (seed * 1_000_003 + step * 1009) % 2**31


def _cpu(profile: Profile, start: Path) -> dict[str, Any]:
    """fp32, since bf16 would quantise what is measured; a rank a core, each on a logical GPU."""
    rl, count, nodes = profile.rl, ranks(profile), profile.hardware.nodes
    # A micro-batch that fits the core's cache.
    rows = math.gcd(rl.mini_batch_size * rl.responses_per_prompt // (count * nodes), 32)
    fp32 = "+actor_rollout_ref.actor.fsdp_config.mixed_precision"
    platform = {
        "trainer.device": "cpu",
        "trainer.n_gpus_per_node": count,
        "trainer.nnodes": nodes,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        # Rollouts and trainer are both fp32 and agree to 1e-4 nats (`rollout_gap_max`), so the old
        # log-probabilities are the rollout's and are not computed a second time.
        "algorithm.rollout_correction.bypass_mode": True,
        "actor_rollout_ref.model.use_remove_padding": False,
        "actor_rollout_ref.model.enable_gradient_checkpointing": False,
        "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
        "actor_rollout_ref.actor.use_torch_compile": False,
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
        f"{fp32}.param_dtype": "fp32",
        f"{fp32}.reduce_dtype": "fp32",
        f"{fp32}.buffer_dtype": "fp32",
        "actor_rollout_ref.actor.policy_loss.loss_mode": "vanilla_with_gap",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": rows,
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": rows,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "actor_rollout_ref.rollout.free_cache_engine": False,
        "actor_rollout_ref.rollout.load_format": "auto",
    }
    if nodes == 1:  # a cluster was started by somebody else, with one logical GPU a rank
        platform |= OWN_RAY | {
            "+ray_kwargs.ray_init.num_gpus": count,
            "ray_kwargs.ray_init.num_cpus": 16,  # logical: verl's actors reserve more than two
        }
    if rl.rollout_engine == "transformers":
        server = "companion.adapters.rollout_server"
        agent = "actor_rollout_ref.rollout.agent"
        return platform | {
            "actor_rollout_ref.model.external_lib": server,
            "actor_rollout_ref.rollout.name": "transformers",
            # The sampler knows it (replay_buffer.py); rows without advantage need no update then.
            "actor_rollout_ref.actor.calculate_entropy": rl.entropy_coeff > 0,
            f"+{agent}.agent_loop_manager_class": f"{server}.BatchAgentLoopManager",
            "reward.num_workers": 0,  # the manager scores in the task runner
        }
    bucket = "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes"
    return platform | {
        "actor_rollout_ref.model.external_lib": "companion.adapters.weight_transfer",
        "actor_rollout_ref.actor.calculate_entropy": True,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.agent.num_workers": 1,
        "actor_rollout_ref.rollout.dtype": "float32",
        "actor_rollout_ref.rollout.enforce_eager": True,
        "+actor_rollout_ref.rollout.enable_sleep_mode": False,
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.1,
        "actor_rollout_ref.rollout.max_model_len": profile.task.max_prompt_tokens
        + rl.max_response_tokens,
        "actor_rollout_ref.rollout.max_num_batched_tokens": 2048,
        bucket: _bucket(start),
        "reward.num_workers": 1,
    }


def _bucket(policy: Path) -> int:
    """MiB of shared memory through which vLLM gets the weights, in fp32: no tensor may be larger."""
    if not policy.is_dir():  # a plan's
        return 64
    shapes = [
        entry["shape"]
        for file in hashes.weights(policy)
        for entry in hashes.tensors(file)[0].values()
    ]
    return max(64, -(-4 * max(map(math.prod, shapes)) // 2**20))


def ranks(profile: Profile) -> int:
    """Processes that train on a CPU: a single-threaded one a core, data-parallel over gloo.

    Two threads of one process gained nothing at this size (6.3 s a step, as with one), two
    processes did: 4.6 s, over a few steps of answers of 55 tokens. vLLM has threads of its own.
    """
    return profile.hardware.threads if profile.rl.rollout_engine == "transformers" else 1


def environment(profile: Profile, folder: Path) -> dict[str, str]:
    """What verl's processes find in their environment, beside this process's own."""
    common = {
        "VERL_FILE_LOGGER_PATH": str(folder / "verl.jsonl"),
        "PYTHONHASHSEED": "0",  # verl orders prompts by a set of strings
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    if profile.hardware.platform == "gpu":
        return common | {"VLLM_PLUGINS": ""}  # ms-swift registers one, for its own engine
    cpu = common | {
        # Unset, ten times slower.
        "OMP_NUM_THREADS": str(profile.hardware.threads // ranks(profile)),
        "GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"],  # see companion/__init__.py
        "VERL_PLATFORM": "cpu",
        "VERL_ENGINE_DEVICE": "cuda",
        "VERL_USE_EXTERNAL_MODULES": "companion.adapters.verl_cpu",
        "RAY_worker_niceness": "0",  # 15 would let a notebook starve the trainer
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",  # sixteen workers nobody asks for
        "RAY_raylet_start_wait_time_s": "300",  # 30, and a busy machine fails a whole study
    }
    if profile.rl.rollout_engine == "transformers":
        return cpu
    return cpu | {
        "PYTHONPATH": str(folder / "names"),  # see _name_vllm
        "VLLM_PLUGINS": "",  # it would import torchvision
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_NO_USAGE_STATS": "1",
    }
