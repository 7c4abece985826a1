"""One step of verl (as rl.py runs it) beside one step of TRL's GRPOTrainer.

Same policy, prompts, batch, answer budget, learning rate, threads and machine, taking turns.
verl's `perf/time_per_step` and TRL's time between the beginning and the end of a step both cover
sampling, rewards, advantages and the update; neither saves. TRL is its newest release, with the
torch and transformers of this environment.

    python benchmarks/verl_vs_trl.py

writes results/benchmarks/verl_vs_trl.{csv,json}: seconds, and the median ratio of the pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from companion import tasks
from companion.params import ROOT, load
from companion.provenance import provenance
from companion.schema import Profile
from companion.stages import verl_command, verl_files
from companion.stages.launch import launch

BAR = 0.5
TRL = "1.16.0"
SETTLED = 2
"""Steps in which both still import and allocate."""


def verl_steps(profile: Profile, folder: Path, steps: int) -> pd.DataFrame:
    """Seconds and mean answer length (tokens) of every step."""
    verl_files.write_data(profile, folder)
    (folder / "profile.json").write_text(profile.model_dump_json())
    words = verl_command.command(
        profile,
        start=ROOT / profile.task.base,
        folder=folder,
        steps=steps,
        temperature=profile.rl.rollout_temperature,
    )
    launch(
        [*words, "trainer.save_freq=-1"],
        verl_command.environment(profile, folder),
        folder / "verl.log",
        lambda: None,
    )
    logged = [json.loads(line) for line in (folder / "verl.jsonl").read_text().splitlines()]
    return pd.DataFrame(
        {
            "step": [entry["step"] for entry in logged],
            "seconds": [entry["data"]["perf/time_per_step"] for entry in logged],
            "tokens": [entry["data"]["response_length/mean"] for entry in logged],
        }
    )


def trl_steps(profile: Profile, folder: Path, steps: int) -> pd.DataFrame:
    """As `verl_steps`, in this process: called in one of its own."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from companion.adapters.rewards import compute_score

    torch.set_num_threads(profile.hardware.threads)
    settings, policy = profile.rl, str(ROOT / profile.task.base)
    rows = pd.read_parquet(folder / "train.parquet")
    data = Dataset.from_list(
        [
            {
                "prompt": list(r.prompt),
                "truth": r.reward_model["ground_truth"],
                "source": r.data_source,
            }
            for r in rows.itertuples()
        ]
    )

    def reward(completions, truth, source, **_):
        texts = [answer[0]["content"] for answer in completions]
        return [
            compute_score(s, text, t, **tasks.reward(profile))["score"]
            for text, t, s in zip(texts, truth, source, strict=True)
        ]

    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.begun = time.perf_counter()

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - self.begun)

    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=reward,
        train_dataset=data,
        callbacks=[Clock()],
        processing_class=AutoTokenizer.from_pretrained(policy),
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            use_cpu=True,
            bf16=False,
            beta=0.0,
            loss_type="dapo",
            per_device_train_batch_size=settings.batch_size * settings.responses_per_prompt,
            gradient_accumulation_steps=1,
            num_generations=settings.responses_per_prompt,
            max_completion_length=settings.max_response_tokens,
            max_steps=steps,
            temperature=settings.rollout_temperature,
            top_p=settings.rollout_top_p,
            top_k=0,
            learning_rate=settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            lr_scheduler_type="constant_with_warmup",
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.gradient_clip,
            epsilon=settings.clip_low,
            epsilon_high=settings.clip_high,
            gradient_checkpointing=False,
            seed=profile.seed,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            remove_unused_columns=False,
        ),
    )
    trainer.train()
    lengths = [
        x["completions/mean_length"]
        for x in trainer.state.log_history
        if "completions/mean_length" in x
    ]
    return pd.DataFrame({"step": range(1, steps + 1), "seconds": seconds, "tokens": lengths})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--policy", default="results/checkpoints/countdown-collapsed")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)  # TRL's, in this folder
    asked = parser.parse_args()
    profile = load(asked.profile, {"task.base": asked.policy})
    if asked.child:
        trl_steps(profile, asked.child, asked.steps).to_csv(asked.child / "trl.csv", index=False)
        return

    frames = []
    with tempfile.TemporaryDirectory() as newest:
        # Beside the pinned environment, which ms-swift holds at an older TRL; the rest is the same.
        pip = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", newest]
        subprocess.run([*pip, f"trl=={TRL}"], check=True)
        for pair in range(asked.pairs):
            with tempfile.TemporaryDirectory() as name:
                verl = verl_steps(profile, Path(name), asked.steps)
                words = [sys.executable, "-W", "ignore", str(Path(__file__).resolve())]
                launch(
                    [*words, *sys.argv[1:], "--child", name],
                    # One process on all cores.
                    {"OMP_NUM_THREADS": str(profile.hardware.threads), "PYTHONPATH": newest},
                    Path(name) / "trl.log",
                    lambda: None,
                )
                trl = pd.read_csv(Path(name) / "trl.csv")
            frames += [
                verl.assign(framework="verl", pair=pair),
                trl.assign(framework="trl", pair=pair),
            ]
            print(pd.concat(frames[-2:]).groupby("framework").median(numeric_only=True), flush=True)
    frame = pd.concat(frames)
    groups = frame[frame["step"] > SETTLED].groupby(["pair", "framework"])
    medians = groups.median(numeric_only=True)
    seconds = medians["seconds"].unstack()
    ratios = seconds["verl"] / seconds["trl"]
    summary = {
        "median_seconds": seconds.median().round(3).to_dict(),
        "mean_tokens": medians["tokens"].unstack().mean().round(1).to_dict(),
        "ratio": round(float(ratios.median()), 3),
        "ratios": ratios.round(3).tolist(),
        "bar": BAR,
        "trl": TRL,
        "policy": asked.policy,
        "profile": asked.profile,
        "steps": asked.steps,
        "threads": profile.hardware.threads,
        "answers_a_step": profile.rl.batch_size * profile.rl.responses_per_prompt,
        **provenance(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(asked.out / "verl_vs_trl.csv", index=False)
    (asked.out / "verl_vs_trl.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({k: summary[k] for k in ("median_seconds", "mean_tokens", "ratio")}))


if __name__ == "__main__":
    main()
