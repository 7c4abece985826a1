"""Policy reheating: a collapsed policy, one ms-swift GKD run, the first checkpoint hot enough.

`reheat` is the method (TS-OPSD, §3.2): on-policy self-distillation towards softmax(z / tau).
`scale` is its exact control, which the paper does not run: dividing the weight of the final
RMSNorm by tau divides every logit by tau, without any training.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from companion import evaluate, policies, runs, tasks
from companion.analysis.statistics import Estimate
from companion.evaluate import entropy_row, token_entropy
from companion.launch import launch
from companion.objective import Direction
from companion.params import Profile, check_tau
from companion.runs import Run

PLUGIN = Path(__file__).parent / "adapters" / "swift_plugin.py"
PROMPTS = "prompts.jsonl"
PLAN = "plan.json"
"""What the plug-in has to know and ms-swift has no argument for; in ms-swift's output folder."""
FSDP = {
    "fsdp": "full_shard auto_wrap",
    "fsdp_config": {
        "fsdp_version": 2,
        "reshard_after_forward": True,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_ram_efficient_loading": True,
        "state_dict_type": "FULL_STATE_DICT",
        "activation_checkpointing": True,
    },
}
"""ms-swift's own preset (config/fsdp2.json), but whole checkpoints in Hugging Face's layout."""
POLICY_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors*",
    "tokenizer*",
    "*.jinja",
    "*.txt",
)
"""The Hugging Face files of an ms-swift checkpoint; the others are the trainer's state."""


def reheat(
    profile: Profile,
    start: Path,
    *,
    direction: Direction = "forward",
    tau: float | None = None,
    force: bool = False,
) -> Run:
    """Distil the policy in `start` towards its own distribution at temperature `tau`.

    Stops at the first checkpoint whose mean token entropy at T = 1 reaches the profile's
    recovery entropy; for tau < 1 (cooling) the other way round, at the collapse threshold.
    metrics.jsonl has one line a step: `token_entropy` (nats, of the checkpoint after the step;
    step 0 is `start`), and of the step's rollouts, before the update, `rollout_entropy` and `kl`
    (nats a token), `grad_norm`, `response_length` (tokens), `truncated` (fraction) and `seconds`
    (rollouts and update, without saving and measuring).
    The run's result holds `token_entropy`, `step` and `recovered` of the policy it kept.

    Args:
        start: Hugging Face folder of the policy, with the tokenizer of the task.
        tau: the teacher's temperature; the profile's if None.
        force: reheat even a policy that is not collapsed (it diverges, App. C).

    Raises:
        ValueError: an impossible `tau`, a folder that is no policy of this task, or a policy
            that is not collapsed. Nothing has been trained then.
        RuntimeError: entropy passed the profile's ceiling (App. D), or ms-swift failed.
    """
    profile = with_tau(profile, profile.reheat.tau if tau is None else tau)
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction is '{direction}' and must be 'forward' or 'reverse'")
    start = check_same_task(profile, runs.check_policy(start))
    tau = profile.reheat.tau
    run = runs.open_run(
        profile,
        "reheat",
        f"{direction}-tau{tau:.4g}-seed{profile.seed}",
        {
            "direction": direction,
            "seed": profile.seed,
            **profile.reheat.model_dump(),
            "collapse_entropy": profile.rl.collapse.entropy,
            "train_data": evaluate.training_hash(profile),
            **evaluate.measure(profile),
        },
        {"policy": start},
    )
    if run.finished:
        return run

    run.check_may_be_made()
    policies.check_prompts(profile, start)
    before = token_entropy(start, profile)
    if not force:
        check_gate(profile, before.value)
    words, settings = command(profile, start, run.folder), environment(profile)
    with run.recording(data=tasks.source(profile)) as result:
        done, checkpoint = _last_measured(run, before)
        run.note_command(words, settings, done or None)
        if checkpoint:
            words += ["--resume_from_checkpoint", str(checkpoint)]
        if not _decided(profile, run):
            write_inputs(profile, direction, run.folder)
            print(f"{run.name}: ms-swift starts", flush=True)
            launch(
                words,
                settings,
                run.folder / "ms-swift.log",
                _reporter(profile, run),
                on_cluster=profile.hardware.nodes > 1,
            )
        step, reached = _last(run)
        if diverged(profile, reached):
            raise RuntimeError(
                f"reheating stopped before it diverges: after step {step} the mean token entropy "
                f"is {reached:.3f} nats, above reheat.ceiling_entropy "
                f"({profile.reheat.ceiling_entropy}); lower reheat.learning_rate, now "
                f"{profile.reheat.learning_rate:g}"
            )
        _keep(profile, run, step)
        result.update(
            start_entropy=before.value,
            token_entropy=reached,
            step=step,
            recovered=crossed(profile, reached),
        )
    if not result["recovered"] and profile.reheat.recovery_entropy:
        print(
            f"  entropy is still {reached:.3f} nats after reheat.max_steps ({step}) steps, short "
            "of its target; the last checkpoint is kept"
        )
    return run


