"""The paper's data as a task: what is trained on, held out, asked and judged."""

import pandas as pd
import pytest
from test_benchmarks import hub_rows, write

from companion import params, tasks
from companion.adapters.rewards import compute_score
from companion.analysis import rollouts
from companion.stages import entropy, evaluate, swift_command, verl_files
from companion.tasks import benchmarks, math


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in benchmarks.BENCHMARKS:
        write(folder, name, hub_rows(name))
    cache = folder / "cache"
    load = benchmarks.load
    patch = pytest.MonkeyPatch()
    patch.setattr(math.benchmarks, "load", lambda name, where: load(name, where, cache))
    yield params.load("qwen3-4b", {"task.data": str(folder)})
    patch.undo()


def test_training_and_held_out_problems_are_disjoint(profile):
    train = tasks.training(profile)
    held_out = tasks.held_out(profile, "validation")
    assert (len(train), len(held_out)) == (16896, 256)
    assert not {q.prompt for q in train} & {q.prompt for q in held_out}
    few = tasks.training(params.change(profile, {"task.train_problems": 2048}))
    assert few == train[:2048]
    assert entropy.entropy_prompts(profile) == [q.prompt for q in held_out]


def test_more_training_problems_than_there_are_is_refused(profile):
    with pytest.raises(ValueError, match="task.train_problems is 17000 and must be at most 16944"):
        tasks.training(params.change(profile, {"task.train_problems": 17_000}))


def test_every_problem_of_every_benchmark_is_asked(profile):
    counts = pd.Series([q.suite for q in tasks.held_out(profile, "test")]).value_counts()
    assert counts.to_dict() == {
        "MATH-500": 500,
        "GPQA Main": 448,
        "OlymMATH": 200,
        "AIME24": 30,
        "AIME25": 30,
        "AIME26": 30,
    }
    assert tasks.suites(profile) == list(math.SUITES) and tasks.ood(profile) == "GPQA Main"
    assert len(rollouts.asked(profile)) == profile.analysis.problems


def test_where_the_data_came_from_is_told(profile):
    assert set(tasks.source(profile)) == {"DAPO-Math-17K"}
    told = tasks.source(profile, "test")
    assert set(told) == {*math.SUITES, math.OOD}
    assert all(len(entry["sha256"]) == 64 for entry in told.values())


def test_a_suite_that_is_left_out_is_never_loaded(profile, monkeypatch):
    """As without access to GPQA: everything else goes on."""
    few = params.change(profile, {"task.leave_out": ["GPQA Main"], "task.test_problems": 5})

    def load(name, where):
        assert name != "GPQA Main"
        return [tasks.Question(name, str(i), f"{name} {i}", "1") for i in range(5)], {"sha256": ""}

    math._loaded.cache_clear()
    monkeypatch.setattr(math.benchmarks, "load", load)
    try:
        rows = evaluate._questions(few, "test")
        assert list(rows["suite"].unique()) == list(math.SUITES) == tasks.suites(few)
        assert tasks.ood(few) is None and set(tasks.source(few, "test")) == set(math.SUITES)
        assert {q.suite for q in tasks.first_of_each(few, "test")} == set(math.SUITES)
    finally:
        math._loaded.cache_clear()


@pytest.mark.parametrize("suites", [["GPQA"], list(math.SUITES), ["DAPO-Math-17K"]])
def test_a_suite_that_there_is_not_or_all_of_them_cannot_be_left_out(suites):
    few = params.load("qwen3-4b", {"task.leave_out": suites})
    with pytest.raises(ValueError, match=r"task.leave_out is \['.*and must name some of MATH-500"):
        tasks.asked(few, "test")


def test_both_frameworks_get_the_same_prompts_and_verl_the_golds(profile, tmp_path):
    verl_files.write_data(profile, tmp_path)
    swift_command.write_inputs(profile, "forward", tmp_path)
    train = pd.read_parquet(tmp_path / "train.parquet")
    lines = pd.read_json(tmp_path / swift_command.PROMPTS, lines=True)
    asked = [messages[0]["content"] for messages in train["prompt"]]
    assert [messages[0]["content"] for messages in lines["messages"]] == asked[: len(lines)]
    assert set(train["data_source"]) == {"math/DAPO-Math-17K"}
    gold = train["reward_model"][0]["ground_truth"]
    scores = [
        compute_score(data_source="math/DAPO-Math-17K", ground_truth=gold, solution_str=text)
        for text in (f"So it is.\n\nAnswer: {gold}", "Answer: 12345", "no idea")
    ]
    assert [s["score"] for s in scores] == [1, -1, -1] and [s["acc"] for s in scores] == [1, 0, 0]


def test_both_graders_judge_and_a_letter_is_an_answer(profile):
    answers = ["Answer: 034", r"\boxed{34}", "**Answer: (B)**", "Answer: B", "Answer: C"]
    verdicts = tasks.judge(profile, answers, ["34", "034", "B", "B", "B"])
    assert verdicts["correct"].tolist() == [True, True, True, True, False]
    assert set(verdicts) == {"correct", "math_dapo", "stated"}


def test_where_the_graders_differ_is_counted():
    samples = pd.DataFrame(
        {
            "gold": ["034", "034", "5"],
            "stated": ["34", "34", "5"],
            "correct": [True, True, True],
            "math_dapo": [False, False, True],
        }
    )
    table = evaluate.disagreements(samples)
    assert table[["stated", "count"]].values.tolist() == [["34", 2]]
    assert evaluate.disagreements(samples.drop(columns="math_dapo")).empty


def test_a_benchmark_problem_among_the_training_problems_is_reported(profile):
    train, [twin, *_] = tasks.training(profile), tasks.held_out(profile, "test")
    found = math.overlap([twin], [*train[:50], tasks.Question("x", "copy", twin.prompt, "1")])
    assert found["training_key"].tolist() == ["copy"] and found["similarity"].tolist() == [1.0]
