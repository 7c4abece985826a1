"""What is one's own, from end to end: a reheated folder in all three frameworks, and another task."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from companion import params, policies, tasks
from companion.analysis import accuracy, collect
from companion.params import ROOT
from companion.stages import rl
from companion.stages.engines import opened
from companion.study import arms

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COLLAPSED = ROOT / "results" / "checkpoints" / "countdown-collapsed"
EXAMPLE = ROOT / "examples" / "own-task"
SMALL = {
    "task.validation_problems": 4, "task.test_problems": 4,
    "entropy.prompts": 8, "evaluation.bootstrap": 50, "evaluation.samples": 2,
    "rl.batch_size": 4, "rl.responses_per_prompt": 4, "rl.mini_batch_size": 4,
    "rl.collapse.entropy": 1.0, "rl.collapse.check_every": 1, "rl.collapse.max_steps": 2,
    "rl.continued_steps": 2, "rl.arms": ["+DAPO", "+DAPO w/ PR-FKL"],
    "reheat.batch_size": 16, "reheat.micro_batch_size": 16, "reheat.max_steps": 1,
    "reheat.recovery_entropy": 1.1, "reheat.ceiling_entropy": 2.0,
}  # fmt: skip


def command(program, *words):
    words = [Path(sys.executable).with_name(program), *map(str, words)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def reheated(tmp_path_factory):
    """What `companion reheat` leaves of the shipped collapsed policy after two updates."""
    out = tmp_path_factory.mktemp("own") / "reheated"
    few = [
        "reheat.batch_size=32",
        "reheat.max_steps=2",
        "analysis.problems=8",
        "entropy.prompts=40",
    ]
    said = command(
        "companion", "reheat", "--policy", COLLAPSED, "--prompts", EXAMPLE / "problems.jsonl",
        "--max-tokens", 64, "--out", out, *[word for change in few for word in ("--set", change)],
    )  # fmt: skip
    assert "step 2/2  entropy" in said  # progress
    return out


def test_vllm_and_transformers_load_it_and_answer_alike(reheated):
    asked = params.load("own")
    rows = (EXAMPLE / "problems.jsonl").read_text().splitlines()[:8]
    prompts = [json.loads(row)["prompt"] for row in rows]
    found = []
    for engine in ("transformers", "vllm"):
        with opened(reheated, asked, engine) as sampler:
            found.append(sampler(prompts, max_new_tokens=48, temperature=0.01, top_p=1.0, seed=0))
    one, other = (answers.tokens for answers in found)
    assert [list(tokens) for tokens in one] == [list(tokens) for tokens in other]


def test_verl_goes_on_from_it(reheated, place):
    asked = params.load("own", SMALL)
    run = rl.resume(asked, reheated, arm="from a folder")
    assert len(run.metrics["reward"].dropna()) == 2
    policies.load_policy(run.policy)


def test_the_notebook_reheats_it_again(reheated, tmp_path):
    """02_reheat on a policy, prompts and a teacher of one's own, by its parameters alone."""
    changes = SMALL | {
        "task.collapsed": str(reheated),
        "reheat.teacher": "frozen",
        "reheat.tau": 1.5,
        "reheat.learning_rate": 2e-4,
    }
    command(
        "papermill", ROOT / "notebooks" / "02_reheat.ipynb", tmp_path / "out.ipynb",
        "-p", "profile", "own", "-y", json.dumps({"changes": changes}),
    )  # fmt: skip
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    shown = "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))
    assert "1 steps, 0.0" in shown and "reheat-forward-frozen-tau1.5" in shown


GRADER = """
def grade(answer, gold):
    return answer.split()[:1] == [gold]
"""


def test_another_task_of_few_prompts_goes_from_base_to_its_table(tmp_path, place):
    """Conversations in parquet, two numbers each, to be begun with the second; RL to collapse, too."""
    talks = [[{"role": "user", "content": f"{a} {a + 3} -> {2 * a + 3}"}] for a in range(2, 26)]
    golds = [talk[0]["content"].split()[1] for talk in talks]
    file, grader = tmp_path / "few.parquet", tmp_path / "grader.py"
    pd.DataFrame({"messages": talks, "gold": golds, "suite": "two numbers"}).to_parquet(file)
    grader.write_text(GRADER)
    few = {"task.prompts": str(file), "task.grader": f"{grader}:grade", "task.ood": None}
    few |= {"task.train_problems": 8, "task.held_out": 0.4, "evaluation.samples": 8}
    asked = params.load("own", changes=SMALL | few)
    assert rl.collapse(asked).result["step"] == 1
    samples = collect.samples(arms.evaluations(asked).values())
    assert {"Base", "Collapsed", "PR-FKL", "+DAPO", "+DAPO w/ PR-FKL"} <= set(samples["label"])
    assert set(samples["suite"]) == {"two numbers"}
    begun = [row.answer.split()[:1] == [row.gold] for row in samples.itertuples()]
    assert samples["correct"].tolist() == begun and 0 < sum(begun) < len(begun)
    table = accuracy.table(samples, tasks.suites(asked), 50)
    assert list(table.columns.unique(0)) == ["two numbers", "Avg"]