def checkpoints(run: Run) -> dict[int, Path]:
    """The policies of a run's path by their step; a finished run has them if keep_checkpoints."""
    folders = (run.folder / "swift").glob("checkpoint-*")
    return dict(sorted((int(folder.name.split("-")[1]), folder) for folder in folders))


# --- The gate and the stop ------------------------------------------------------------------


def check_gate(profile: Profile, entropy: float) -> None:
    """ValueError unless a policy of this mean token entropy (nats) needs what tau would do."""
    threshold = profile.rl.collapse.entropy
    if profile.reheat.tau > 1 and entropy > threshold:
        raise ValueError(
            f"the policy's mean token entropy is {entropy:.3f} nats, above rl.collapse.entropy "
            f"({threshold}): reheating is for collapsed policies and diverges on others (App. C); "
            "pass force=True to do it anyway"
        )
    if profile.reheat.tau < 1 and entropy <= threshold:
        raise ValueError(
            f"the policy's mean token entropy is {entropy:.3f} nats, not above "
            f"rl.collapse.entropy ({threshold}): it is collapsed already and needs no cooling; "
            "pass force=True to do it anyway"
        )


def crossed(profile: Profile, entropy: float) -> bool:
    """Whether a checkpoint of this mean token entropy (nats) ends the run: hot or cold enough."""
    if profile.reheat.tau > 1:
        return entropy >= (profile.reheat.recovery_entropy or math.inf)
    return entropy <= profile.rl.collapse.entropy


def diverged(profile: Profile, entropy: float) -> bool:
    """Whether heating took entropy (nats) out of the regime where it is under control (App. D)."""
    return profile.reheat.tau > 1 and entropy > (profile.reheat.ceiling_entropy or math.inf)


def with_tau(profile: Profile, tau: float) -> Profile:
    """The profile with another teacher temperature; ValueError for one that cannot be."""
    reheat = profile.reheat.model_copy(update={"tau": check_tau(tau)})
    return profile.model_copy(update={"reheat": reheat})


def check_same_task(profile: Profile, policy: Path) -> Path:
    """`policy` if it reads and writes the tokens of the profile's base policy, else ValueError."""
    from transformers import AutoTokenizer

    own, base = (AutoTokenizer.from_pretrained(path) for path in (policy, policies.base(profile)))
    if own.get_vocab() != base.get_vocab() or own.chat_template != base.chat_template:
        raise ValueError(
            f"the policy in '{policy.name}' has another vocabulary or chat template than "
            f"'{profile.task.base}'; give a policy that was trained from that base"
        )
    return policy


# --- ms-swift -------------------------------------------------------------------------------


