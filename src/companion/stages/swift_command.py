"""ms-swift 4.6.0 by command line: a profile's reheating as `swift rlhf --rlhf_type gkd`, and its inputs.

Knows nothing of runs, nor of when reheating stops: that is said by `reheat`.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

from companion import tasks
from companion.objective import Direction
from companion.policies import as_messages
from companion.schema import Profile

PLUGIN = Path(__file__).parents[1] / "adapters" / "swift_plugin.py"
MODEL_TYPE = "policy"
"""The plug-in's, for every family alike: a causal language model that transformers loads. ms-swift's own
detection leaves the choice where an architecture has several types, and knows none for OLMo 2 and
SmolLM 3; types differ in templates and in layers to adapt, neither of which is used."""
REPORT = "report_to"
"""Whom ms-swift reports to, beside metrics.jsonl: nobody, unless `reheat.swift` says so."""
PROMPTS = "prompts.jsonl"
PLAN = "plan.json"
"""What the plug-in has to know and ms-swift has no argument for; in ms-swift's output folder."""
FSDP: dict[str, Any] = {
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


def command(profile: Profile, start: Path, folder: Path) -> list[str]:
    """What starts `swift rlhf` (ms-swift 4.6.0) with its `arguments`, on every node there is."""
    hardware = profile.hardware
    here = hardware.platform == "cpu"
    module = ["companion.adapters.swift_here"] if here else ["swift.cli.main", "rlhf"]
    words = [sys.executable, "-m", *module, *arguments(profile, start, folder)]
    if hardware.nodes > 1:
        everywhere = [str(hardware.nodes), str(hardware.gpus_per_node)]
        words = [sys.executable, "-m", "companion.adapters.every_node", *everywhere, *words]
    return words


def arguments(profile: Profile, start: Path, folder: Path) -> list[str]:
    """Arguments of `swift rlhf` (ms-swift 4.6.0): the method, then the platform it runs on.

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
        "model_type": MODEL_TYPE,
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
    if settings.teacher == "frozen":
        method |= {"teacher_model": start, "teacher_model_type": MODEL_TYPE}
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
            # flash-attention cannot be installed beside these pins; rows are padded to their
            # micro-batch's longest, and at one row a micro-batch not at all.
            "attn_impl": "sdpa",
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": 0.5,
            "vllm_max_model_len": (profile.task.max_prompt_tokens + settings.max_completion_tokens),
            "sleep_level": 1,
            "offload_optimizer": True,
            "gradient_checkpointing": False,  # FSDP's own is on
        },
    }[hardware.platform]
    words, ours = list[str](), method | platform
    for name in settings.swift.keys() & ours.keys() - {REPORT}:
        raise ValueError(
            f"reheat.swift sets '{name}', which follows from a field of the profile; set that instead"
        )
    for name, value in (ours | settings.swift).items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words


def environment(profile: Profile) -> dict[str, str]:
    """What ms-swift's process finds in its environment, beside this process's own."""
    hardware = profile.hardware
    if hardware.platform == "gpu":
        return {
            "NPROC_PER_NODE": str(hardware.gpus_per_node),
            # Whole checkpoints. Since 5.9 (pinned on GPUs) transformers does not tell accelerate what
            # FSDP's configuration above says of it.
            "FSDP_STATE_DICT_TYPE": FSDP["fsdp_config"]["state_dict_type"],
        }
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
            json.dumps({"messages": as_messages(prompt)}) + "\n"
            for prompt in itertools.islice(
                itertools.cycle(prompts), batches * profile.reheat.batch_size
            )
        )
    )
    plan = {"direction": direction, "profile": profile.model_dump()}
    (folder / "swift").mkdir(exist_ok=True)
    (folder / "swift" / PLAN).write_text(json.dumps(plan))
