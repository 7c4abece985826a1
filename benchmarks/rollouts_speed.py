"""Answers of one RL step, sampled by the loop through transformers and by vLLM on the same cores.

512 answers (64 prompts, eight each) of the shipped collapsed policy at T = 1 within RL's limit;
both engines are started once, and the first turn, in which they allocate, is left out.

    python benchmarks/rollouts_speed.py

Engines take turns; writes results/benchmarks/rollouts_speed.{csv,json}: tokens a second and the
ratio. vLLM answers in a process of its own, as everywhere in the companion.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch

from companion import params, tasks
from companion.provenance import provenance
from companion.stages.engines import opened

ENGINES = ("transformers", "vllm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--out", type=Path, default=params.ROOT / "results" / "benchmarks")
    asked = parser.parse_args()
    profile = params.load("laptop")
    torch.set_num_threads(profile.hardware.threads)
    rl, policy = profile.rl, params.place(str(profile.task.collapsed))
    questions = tasks.training(profile)[: rl.batch_size]
    prompts = [question.prompt for question in questions for _ in range(rl.responses_per_prompt)]
    rows = []
    with (
        opened(policy, profile, ENGINES[0]) as loop,
        opened(policy, profile, ENGINES[1]) as vllm,
    ):
        for turn in range(asked.turns):
            for engine, sampler in zip(ENGINES, (loop, vllm), strict=True):
                begun = time.perf_counter()
                answers = sampler(
                    prompts,
                    max_new_tokens=rl.max_response_tokens,
                    temperature=1.0,
                    top_p=1.0,
                    seed=turn,
                )
                seconds = time.perf_counter() - begun
                tokens = sum(map(len, answers.tokens))
                rows.append({"turn": turn, "engine": engine, "seconds": seconds, "tokens": tokens})
                print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    settled = frame[frame["turn"] > 0].assign(speed=lambda rows: rows["tokens"] / rows["seconds"])
    speed = settled.pivot(index="turn", columns="engine", values="speed")
    summary = {
        "median_tokens_a_second": speed.median().round().astype(int).to_dict(),
        "times_as_fast": round(float((speed["transformers"] / speed["vllm"]).median()), 2),
        "answers": len(prompts),
        "threads": profile.hardware.threads,
        **provenance(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(asked.out / "rollouts_speed.csv", index=False)
    (asked.out / "rollouts_speed.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