def command(profile: Profile, start: Path, folder: Path) -> list[str]:
    """The `swift rlhf` command (ms-swift 4.6.0): the method, then the platform it runs on.

    It reads what `write_inputs` puts into the run's `folder`.
    """
    settings, hardware = profile.reheat, profile.hardware
    ranks = hardware.gpus_per_node * hardware.nodes if hardware.platform == "gpu" else 1
    accumulation, rest = divmod(settings.batch_size, settings.micro_batch_size * ranks)
    if rest:
        raise ValueError(
            f"reheat.batch_size is {settings.batch_size} and must be a multiple of "
            f"reheat.micro_batch_size x processes ({settings.micro_batch_size} x {ranks})"
        )
    method: dict[str, Any] = {
        "rlhf_type": "gkd",
        "external_plugins": PLUGIN,
        "callbacks": "measure_and_stop",
        "model": start,
        "model_type": "qwen3",
        "tuner_type": "full",
        "template": "chat_template",  # the plug-in's
        "dataset": folder / PROMPTS,
        "split_dataset_ratio": 0,
        "load_from_cache_file": False,
        # On-policy rollouts of the student as it is: T = 1, nothing cut off.
        "lmbda": 1,
        "temperature": 1,
        "top_p": 1,
        "top_k": -1,
        "max_length": profile.task.max_prompt_tokens,
        "max_completion_length": settings.max_completion_tokens,
        # One rollout batch, one update.
        "per_device_train_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "optim": {"adamw": "adamw_torch_fused", "sgd": "sgd"}[settings.optimizer],
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "constant",
        "weight_decay": settings.weight_decay,
        "adam_beta2": settings.adam_beta2,
        "max_grad_norm": settings.gradient_clip,
        "max_steps": settings.max_steps,
        "save_strategy": "steps",
        "save_steps": settings.check_every,
        "logging_steps": 1,
        "report_to": "none",
        "check_model": False,  # asks a hub
        "seed": profile.seed,
        "data_seed": profile.seed,
        "add_version": False,
        "output_dir": folder / "swift",
    }
    if not settings.keep_checkpoints:
        method["save_total_limit"] = 2  # the newest may not be measured yet
    platform: dict[str, Any] = {
        "cpu": {
            "use_cpu": True,
            "torch_dtype": "float32",
            "fp16": False,  # on by default with float32
            "bf16": False,
            "attn_impl": "sdpa",
            "use_vllm": False,
            "gradient_checkpointing": False,
            "dataloader_num_workers": 0,
        },
        "gpu": {
            # fp32 weights, sharded, and bf16 compute. Not DeepSpeed: it would save 16-bit weights,
            # whose rounding is larger than what a few steps at 1e-6 change.
            "torch_dtype": "float32",
            "fp16": False,
            "bf16": True,
            "fsdp": json.dumps(FSDP),
            "attn_impl": "flash_attn",
            "padding_free": True,
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": 0.5,
            "vllm_max_model_len": (profile.task.max_prompt_tokens + settings.max_completion_tokens),
            "sleep_level": 1,
            "offload_optimizer": True,
            "gradient_checkpointing": False,  # FSDP's own is on
        },
    }[hardware.platform]
    words = [sys.executable, "-m", "swift.cli.main", "rlhf"]
    if hardware.nodes > 1:
        everywhere = [str(hardware.nodes), str(hardware.gpus_per_node)]
        words = [sys.executable, "-m", "companion.adapters.every_node", *everywhere, *words]
    for name, value in (method | platform).items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words


def environment(profile: Profile) -> dict[str, str]:
    """What ms-swift's process finds in its environment, beside this process's own."""
    hardware = profile.hardware
    if hardware.platform == "gpu":
        return {"NPROC_PER_NODE": str(hardware.gpus_per_node)}
    return {
        "OMP_NUM_THREADS": str(hardware.threads),
        "GOMP_SPINCOUNT": os.environ["GOMP_SPINCOUNT"],  # see companion/__init__.py
        "CUDA_VISIBLE_DEVICES": "",
    }


def write_inputs(profile: Profile, direction: Direction, folder: Path) -> None:
    """What ms-swift reads: the task's training prompts, and the plug-in's plan.

    The prompts are repeated, or the last ones left out, to fill whole batches: at an epoch's end
    the trainer would update on whatever is left.
    """
    prompts = [question.prompt for question in tasks.training(profile)]
    batches = max(1, len(prompts) // profile.reheat.batch_size)
    (folder / PROMPTS).write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": prompt}]}) + "\n"
            for prompt in itertools.islice(
                itertools.cycle(prompts), batches * profile.reheat.batch_size
            )
        )
    )
    plan = {"direction": direction, "profile": profile.model_dump()}
    (folder / "swift").mkdir(exist_ok=True)
    (folder / "swift" / PLAN).write_text(json.dumps(plan))


def _last_measured(run: Run, before: Estimate) -> tuple[int, Path | None]:
    """The newest measured checkpoint of an interrupted run and its step; forgets what came after.

    Leaves metrics.jsonl ready to be appended to; at a start from nothing with step 0 alone.
    """
    path = run.folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = {json.loads(line)["step"]: line for line in text.splitlines(keepends=True)}
    saved = checkpoints(run)
    step = max(lines.keys() & saved.keys(), default=0)
    if step == 0:
        lines = {0: json.dumps({"step": 0, **entropy_row(before)}) + "\n"}
    for later in saved.keys() - range(step + 1):
        shutil.rmtree(saved[later])
    path.write_text("".join(line for at, line in lines.items() if at <= step))
    return step, saved.get(step)


