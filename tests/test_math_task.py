"""The paper's data as a task: what is trained on, held out, asked and judged."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_benchmarks import hub_rows, write

from companion import params, tasks
from companion.adapters import rewards
from companion.adapters.rewards import compute_score
from companion.analysis import rollouts
from companion.stages import entropy, evaluate, rl, swift_command, verl_files
from companion.tasks import benchmarks, countdown, math


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
    assert (len(train), len(held_out)) == (16640, 256)
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


LONG = 100_000
ENDLESS = [
    "9" * LONG,
    "Answer:" + " " * LONG,
    "Answer: " * LONG,
    "\\boxed{" * LONG,
    "{" * LONG,
    "$" * LONG,
    "Answer: " + "\\frac" * LONG,
    "Answer: " + "1," * 150,
    "Answer: " + "((" * 150,
    "\\boxed",
    "\\boxed ",
    "\\boxed{}",
    "Answer: \\mbox{" * 40,
    "Answer: \\text{" * 50,
    "\0" * LONG,
    "\ud800",
    "²",
    "",
    "٣ + ٤ = ٧ yes",
    " \n" * LONG,
    "5 + 7 = " + "9" * LONG + " : 3 12 \n 12 * 3 = 36 yes",
]


def steps(source, answer, gold, rule=None):
    """How many lines of the rules' own Python a reward takes; it is 0."""
    count, ours = 0, ("rewards.py", "math_dapo.py", "countdown.py")

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.endswith(ours) else None

    assert compute_score(source, answer, gold, reward_rule=rule)["acc"] == 0  # and imports
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        compute_score(source, answer, gold, reward_rule=rule)
    finally:
        sys.settrace(before)
    return count


def bounded(answer):
    """verl waits for a reward without any limit: see adapters/rewards.py."""
    for rule in ("answer-line", "answer-line-or-box"):
        seen = answer[-rewards.LOOKED_AT :]
        taken = steps("math/x", answer, "34", rule)
        assert taken == steps("math/x", seen, "34", rule) <= 1000
    assert steps("countdown/x", answer, "3 5 7 -> 36") <= 50 + 8 * len(answer)


@pytest.mark.fault("an answer made to hang its reward")
@pytest.mark.parametrize("answer", ENDLESS, ids=range(len(ENDLESS)))
def test_no_answer_makes_a_reward_hang_or_raise(answer):
    bounded(answer)


HOSTILE = st.one_of(
    st.text(min_size=1, max_size=20),
    st.sampled_from(
        ["Answer:", "\\boxed{", "$", "\\text{", "=", "1 + 1 = 2 : ", " no\n", "\n", " "]
    ),
)


