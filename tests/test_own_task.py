"""A task of one's own: a file of prompts, a split by hash, and a grader."""

import json
import runpy

import pandas as pd
import pytest

from companion import params, policies, tasks
from companion.adapters.rewards import compute_score
from companion.analysis import accuracy, collect
from companion.params import ROOT
from companion.study import arms
from companion.tasks import countdown, own

ROWS = [{"prompt": f"What is {i} + {i}?", "gold": 2 * i, "suite": "big" if i >= 100 else "small"}
        for i in range(200)]  # fmt: skip
GRADER = "def grade(answer, gold):\n    return answer.split()[-1] == gold\n"


def written(path, rows):
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def profile(file, **changes):
    return params.load(
        "smoke",
        {
            "task.name": "own",
            "task.prompts": str(file),
            "task.train_problems": 8,
            "task.validation_problems": 100,
            "task.test_problems": 100,
            **{f"task.{name}": value for name, value in changes.items()},
        },
    )


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "prompts.jsonl", ROWS)


# --- The questions --------------------------------------------------------------------------


def test_every_row_is_in_one_split_whatever_else_the_file_holds(file, tmp_path):
    asked = profile(file)
    splits = {
        split: {q.prompt for q in tasks.held_out(asked, split)} for split in ("validation", "test")
    }
    most = len(ROWS) - sum(map(len, splits.values()))
    trained = {q.prompt for q in tasks.training(profile(file, train_problems=most))}
    assert trained | set.union(*splits.values()) == {row["prompt"] for row in ROWS}
    assert min(map(len, splits.values())) > 0.05 * 200 and most > 0.7 * 200
    fewer = profile(written(tmp_path / "fewer.jsonl", ROWS[::-1][:150]))
    for split, prompts in splits.items():
        assert {q.prompt for q in tasks.held_out(fewer, split)} <= prompts


def test_parquet_and_json_lines_are_the_same_task(file, tmp_path):
    other = profile(
        written(tmp_path / "prompts.parquet", [r | {"gold": str(r["gold"])} for r in ROWS])
    )
    assert tasks.training(other) == tasks.training(profile(file))
    assert tasks.source(other) != tasks.source(profile(file))


def test_a_suite_may_be_kept_out_of_training(file):
    asked = profile(file, ood="big", train_problems=20)
    assert tasks.suites(asked) == ["small"] and tasks.ood(asked) == "big"
    assert {q.suite for q in tasks.training(asked)} == {"small"}
    both = [tasks.held_out(asked, split) for split in ("validation", "test")]
    assert sum(q.suite == "big" for split in both for q in split) == 100
    with pytest.raises(ValueError, match=r"task.ood is 'huge' and must be a suite of task.prompts"):
        tasks.suites(profile(file, ood="huge"))


def test_without_a_held_out_share_all_prompts_are_everything(file):
    asked = profile(file, held_out=0, train_problems=200)
    assert len(tasks.training(asked)) == 200 == len(tasks.held_out(asked, "validation"))


def test_a_conversation_goes_through_the_chat_template_whole(tmp_path):
    talk = [
        {"role": "system", "content": "3 5 7"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "3 5 7 -> 36"},
    ]
    rows = [{"messages": talk}, {"messages": talk[-1:]}, {"prompt": "2 3 -> 5", "messages": None}]
    asked = profile(written(tmp_path / "talk.jsonl", rows), held_out=0, train_problems=3)
    by_row = {q.key: q.prompt for q in tasks.training(asked)}
    assert by_row == {"1": talk, "2": "3 5 7 -> 36", "3": "2 3 -> 5"}
    tokenizer = policies.load_tokenizer(arms.shipped(asked))
    whole, alone = policies.encode_prompts(tokenizer, [talk, talk[-1]["content"]])
    assert whole[-len(alone) :] == alone and len(whole) > 2 * len(alone)
    assert json.loads(policies.as_text(talk)) == talk


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], r"has no rows; give at least one prompt"),
        (["[1]"], r"line 1 of '.*' is no JSON object \(no object\); give one a line"),
        (['{"prompt": "a"}', "{"], r"line 2 of '.*' is no JSON object"),
        (['{"question": "a"}'], r"row 1 of '.*' has the columns question and must have one of 'prompt'"),
        (['{"prompt": "a", "messages": []}'], r"row 1 of '.*' has the columns prompt, messages"),
        (['{"prompt": " "}'], r"row 1 of '.*' has the prompt ' '; give a text"),
        (['{"prompt": 3}'], r"row 1 of '.*' has the prompt 3; give a text"),
        (['{"messages": []}'], r"messages that are no conversation ending with a user's"),
        (
            ['{"messages": [{"role": "assistant", "content": "a"}]}'],
            r"messages that are no conversation ending with a user's",
        ),
        (['{"prompt": "a", "gold": [1]}'], r"row 1 of '.*' has a suite or a gold that is no text"),
        (['{"prompt": "a"}', '{"prompt": "a"}'], r"asks the same in rows 1 and 2; remove one"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_a_task_is_one_sentence(tmp_path, rows, sentence):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(rows))
    with pytest.raises(ValueError, match=sentence):
        tasks.training(profile(path))


