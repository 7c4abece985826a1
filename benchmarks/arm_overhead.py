"""The seconds of an RL arm that are not steps: start, saving, measuring the entropy, end.

An arm of `--steps` steps from the shipped collapsed policy, by `rl.resume` as a study calls it, in a
folder of its own, `--runs` times. What is not a step is the wall time less so many median steps.

    python benchmarks/arm_overhead.py

writes results/benchmarks/arm_overhead.{csv,json}: seconds, and their median over the runs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import pandas as pd

from companion import metrics, params, runs
from companion.provenance import provenance
from companion.schema import Profile
from companion.stages import rl

BAR = 38.0


def seconds(profile: Profile, policy: Path) -> dict[str, float]:
    """Of one arm: whole, and its median step's."""
    with tempfile.TemporaryDirectory() as folder:
        runs.ROOT = Path(folder)  # a run that is finished would be reused
        begun = time.perf_counter()
        run = rl.resume(profile, policy, arm="+DAPO")
        whole = time.perf_counter() - begun
        steps = pd.DataFrame(metrics.read(run.folder / "metrics.jsonl"))["seconds"]
        return {"whole": whole, "step": float(steps.median())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--policy", default="results/checkpoints/countdown-collapsed")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=params.ROOT / "results" / "benchmarks")
    asked = parser.parse_args()
    profile = params.load(asked.profile, {"rl.continued_steps": asked.steps})
    frame = pd.DataFrame([seconds(profile, params.ROOT / asked.policy) for _ in range(asked.runs)])
    frame["not_steps"] = frame["whole"] - asked.steps * frame["step"]
    summary = {
        "median_seconds": frame.median().round(2).to_dict(),
        "not_steps": frame["not_steps"].round(2).tolist(),
        "bar": BAR,
        "policy": asked.policy,
        "profile": asked.profile,
        "steps": asked.steps,
        "threads": profile.hardware.threads,
        **provenance(),
    }
    frame.to_csv(asked.out / "arm_overhead.csv", index_label="run")
    (asked.out / "arm_overhead.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps(summary["median_seconds"]))


if __name__ == "__main__":
    main()
