"""A whole clone in a path that no shell, no Hydra and no URL likes trains as any other."""

import json
import os
import subprocess
import sys

import pytest

from companion.params import ROOT

STEPS = """
from companion import params, policies, runs
from companion.stages import reheat, rl

few = params.load("smoke", {
    "rl.collapse.max_steps": 1, "rl.collapse.check_every": 1, "rl.collapse.entropy": 1e-6,
    "entropy.prompts": 8, "reheat.max_steps": 1, "reheat.recovery_entropy": None})
assert "#b=[a]{c}" in str(params.ROOT), params.ROOT
made = [rl.collapse(few), reheat.reheat(few, params.ROOT / few.task.collapsed, force=True)]
assert all(run.finished and policies.load_policy(run.policy) for run in made)
print(*[run.folder for run in made], sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.fault("a clone in an odd path")
def test_a_clone_in_an_odd_path_trains_and_reheats(tmp_path):
    clone = tmp_path / "Zoë (1), x,y" / "a b #b=[a]{c}"
    subprocess.run(["git", "clone", "--local", "-q", str(ROOT), str(clone)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", STEPS],
        cwd=clone,
        env=os.environ | {"PYTHONPATH": str(clone / "src")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert not subprocess.run(
        ["git", "status", "--porcelain"], cwd=clone, capture_output=True
    ).stdout
    for folder in done.stdout.splitlines()[-2:]:
        record = json.loads((clone / folder / "run.json").read_text())
        assert record["status"] == "finished" and str(tmp_path) not in json.dumps(record), record[
            "command"
        ]
