"""The first rung on a GPU, `gpu-smoke`, on this machine's CPU: all of it but what names CUDA.

From the set-up of notebook 01 to Table 1 with every framework at Qwen3-0.6B's shape. Analyses at that
shape are in test_real_shape.py; their notebooks run on `smoke`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from companion.params import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * 3600)]

NOTEBOOKS = ["01_collapse", "02_reheat", "03_continue", "04_evaluate"]
FEWER = {
    "hardware.platform": "cpu",
    "hardware.threads": 2,
    "entropy.prompts": 5,
    "evaluation.max_new_tokens": 16,
    "reheat.batch_size": 2,
    "reheat.max_completion_tokens": 32,
    "rl.batch_size": 2,
    "rl.collapse.max_steps": 2,
    "rl.max_response_tokens": 32,
    "rl.mini_batch_size": 2,
    "rl.overlong_buffer_tokens": 8,
    "rl.responses_per_prompt": 2,
    # AdamW's moments, 4.8 GB (test_real_shape has them), find no room here beside vLLM's fp32 weights.
    "rl.verl": "{actor_rollout_ref.actor.optim.optimizer: SGD}",
    "task.test_problems": 2,
    "task.validation_problems": 1,
}


def test_every_framework_ends_at_a_real_shape_and_leaves_nothing_behind(tmp_path):
    clone, shared = tmp_path / "clone", set(Path("/dev/shm").iterdir())
    subprocess.run(["git", "clone", "--local", "-q", str(ROOT), str(clone)], check=True)
    words = [option for name in NOTEBOOKS for option in ("--only", name)]
    words += [option for name, value in FEWER.items() for option in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [
            Path(sys.executable).with_name("companion"),
            "reproduce",
            "--profile",
            "gpu-smoke",
            *words,
        ],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = [json.loads(path.read_text()) for path in clone.glob("runs/gpu-smoke/*/run.json")]
    assert {run["status"] for run in runs} == {"finished"}
    assert {"rl", "reheat", "match", "scale", "evaluate"} == {run["stage"] for run in runs}
    left = [p.cmdline() for p in psutil.process_iter() if str(clone) in " ".join(p.cmdline())]
    assert not left and set(Path("/dev/shm").iterdir()) <= shared
    shutil.rmtree(clone)  # fifty gigabytes