@settings(max_examples=40)
@given(st.lists(HOSTILE, min_size=1, max_size=6).map("".join), st.integers(1, 80_000))
def test_no_answer_of_the_papers_length_makes_a_reward_hang_or_raise(piece, length):
    """20,480 tokens of four characters."""
    assume("34" not in piece)
    bounded((piece * (length // len(piece) + 1))[:length])


@pytest.mark.fault("a reward raises")
@pytest.mark.parametrize(("source", "gold", "why"), [
    ("math/x", None, "'NoneType' object has no attribute 'split'"),
    ("countdown/x", "3 5 7 36", "prompt is '3 5 7 36' and must read like '5 3 7 -> 36'"),
    ("chess/x", "1", "data_source is 'chess/x' and must begin with 'countdown/', 'math/' or 'own/'"),
])  # fmt: skip
def test_a_reward_that_cannot_be_told_is_one_sentence_and_no_score(profile, source, gold, why):
    """By verl's own manager, in the thread that it calls rewards in."""
    from test_paper_scale import composed
    from verl import DataProto
    from verl.trainer.ppo.reward import load_reward_manager

    manager = load_reward_manager(composed(profile), countdown.tokenizer())
    row = {
        "responses": torch.tensor([[5, 6]]),
        "attention_mask": torch.ones(1, 2, dtype=torch.long),
        "data_source": np.array([source], dtype=object),
        "reward_model": np.array([{"ground_truth": gold}], dtype=object),
    }
    scored = manager.run_single(DataProto.from_single_dict(row))
    with pytest.raises(ValueError) as error:
        manager.loop.run_until_complete(scored)
    assert str(error.value) == (
        f"an answer to '{source}' with the gold {gold!r} cannot be rewarded ({why}); mend the data "
        "or the rule, and call again, which resumes"
    )


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
        compute_score("math/DAPO-Math-17K", text, gold, **tasks.reward(profile))
        for text in (f"So it is.\n\nAnswer: {gold}", "Answer: 12345", "no idea")
    ]
    assert [s["score"] for s in scores] == [1, -1, -1] and [s["acc"] for s in scores] == [1, 0, 0]


def rewarded(answer, gold, rule):
    """Whether the reward takes the answer; its score says the same."""
    verdict = compute_score("math/x", answer, gold, reward_rule=rule)
    assert verdict["score"] == (1.0 if verdict["acc"] else -1.0)
    return bool(verdict["acc"])


@pytest.mark.parametrize(
    ("answer", "by_line", "by_line_or_box"),
    [
        ("So it is.\n\nAnswer: 34", True, True),
        ("answer : $34$", True, True),
        ("Answer: 33", False, False),
        (r"So it is \boxed{34}.", False, True),  # what verl 0.9.0 did not take
        (r"\boxed{33}", False, False),
        ("It is 34.", False, False),
        ("", False, False),
        # With both, the line decides, whichever stands last.
        ("Answer: 33\nthat is \\boxed{34}", False, False),
        ("Answer: 34\nthat is \\boxed{33}", True, True),
        ("\\boxed{33}, so\nAnswer: 34", True, True),
        (r"Answer: \boxed{34}", True, True),
        # The last of several lines.
        ("Answer: 34\nno,\nAnswer: 33", False, False),
        ("Answer: 33\nno,\nAnswer: 34", True, True),
        # Of the last 300 characters, and of a box the last 100.
        ("Answer: 34\n" + "." * 289, True, True),
        ("Answer: 34\n" + "." * 290, False, False),  # the "A" is cut off
        (r"\boxed{34}" + "." * 90, False, True),
        (r"\boxed{34}" + "." * 91, False, False),
        (r"Answer: 33" + "." * 300 + r"\boxed{34}", False, True),
    ],
)
def test_the_rule_says_whether_a_box_is_an_answer(answer, by_line, by_line_or_box):
    from verl.utils.reward_score import math_dapo

    assert rewarded(answer, "34", "answer-line") == by_line
    assert rewarded(answer, "34", "answer-line-or-box") == by_line_or_box
    assert bool(math_dapo.compute_score(answer, "34")["acc"]) == by_line_or_box


PIECES = ["Answer: ", "answer:", "\n", r"\boxed{", "}", "34", "$", r"\frac12", " ", "x" * 97, "."]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_rules_are_verls_own_wherever_it_finds_a_line(answer):
    """What verl 0.9.1 took from its own file: but for the box, 0.9.0 gave the same verdicts."""
    from verl.utils.reward_score import math_dapo

    theirs = math_dapo.compute_score(answer, "34")
    assert rewarded(answer, "34", "answer-line-or-box") == bool(theirs["acc"])
    line = math_dapo.is_correct_minerva(answer[-300:], "34")[1] != "[INVALID]"
    assert rewarded(answer, "34", "answer-line") == (bool(theirs["acc"]) and line)


@pytest.mark.parametrize("rule", [None, "box"])
def test_an_unknown_rule_is_refused(rule):
    with pytest.raises(ValueError, match="reward_rule is .* and must be 'answer-line' or"):
        compute_score("math/x", "Answer: 1", "1", reward_rule=rule)


def test_the_rule_reaches_the_reward_through_verls_configuration(profile):
    from test_paper_scale import composed
    from verl.trainer.ppo.reward import get_custom_reward_fn

    for rule, acc in (("answer-line", 0.0), ("answer-line-or-box", 1.0)):
        config = composed(params.change(profile, {"rl.reward_rule": rule}))
        reward = get_custom_reward_fn(config)
        given = {"data_source": "math/x", "ground_truth": "34", "solution_str": r"\boxed{34}"}
        assert reward(**given, extra_info={})["acc"] == acc


def test_the_rule_is_part_of_a_mathematics_run_and_of_no_other(profile):
    other = {"rl.reward_rule": "answer-line-or-box"}
    ours, theirs = (rl._settings(p, 1.0) for p in (profile, params.change(profile, other)))
    assert profile.rl.reward_rule == ours["reward_rule"] == "answer-line"  # the paper's time
    assert theirs == ours | {"reward_rule": "answer-line-or-box"}
    plain, changed = (rl._settings(params.load("laptop", c), 1.0) for c in ({}, other))
    assert plain == changed and "reward_rule" not in plain


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
