"""RL with verl's DAPO: from a profile to one `python -m verl.trainer.main_ppo` run.

`collapse` trains the base policy until its entropy collapses; `resume` continues from a policy,
one call an arm. What differs between arms is the policy they start from, or the temperature they
roll out at, and nothing else: fresh optimizer, same warm-up, prompt order and number of steps.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from companion import evaluate, policies, runs, tasks
from companion.launch import launch
from companion.params import Profile
from companion.runs import Run

ADAPTERS = Path(__file__).parent / "adapters"
COLUMNS = {
    "reward": "critic/rewards/mean",
    "rollout_entropy": "actor/entropy_loss",
    "response_length": "response_length/mean",
    "truncated": "response_length/clip_ratio",
    "grad_norm": "actor/grad_norm",
    "clip_fraction": "actor/pg_clipfrac",
    "rollout_gap": "actor/rollout_gap",
    "token_entropy": "token_entropy",
    "seconds": "perf/time_per_step",
}
"""Columns of metrics.jsonl, and what verl 0.9.1 calls them; verl.jsonl holds everything.

`reward` includes the overlong penalty; `rollout_entropy` (nats) is of the policy before the
update, on logits divided by the rollout temperature: not comparable with RR's. `token_entropy`
is the one measure, of the checkpoint saved after the step. Lengths in tokens, `truncated` as a
fraction. `rollout_gap` (nats, CPU platform): the largest difference between the log-probability
of a token as sampled and as trained on.
"""


def collapse_run(profile: Profile) -> Run:
    """The run that `collapse` makes or made."""
    settings = _settings(profile, profile.rl.rollout_temperature) | {
        "stop_entropy": profile.rl.collapse.entropy,
        "steps": profile.rl.collapse.max_steps,
    }
    start = policies.base(profile)
    return runs.open_run(profile, "rl", f"collapse-seed{profile.seed}", settings, {"policy": start})


def collapse(profile: Profile) -> Run:
    """DAPO from the base policy until a checkpoint's token entropy falls below the threshold.

    The run's result holds `step`, `token_entropy` (nats, of the policy kept) and `collapsed`:
    False if `rl.collapse.max_steps` came first.
    """
    check(profile)
    run = collapse_run(profile)
    if not run.finished:
        policies.check_prompts(profile, run.inputs["policy"])
        _train(profile, run, "Collapsed", profile.rl.rollout_temperature)
    return run


def resume(
    profile: Profile,
    start: Path,
    *,
    arm: str,
    temperature: float | None = None,
    keep_optimizer: bool = False,
) -> Run:
    """`rl.continued_steps` of DAPO from the policy in `start`.

    Args:
        arm: what the run is called, such as its row of Table 1.
        temperature: of the rollouts; the profile's if None.
        keep_optimizer: take over the optimizer of this profile's collapse run (a sensitivity
            check); `start` must be the policy that run ended with.

    Raises:
        ValueError: an impossible setting, or `start` is no policy. Nothing has been trained then.
        RuntimeError: verl failed; the message ends with its last lines.
    """
    check(profile)
    temperature = profile.rl.rollout_temperature if temperature is None else temperature
    if not 0 < temperature < math.inf:
        raise ValueError(
            f"temperature is {temperature} and must be a positive number, for example 1.2"
        )
    optimizer = _optimizer_of(collapse_run(profile), start) if keep_optimizer else None
    settings = _settings(profile, temperature) | {
        "stop_entropy": None,
        "steps": profile.rl.continued_steps,
        "keep_optimizer": keep_optimizer,
    }
    run = runs.open_run(
        profile,
        "rl",
        f"{runs.slug(arm)}-seed{profile.seed}",
        settings,
        {"policy": runs.check_policy(start)},
    )
    if not run.finished:
        policies.check_prompts(profile, run.inputs["policy"])
        _train(profile, run, arm, temperature, optimizer)
    return run


def check(profile: Profile) -> None:
    """ValueError for a combination of settings that verl, or reheating after it, would trip over."""
    rl, task = profile.rl, profile.task
    if rl.batch_size > task.train_problems:
        raise ValueError(
            f"rl.batch_size is {rl.batch_size} and must not exceed task.train_problems "
            f"({task.train_problems})"
        )
    if rl.responses_per_prompt < 2:
        raise ValueError(
            "rl.responses_per_prompt is 1 and must be at least 2: advantages compare answers to "
            "the same prompt"
        )
    if rl.overlong_buffer_tokens >= rl.max_response_tokens:
        raise ValueError(
            f"rl.overlong_buffer_tokens is {rl.overlong_buffer_tokens} and must be smaller than "
            f"rl.max_response_tokens ({rl.max_response_tokens})"
        )
    if profile.hardware.platform == "gpu" and rl.rollout_engine != "vllm":
        raise ValueError(f"rl.rollout_engine is '{rl.rollout_engine}' and must be 'vllm' on GPUs")
    _check_shares(profile)


def _check_shares(profile: Profile) -> None:
    """ValueError unless every rank, of reheating too, gets an equal share of each update."""
    rl, heat, hardware = profile.rl, profile.reheat, profile.hardware
    gpu = hardware.platform == "gpu"
    each = "gpus_per_node" if gpu else "threads"
    ranks = (hardware.gpus_per_node if gpu else _ranks(profile)) * hardware.nodes
    updates = {
        "rl.mini_batch_size x rl.responses_per_prompt": rl.mini_batch_size
        * rl.responses_per_prompt,
    }
    if gpu:  # on a CPU ms-swift is one process
        updates |= {
            f"{name} / reheat.micro_batch_size": batch / heat.micro_batch_size
            for name, batch in (
                ("reheat.batch_size", heat.batch_size),
                ("analysis.long_batch_size", profile.analysis.long_batch_size),
            )
        }
    for name, answers in updates.items():
        if answers % ranks:
            raise ValueError(
                f"hardware.{each} is {getattr(hardware, each)} and, times hardware.nodes "
                f"({hardware.nodes}), must divide {name} ({answers:g}): every rank trains on an "
                "equal share"
            )


# --- verl -----------------------------------------------------------------------------------


def command(profile: Profile, **asked: Any) -> list[str]:
    """verl's command; `asked` as in `overrides`."""
    words = [sys.executable, "-W", "ignore", "-m", "verl.trainer.main_ppo"]
    return [*words, *overrides(profile, **asked)]