def test_other_files_are_one_sentence_too(tmp_path, file):
    with pytest.raises(ValueError, match=r"cannot be read \(No such file"):
        tasks.training(profile(tmp_path / "none.jsonl"))
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(ValueError, match=r"'.*x.parquet' is no parquet"):
        tasks.training(profile(tmp_path / "x.parquet"))
    with pytest.raises(
        ValueError, match=r"train_problems is 200 and must be at most 1\d\d: '.*held_out"
    ):
        tasks.training(profile(file, train_problems=200))
    single = profile(written(tmp_path / "one.jsonl", ROWS[:1]))
    with pytest.raises(
        ValueError, match=r"leaves no \w+ problem of suite 'small'; raise task.held_out"
    ):
        tasks.held_out(single, "validation"), tasks.held_out(single, "test")
    with pytest.raises(ValueError, match=r"task.prompts is missing; name the file"):
        params.load("smoke", {"task.name": "own"})


# --- The grader -----------------------------------------------------------------------------


def rewarded(asked, answer, gold):
    return compute_score("own/small", answer, gold, **tasks.reward(asked))


def test_exact_is_the_answer_line_or_the_whole_answer(file):
    asked = profile(file)
    answers = ["34", " 34\n", "so\nAnswer: 34", "Answer: 3\nAnswer: 34", "it is 34", "Answer: 43"]
    verdicts = tasks.judge(asked, answers, ["34"] * len(answers))["correct"].tolist()
    assert verdicts == [True, True, True, True, False, False]
    assert [rewarded(asked, a, "34") for a in answers] == [
        {"score": float(right), "acc": float(right)} for right in verdicts
    ]


def test_mathematics_is_judged_and_rewarded_as_the_papers(file):
    asked, theirs = profile(file, grader="math"), params.load("qwen3-4b")
    answers = [r"\boxed{34}", "Answer: 34", "Answer: $\\frac{68}{2}$", "34"]
    golds = ["34"] * len(answers)
    assert tasks.judge(asked, answers, golds).equals(tasks.judge(theirs, answers, golds))
    for answer in answers:
        expected = compute_score("math/x", answer, "34", **tasks.reward(theirs))
        assert rewarded(asked, answer, "34") == expected


def test_a_function_of_ones_own_judges_and_is_part_of_what_was_measured(file, tmp_path):
    code = tmp_path / "grader.py"
    code.write_text(GRADER)
    asked = profile(file, grader=f"{code}:grade")
    assert tasks.judge(asked, ["it is 34", "34 it is"], ["34", "34"])["correct"].tolist() == [
        True,
        False,
    ]
    assert rewarded(asked, "it is 34", "34") == {"score": 1.0, "acc": 1.0}
    before = tasks.reward(asked), tasks.grader(asked)
    code.write_text(GRADER.replace("== gold", "!= gold"))
    assert tasks.judge(asked, ["it is 34"], ["34"])["correct"].tolist() == [False]
    assert tasks.reward(asked) != before[0] and tasks.grader(asked) != before[1]


