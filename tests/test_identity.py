"""What a run is known by: the answers that it is judged by, and the versions of the code's meaning."""

import dataclasses
import re

import pytest

from companion import objective, params, policies, runs
from companion.analysis import (
    branching,
    displacement,
    distribution,
    gradients,
    measure,
    representation,
)
from companion.stages import answers, entropy, evaluate, matching, merge, reheat, rl, scaling
from companion.study import arms
from companion.tasks import countdown

SMOKE = params.load("smoke")
BASE, SHIPPED = policies.base(SMOKE), arms.shipped(SMOKE)

OPENED = {
    "rl": lambda: rl.resume(SMOKE, SHIPPED, arm="x"),
    "reheat": lambda: reheat.reheat(SMOKE, SHIPPED),
    "scale": lambda: scaling.scale(SMOKE, SHIPPED, 1.2),
    "match": lambda: scaling.matching_tau(SMOKE, SHIPPED, 0.1),
    "merge": lambda: merge.merge(SMOKE, SHIPPED, 0.4),
    "match, merge": lambda: merge.matching_strength(SMOKE, SHIPPED, 0.1),
    "evaluate": lambda: evaluate.evaluate(SMOKE, SHIPPED, "x"),
    "branching": lambda: branching.branch(SMOKE, {0: SHIPPED}),
    "cka": lambda: representation.cka(SMOKE, BASE, SHIPPED),
    "displacement": lambda: displacement.reversal(SMOKE, {"a": BASE, "b": SHIPPED, "c": BASE}),
    "distribution": lambda: distribution.change(SMOKE, BASE, SHIPPED),
    "gradients": lambda: gradients.at_start(SMOKE, SHIPPED, [1.2]),
}
"""A run of every kind; within `finished_only` nothing is made."""
ANALYSES = ["branching", "cka", "displacement", "distribution", "gradients"]
MEASURED = ["rl", "reheat", "scale", "match", "merge", "match, merge", "evaluate"]
"""Those that measure the token entropy."""


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)


def names():
    """By kind, what the runs are called."""
    found = {}
    for kind, call in OPENED.items():
        with runs.finished_only(), pytest.raises(runs.NotFinished) as missing:
            call()
        found[kind] = re.match(r"run (\S+) is not finished", str(missing.value))[1]
    return found


def other(before):
    """The kinds whose runs are now called otherwise."""
    return [kind for kind, name in names().items() if name != before[kind]]


@pytest.mark.fault("a data set is replaced")
def test_a_corrected_gold_is_another_evaluation_and_another_reward(monkeypatch):
    before = names()
    for part in ("training", "questions"):
        real = getattr(countdown, part)

        def corrected(*asked, real=real):
            first, *rest = real(*asked)
            return [dataclasses.replace(first, gold="1 2 3 -> 9"), *rest]

        monkeypatch.setattr(countdown, part, corrected)
    assert other(before) == ["rl", "evaluate"]


def test_what_the_frontier_looks_at_renames_no_run_of_another_kind(monkeypatch):
    before = names()
    looked = {
        "analysis.frontier_problems": 3,
        "analysis.frontier_samples": 2,
        "analysis.frontier_taus": [1.7],
        "analysis.frontier_strengths": [0.7],
        "analysis.frontier_checkpoints": 9,
    }
    assert {name.split(".")[1] for name in looked} == {
        name for name in type(SMOKE.analysis).model_fields if name.startswith("frontier")
    }
    monkeypatch.setattr(f"{__name__}.SMOKE", params.change(SMOKE, looked))
    assert other(before) == []


def test_a_problem_of_another_suite_is_another_evaluation(monkeypatch):
    before = names()
    real = countdown.questions
    monkeypatch.setattr(
        countdown,
        "questions",
        lambda *asked: [dataclasses.replace(q, key=f"{q.key}, revised") for q in real(*asked)],
    )
    assert other(before) == ["evaluate"]


@pytest.mark.parametrize(("where", "name", "kinds"), [
    (rl, "VERSION", ["rl"]),
    (countdown, "REWARD_VERSION", ["rl"]),
    (countdown, "GRADER_VERSION", ["evaluate"]),
    (objective, "VERSION", ["reheat", "distribution", "gradients"]),
    (entropy, "VERSION", MEASURED),
    (answers.VERSIONS, "transformers", [k for k in OPENED if k != "displacement"]),
    (answers.VERSIONS, "vllm", []),
    (reheat, "VERSION", ["reheat"]),
    (scaling, "VERSION", ["scale", "match"]),
    (merge, "VERSION", ["merge", "match, merge"]),
    (matching, "VERSION", ["match", "match, merge"]),
    (evaluate, "VERSION", ["evaluate"]),
    *((measure.VERSIONS, kind, [kind]) for kind in ANALYSES),
])  # fmt: skip
def test_a_raised_version_names_the_runs_that_depend_on_it_anew(monkeypatch, where, name, kinds):
    before = names()
    if isinstance(where, dict):
        monkeypatch.setitem(where, name, where[name] + 1)
    else:
        monkeypatch.setattr(where, name, getattr(where, name) + 1)
    assert other(before) == kinds


def test_precision_follows_from_the_platform_and_is_no_other_runs(monkeypatch):
    cpu = entropy.measure(SMOKE)
    assert entropy.measure(params.change(SMOKE, {"hardware.platform": "gpu"})) != cpu


def test_a_fresh_clone_reheats_the_shipped_policy_whatever_runs_are_called(tmp_path):
    """No training that a clone did not need before: what is shipped is found by its path."""
    assert not (tmp_path / "runs").exists()
    laptop = params.load("laptop")
    assert arms.collapsed(laptop) == params.ROOT / laptop.task.collapsed
    assert policies.base(laptop) == params.ROOT / laptop.task.base