def _last(run: Run) -> tuple[int, float]:
    """The newest measured step, and its checkpoint's mean token entropy in nats."""
    row = run.metrics.dropna(subset="token_entropy").iloc[-1]
    return int(row["step"]), float(row["token_entropy"])


def _decided(profile: Profile, run: Run) -> bool:
    step, entropy = _last(run)
    done = step >= profile.reheat.max_steps
    return done or (step > 0 and (crossed(profile, entropy) or diverged(profile, entropy)))


def _reporter(profile: Profile, run: Run) -> Callable[[], None]:
    """Prints every new line of metrics.jsonl once, and how long the rest takes at most."""
    printed, first = len(run.metrics), None

    def report() -> None:
        nonlocal printed, first
        rows = run.metrics.iloc[printed:]
        printed += len(rows)
        for row in rows.itertuples():
            first = first or (row.step, time.monotonic())
            line = f"  step {row.step}/{profile.reheat.max_steps}"
            if not math.isnan(row.token_entropy):
                line += f"  entropy {row.token_entropy:.4f} nats"
            line += f"  KL {row.kl:.2e}  gradient norm {row.grad_norm:.3f}"
            if row.step > first[0]:
                each = (time.monotonic() - first[1]) / (row.step - first[0])
                left = each * (profile.reheat.max_steps - row.step)
                line += f"  {each:.1f} s a step, at most {left / 60:.1f} min left"
            print(line, flush=True)

    return report


def _keep(profile: Profile, run: Run, step: int) -> None:
    """Copy the policy after `step` to its place; of the other checkpoints what is asked for."""
    for checkpoint in checkpoints(run).values():
        policy = {file for pattern in POLICY_FILES for file in checkpoint.glob(pattern)}
        for other in set(checkpoint.iterdir()) - policy:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    shutil.rmtree(run.policy, ignore_errors=True)
    shutil.copytree(checkpoints(run)[step], run.policy)
    if not profile.reheat.keep_checkpoints:
        for checkpoint in checkpoints(run).values():
            shutil.rmtree(checkpoint)


# --- The control: exact scaling -------------------------------------------------------------


def scale(profile: Profile, start: Path, tau: float) -> Run:
    """The policy whose logits are exactly those of `start` divided by `tau`: no training.

    Divides the weight of the final RMSNorm, which also works where the output head is tied to
    the embeddings. The run's result holds the `token_entropy` (nats) of the scaled policy.
    """
    start = check_same_task(profile, runs.check_policy(start))
    run = runs.open_run(
        profile,
        "scale",
        f"tau{check_tau(tau):.4g}",
        {"tau": tau, **evaluate.measure(profile)},
        {"policy": start},
    )
    if run.finished:
        return run
    with run.recording() as result:
        save_scaled(start, tau, run.policy)
        result.update(tau=tau, token_entropy=token_entropy(run.policy, profile).value)
    return run


def matching_tau(profile: Profile, start: Path, entropy: float) -> float:
    """The tau at which the scaled policy's mean token entropy is `entropy` nats.

    Every trial answers the same prompts with the same uniforms (`token_entropy`), so that the
    search follows tau and not the sampling noise.

    Raises:
        ValueError: no tau between 1/4 and 4 gives this entropy.
    """
    from scipy.optimize import brentq

    start = check_same_task(profile, runs.check_policy(start))
    run = runs.open_run(
        profile,
        "match",
        f"{entropy:.3f}nats",
        {"target": entropy, **evaluate.measure(profile)},
        {"policy": start},
    )
    if run.finished:
        return run.result["tau"]

    with run.recording() as result, tempfile.TemporaryDirectory() as folder:

        def excess(log_tau: float) -> float:
            save_scaled(start, math.exp(log_tau), Path(folder))
            return token_entropy(Path(folder), profile).value - entropy

        try:
            result["tau"] = math.exp(brentq(excess, -math.log(4), math.log(4), xtol=1e-3))
        except ValueError:  # the same sign at both ends
            raise ValueError(
                f"entropy is {entropy:.3f} nats, which no tau between 1/4 and 4 gives this policy"
            ) from None
    return result["tau"]


def save_scaled(start: Path, tau: float, folder: Path) -> None:
    """Save the policy in `start` with every logit divided by `tau` (fp32)."""
    import torch

    from companion.sampling import load_policy

    model, tokenizer = load_policy(start, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight.div_(tau)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