@pytest.mark.parametrize(
    ("code", "named", "sentence"),
    [
        (GRADER, "grader", r"task.grader is 'grader' and must be exact or math, or a function such as"),
        (GRADER, "{}:judge", r"judge of grader\d+.py cannot be loaded: .*no attribute 'judge'"),
        ("import nothing_such", "{}:grade", r"cannot be loaded: No module named 'nothing_such'"),
        ("def grade(answer, gold): return 1", "{}:grade", r"says 1 and must say True or False"),
        ("def grade(answer, gold): 1 / 0", "{}:grade", r"fails on the answer 'a' with the gold 'b'"),
    ],
)  # fmt: skip
def test_a_grader_that_cannot_judge_is_one_sentence(file, tmp_path, code, named, sentence):
    path = tmp_path / f"grader{abs(hash(code))}.py"
    path.write_text(code)
    asked = profile(file, grader=named.format(path))
    with pytest.raises(ValueError, match=sentence):
        tasks.judge(asked, ["a"], ["b"])


def test_answers_without_gold_cannot_be_judged(file):
    with pytest.raises(
        ValueError, match=r"has rows without gold, and their answers cannot be judged"
    ):
        tasks.judge(profile(file), ["a", "a"], ["b", ""])


# --- The example ----------------------------------------------------------------------------

EXAMPLE = params.ROOT / "examples" / "own-task"


def test_the_examples_grader_says_what_countdowns_own_says():
    grade = f"{EXAMPLE / 'grader.py'}:grade"
    for gold, answer, right in [
        ("8 2 3 -> 22", "8 + 3 = 11 : 2 11 \n 11 * 2 = 22 yes", True),
        (
            "8 2 3 -> 22",
            "8 - 2 = 6 : 3 6 \n 6 * 3 = 18 no \n 8 + 3 = 11 : 2 11 \n 11 * 2 = 22 yes",
            True,
        ),
        ("8 2 3 -> 22", "8 + 3 = 11 : 2 11 \n 11 * 2 = 22", False),
        ("8 2 3 -> 22", "8 + 3 = 12 : 2 12 \n 12 + 2 = 22 yes", False),
        ("8 2 3 -> 24", "8 * 3 = 24 yes", False),
        ("6 6 7 -> 7", "6 - 6 = 0 : 7 0 \n 7 - 0 = 7 yes", True),
        ("6 6 7 -> 7", "6 - 6 = 0 : 7 0 \n 7 / 0 = 7 yes", False),
        ("8 2 3 -> 22", "", False),
    ]:
        assert own.right(grade, answer, gold) is right
        assert countdown.verify(countdown.parse_prompt(gold), answer) is right


# --- The example, from end to end ------------------------------------------------------------

SMALL = {
    "task.train_problems": 64, "task.validation_problems": 10, "task.test_problems": 10,
    "entropy.prompts": 20, "evaluation.bootstrap": 200,
    "rl.batch_size": 8, "rl.responses_per_prompt": 4, "rl.mini_batch_size": 8,
    "rl.collapse.entropy": 1.0, "rl.collapse.check_every": 2, "rl.collapse.max_steps": 2,
    "rl.continued_steps": 2, "rl.arms": ["+DAPO", "+DAPO w/ PR-FKL"],
    "reheat.batch_size": 64, "reheat.max_steps": 1,
    "reheat.recovery_entropy": 1.1, "reheat.ceiling_entropy": 2.0,
}  # fmt: skip


@pytest.mark.slow
def test_the_example_goes_from_collapse_to_table_1(place):
    """examples/own-task, small: verl is rewarded and Table 1 judged by the file's own function."""
    asked = params.load("own", SMALL)
    evaluations = arms.evaluations(asked)
    assert {"Base", "Collapsed", "PR-FKL", "+DAPO", "+DAPO w/ PR-FKL"} <= set(evaluations)
    grade = runpy.run_path(str(ROOT / "examples" / "own-task" / "grader.py"))["grade"]
    samples = collect.samples(evaluations.values())
    assert set(samples["suite"]) == {"three numbers", "four numbers"}
    again = [grade(row.answer, row.gold) for row in samples.itertuples()]
    assert samples["correct"].tolist() == again and 0 < sum(again) < len(again)
    rewarded = arms.continued(asked)["+DAPO"].metrics["reward"].dropna()
    assert len(rewarded) == 2 and rewarded.between(-1, 1).all() and rewarded.nunique() == 2
    table = accuracy.table(samples, tasks.suites(asked), 200)
    assert list(table.columns.unique(0)) == ["three numbers", "Avg"]