def overrides(
    profile: Profile,
    *,
    start: Path,
    folder: Path,
    steps: int,
    temperature: float,
    stop_entropy: float | None = None,
    resume_from: Path | None = None,
) -> list[str]:
    """Overrides of verl 0.9.1's `ppo_trainer` config: the method, then the platform it runs on.

    Args:
        start: Hugging Face folder of the policy.
        folder: of the run; holds train.parquet, validation.parquet and profile.json.
        stop_entropy: end after the first checkpoint below this many nats.
        resume_from: verl's own checkpoint, `…/global_step_N`, to go on from.
    """
    rl, task = profile.rl, profile.task
    steps_per_epoch = task.train_problems // rl.batch_size
    method: dict[str, Any] = {
        "algorithm.adv_estimator": "grpo",
        "algorithm.norm_adv_by_std_in_grpo": True,
        "algorithm.use_kl_in_reward": False,
        "algorithm.filter_groups.enable": rl.dynamic_sampling,
        "algorithm.filter_groups.metric": "acc",  # the default counts the overlong penalty
        "data.train_files": folder / "train.parquet",
        "data.val_files": folder / "validation.parquet",
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
        "actor_rollout_ref.actor.entropy_coeff": 0,
        "actor_rollout_ref.actor.calculate_entropy": True,
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
    if resume_from:
        method["trainer.resume_from_path"] = resume_from
    platform = _cpu(profile) if profile.hardware.platform == "cpu" else _gpu(profile)
    return [f"{name}={value}" for name, value in (method | platform).items()]


def _gpu(profile: Profile) -> dict[str, Any]:
    rl, hardware = profile.rl, profile.hardware
    longest = profile.task.max_prompt_tokens + rl.max_response_tokens
    platform = {
        "trainer.n_gpus_per_node": hardware.gpus_per_node,
        "trainer.nnodes": hardware.nodes,
        "actor_rollout_ref.model.use_remove_padding": True,
        "actor_rollout_ref.model.enable_gradient_checkpointing": True,
        "actor_rollout_ref.actor.use_dynamic_bsz": True,
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": longest,
        "actor_rollout_ref.actor.fsdp_config.model_dtype": "fp32",  # what is kept; it computes in bf16
        "actor_rollout_ref.actor.fsdp_config.param_offload": True,
        "actor_rollout_ref.actor.fsdp_config.optimizer_offload": True,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.8,
        "actor_rollout_ref.rollout.max_model_len": longest,
        "actor_rollout_ref.rollout.max_num_batched_tokens": max(longest, 8192),
        "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz": True,
        "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": longest,
    }
    if hardware.nodes == 1:  # whatever cluster there is, of this user or in a variable left over
        platform["+ray_kwargs.ray_init.address"] = "local"
    return platform


def _cpu(profile: Profile) -> dict[str, Any]:
    """fp32, since bf16 would quantise what is measured; a rank a core, each on a logical GPU."""
    rl, ranks, nodes = profile.rl, _ranks(profile), profile.hardware.nodes
    # A micro-batch that fits the core's cache.
    rows = math.gcd(rl.mini_batch_size * rl.responses_per_prompt // (ranks * nodes), 32)
    fp32 = "+actor_rollout_ref.actor.fsdp_config.mixed_precision"
    platform = {
        "trainer.device": "cpu",
        "trainer.n_gpus_per_node": ranks,
        "trainer.nnodes": nodes,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        # Rollouts and trainer are both fp32 and agree to 1e-4 nats (`rollout_gap`), so the old
        # log-probabilities are the rollout's and are not computed a second time.
        "algorithm.rollout_correction.bypass_mode": True,
        "actor_rollout_ref.model.use_remove_padding": False,  # needs flash-attention
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
        platform |= {
            "+ray_kwargs.ray_init.address": "local",
            "+ray_kwargs.ray_init.include_dashboard": False,
            "+ray_kwargs.ray_init.num_gpus": ranks,
            "ray_kwargs.ray_init.num_cpus": 16,  # logical: verl's actors reserve more than two
        }
    if rl.rollout_engine == "transformers":
        server = "companion.adapters.rollout_server"
        return platform | {
            "actor_rollout_ref.model.external_lib": server,
            "actor_rollout_ref.rollout.name": "transformers",
            "+actor_rollout_ref.rollout.agent.agent_loop_manager_class": f"{server}.BatchAgentLoopManager",
            "reward.num_workers": 0,  # the manager scores in the task runner
        }
    return platform | {
        "actor_rollout_ref.model.external_lib": "companion.adapters.verl_loss",
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.agent.num_workers": 1,
        "actor_rollout_ref.rollout.dtype": "float32",
        "actor_rollout_ref.rollout.enforce_eager": True,
        "+actor_rollout_ref.rollout.enable_sleep_mode": False,
        "actor_rollout_ref.rollout.gpu_memory_utilization": 0.1,
        "actor_rollout_ref.rollout.max_model_len": profile.task.max_prompt_tokens
        + rl.max_response_tokens,
        "actor_rollout_ref.rollout.max_num_batched_tokens": 2048,
        "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes": 64,
        "reward.num_workers": 1,
    }


def _ranks(profile: Profile) -> int:
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
        return common
    cpu = common | {
        # Unset, ten times slower.
        "OMP_NUM_THREADS": str(profile.hardware.threads // _ranks(profile)),
        "GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"],  # see companion/__init__.py
        "VERL_PLATFORM": "cpu",
        "VERL_ENGINE_DEVICE": "cuda",
        "VERL_USE_EXTERNAL_MODULES": "companion.adapters.verl_cpu",
        "RAY_worker_niceness": "0",  # 15 would let a notebook starve the trainer
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",  # sixteen workers nobody asks for
    }
    if profile.rl.rollout_engine == "transformers":
        return cpu
    return cpu | {
        "PYTHONPATH": str(folder / "names"),  # see _name_vllm
        "VLLM_PLUGINS": "",  # ms-swift registers one that imports torchvision
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
        "VLLM_NO_USAGE_STATS": "1",
    }


def _name_vllm(folder: Path) -> None:
    """The package vllm-cpu under the name by which verl and vLLM look for it, in `names`/."""
    version = importlib.metadata.version("vllm-cpu")
    info = folder / "names" / f"vllm-{version}+cpu.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
    (info / "METADATA").write_text(text)


def write_data(profile: Profile, folder: Path) -> None:
    """The task as verl reads it: train.parquet, and a validation.parquet it insists on."""
    train, validation = tasks.training(profile), tasks.mixed(profile, "validation", 1)
    for split, questions in (("train", train), ("validation", validation)):
        rows = [
            {
                "data_source": f"{profile.task.name}/{question.suite}",
                "prompt": [{"role": "user", "content": question.prompt}],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": question.gold},
                "extra_info": {"index": i, "key": question.key},
            }
            for i, question in enumerate(questions)
        ]
        pd.DataFrame(rows).to_parquet(folder / f"{split}.parquet", index=False)


# --- One run --------------------------------------------------------------------------------


def _settings(profile: Profile, temperature: float) -> dict[str, Any]:
    """What the fingerprint of every RL run covers, beside its steps and its start."""
    method = profile.rl.model_dump(
        exclude={
            "collapse",
            "continued_steps",
            "rr_temperature",
            "rollout_temperature",
            "arms",
        }
    )
    return {
        "seed": profile.seed,
        **method,
        "rollout_temperature": temperature,
        "check_every": profile.rl.collapse.check_every,
        "train_data": evaluate.training_hash(profile),
        **evaluate.measure(profile),
    }


def _optimizer_of(run: Run, policy: Path) -> Path:
    """verl's checkpoint behind the policy that `run` ended with."""
    if not run.finished or runs.content_hash(policy) != runs.content_hash(run.policy):
        raise ValueError(
            "keep_optimizer needs the policy of this profile's own collapse run, which holds the "
            "optimizer; call rl.collapse first and start from its policy"
        )
    return run.folder / "verl" / f"global_step_{run.result['step']}"


def _train(
    profile: Profile, run: Run, arm: str, temperature: float, optimizer: Path | None = None
) -> None:
    settings = run.identity["settings"]
    steps, stop_entropy = settings["steps"], settings["stop_entropy"]
    with run.recording(arm=arm, data=tasks.source(profile)) as result:
        rows = _rewind(run)
        done = rows[-1]["step"] if rows else 0
        _write_inputs(profile, run.folder)
        variables = environment(profile, run.folder)
        begin = run.folder / "start" / "global_step_0" if optimizer else None
        from_nothing, words = (
            command(
                profile,
                start=run.inputs["policy"],
                folder=run.folder,
                steps=steps,
                temperature=temperature,
                stop_entropy=stop_entropy,
                resume_from=checkpoint,
            )
            for checkpoint in (
                begin,
                run.folder / "verl" / f"global_step_{done}" if done else begin,
            )
        )
        run.note_command(from_nothing, variables, done or None)
        if optimizer and not done:
            # As step 0 and without verl's data position: the prompts of every other arm.
            shutil.copytree(optimizer / "actor", begin / "actor", dirs_exist_ok=True)
        if not done:
            start = evaluate.token_entropy(run.inputs["policy"], profile)
            rows = [{"step": 0, "token_entropy": start.value}]
        if not (done and _decided(rows[-1], steps, stop_entropy)):
            begun = f"goes on after step {done}" if done else "starts"
            print(f"{run.name}: verl {begun}", flush=True)
            report = _follow(run, rows, steps)
            launch(
                words,
                variables,
                run.folder / "verl.log",
                report,
                on_cluster=profile.hardware.nodes > 1,
            )
            report()
        last = _read(run.folder / "metrics.jsonl")[-1]
        _copy_policy(run.folder / "verl" / f"global_step_{last['step']}", run.policy)
        result.update(step=last["step"], token_entropy=last["token_entropy"])
        if stop_entropy is not None:
            result["collapsed"] = last["token_entropy"] < stop_entropy
            if not result["collapsed"]:
                print(
                    f"  entropy is still {last['token_entropy']:.3f} nats after "
                    f"rl.collapse.max_steps ({steps}), above rl.collapse.entropy "
                    f"({stop_entropy}); the last checkpoint is kept"
                )
    _trim(run)


def _write_inputs(profile: Profile, folder: Path) -> None:
    """What verl and our plug-ins in its processes read."""
    write_data(profile, folder)
    (folder / "profile.json").write_text(profile.model_dump_json())
    if profile.hardware.platform == "cpu" and profile.rl.rollout_engine == "vllm":
        _name_vllm(folder)


def _trim(run: Run) -> None:
    """Delete verl's checkpoints of a finished run, four times its policy's size each.

    Only the one a collapse run ended with stays: an arm may take over its optimizer.
    """
    shutil.rmtree(run.folder / "start", ignore_errors=True)  # an optimizer taken over
    kept = run.result["step"] if "collapsed" in run.result else None
    for checkpoint in (run.folder / "verl").glob("global_step_*"):
        if checkpoint.name != f"global_step_{kept}":
            shutil.rmtree(checkpoint)


def _decided(row: dict[str, Any], steps: int, stop_entropy: float | None) -> bool:
    return row["step"] >= steps or (
        stop_entropy is not None and row["token_entropy"] < stop_entropy
    )


def _rewind(run: Run) -> list[dict[str, Any]]:
    """The rows of an interrupted run up to its newest measured checkpoint; forgets the rest.

    The first row is step 0, the policy before any update; no rows if nothing else is left.
    """
    folder = run.folder
    rows = _read(folder / "metrics.jsonl")
    measured = [
        row["step"]
        for row in rows
        if "token_entropy" in row and (folder / "verl" / f"global_step_{row['step']}").is_dir()
    ]
    rows = [row for row in rows if measured and row["step"] <= max(measured)]
    (folder / "verl.jsonl").unlink(missing_ok=True)
    _write(folder / "metrics.jsonl", rows)
    return rows


def _follow(run: Run, earlier: list[dict[str, Any]], steps: int) -> Callable[[], None]:
    """Keeps metrics.jsonl up to date with what verl logs, and says how it goes."""
    size = printed = 0

    def report() -> None:
        nonlocal size, printed
        log = run.folder / "verl.jsonl"
        if not log.exists() or log.stat().st_size == size:
            return
        size = log.stat().st_size
        logged: dict[int, dict[str, Any]] = {}
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                entry = json.loads(line)
                logged.setdefault(entry["step"], {}).update(entry["data"])
        rows = [
            {"step": step}
            | {ours: values[name] for ours, name in COLUMNS.items() if name in values}
            for step, values in logged.items()
            if COLUMNS["reward"] in values
        ]
        if len(rows) > printed:
            _write(run.folder / "metrics.jsonl", earlier + rows)
            for row in rows[printed:]:
                _print(row, rows, steps)
            printed = len(rows)

    return report


def _print(row: dict[str, Any], rows: list[dict[str, Any]], steps: int) -> None:
    pace = sum(r["seconds"] for r in rows[-20:]) / len(rows[-20:])
    minutes, seconds = divmod(round(pace * (steps - row["step"])), 60)
    measured = f"  token entropy {row['token_entropy']:.4f}" if "token_entropy" in row else ""
    print(
        f"  step {row['step']}/{steps}  reward {row['reward']:+.3f}"
        f"  entropy {row['rollout_entropy']:.3f} nats  {row['response_length']:.0f} tokens"
        f"  {row['seconds']:.1f} s/step  at most {minutes}:{seconds:02d} left{measured}",
        flush=True,
    )


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    partial.replace(path)


def _copy_policy(checkpoint: Path, policy: Path) -> None:
    shutil.rmtree(policy, ignore_errors=True)
    shutil.copytree(checkpoint / "actor" / "huggingface", policy)
