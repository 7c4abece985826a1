"""Grading: golds of the real benchmarks, a table of hard pairs, properties, verl's grader.

What concerns processes and hostile text is in test_grading_workers.py.
"""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.tasks import grading
from companion.tasks.grading import extract, grade, grade_all
from companion.tasks.grading.comparison import same
from companion.tasks.grading.extraction import LENGTH, readings
from companion.tasks.grading.notation import clean

DATA = Path(__file__).parent / "data"
with (DATA / "answer_pairs.csv").open(newline="") as file:
    PAIRS = list(csv.DictReader(file))
with (DATA / "public_pairs.csv").open(newline="") as file:
    PUBLIC = list(csv.DictReader(file))


# Hard pairs


def test_the_table_of_pairs_is_large_and_has_both_verdicts() -> None:
    assert len({(pair["gold"], pair["answer"]) for pair in PAIRS}) == len(PAIRS) >= 150
    verdicts = Counter(pair["right"] for pair in PAIRS)
    assert min(verdicts["1"], verdicts["0"]) >= 50


@pytest.mark.parametrize("why", dict.fromkeys(pair["why"] for pair in PAIRS))
def test_hard_pairs(why: str) -> None:
    pairs = [pair for pair in PAIRS if pair["why"] == why]
    grades = grade_all([p["answer"] for p in pairs], [p["gold"] for p in pairs])
    expected = [int(pair["right"]) for pair in pairs]
    wrong = [p for p, g, right in zip(pairs, grades, expected, strict=True) if g.score != right]
    assert not wrong
    assert not any(each.stopped for each in grades)


# Pairs of the kinds that the tests and rules of public graders have


WRONG = {
    r"$1\leq|z|\leq \frac{5}{2}$": "an interval of |z| is none of z",
    r"$F_n = \sum_{k=0}^{n-1} F_k F_{n-k-1}$": "a sum has no value where its end is none",
    "e": "sympy adds up infinitely many terms by code it writes, which the sandbox refuses",
}
"""The golds of the public pairs that are not graded as they should be, and why."""


def test_pairs_of_public_graders() -> None:
    assert len({(pair["gold"], pair["answer"]) for pair in PUBLIC}) == len(PUBLIC) >= 150
    assert all(pair["source"] for pair in PUBLIC)
    # Where ours is not the suite's verdict, a decision of ours is the reason.
    assert all((pair["right"] != pair["suite"]) == bool(pair["decision"]) for pair in PUBLIC)
    grades = grade_all([p["answer"] for p in PUBLIC], [p["gold"] for p in PUBLIC])
    wrong = [p for p, g in zip(PUBLIC, grades, strict=True) if g.score != int(p["right"])]
    assert [pair["gold"] for pair in wrong] == list(WRONG)
    assert len(wrong) <= 0.01 * len(PUBLIC)


# Golds of the benchmarks: read where they lie, never copied


def golds(benchmark: str) -> list[str]:
    folder = os.environ.get("COMPANION_DATA_DIR")
    if not folder and not os.environ.get("CI"):
        pytest.skip("COMPANION_DATA_DIR does not name the folder of the benchmark files")
    assert folder, "COMPANION_DATA_DIR is unset and must name the folder of the benchmark files"
    path = Path(folder) / benchmark
    if path.suffix == ".parquet":
        return [row["ground_truth"] for row in pd.read_parquet(path)["reward_model"]]
    return [str(json.loads(line)["answer"]) for line in path.read_text().splitlines()]


BENCHMARKS = {
    "math500/test.jsonl": 500,
    "aime24/test.jsonl": 30,
    "aime25/test.parquet": 30,
    "olymmath/en-easy.jsonl": 100,
    "olymmath/en-hard.jsonl": 100,
}
FORMS = {
    "alone": "{}",
    "boxed": r"\boxed{{{}}}",
    "boxed in prose": "So we have found it.\n\\[\n\\boxed{{ {} }}\n\\]\nDone.",
    "answer line": "So we have found it.\n\n**Answer:** ${}$.",
}


def respelled(gold: str) -> str:
    """The same in other notation, so that texts differ."""
    for old, new in ((r"\frac", r"\dfrac"), ("(", r"\left("), (")", r"\right)"), ("+", " + ")):
        gold = gold.replace(old, new)
    return gold


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_gold_matches_itself(benchmark: str, form: str) -> None:
    answers = golds(benchmark)
    assert len(answers) == BENCHMARKS[benchmark]
    for spelling in (str, respelled):
        stated = [FORMS[form].format(spelling(gold)) for gold in answers]
        failed = [g for g, ok in zip(answers, grade_all(stated, answers), strict=True) if not ok]
        assert not failed


@pytest.mark.parametrize(
    ("benchmark", "constant", "spellings"),
    [
        ("math500/test.jsonl", "2", {"2"}),
        ("math500/test.jsonl", r"\frac{1}{2}", {r"\frac{1}{2}"}),
        ("math500/test.jsonl", "30", {"30", r"30^\circ"}),
        ("math500/test.jsonl", "-2, 1", {"-2,1", "1,-2"}),
        ("math500/test.jsonl", "(-2, 1)", {"(-2,1)"}),
        ("math500/test.jsonl", "52", {"52"}),
        ("aime24/test.jsonl", "25", {"025"}),
        ("aime24/test.jsonl", "104", {"104"}),
        ("aime25/test.parquet", "336", {r"336^\circ"}),
        ("olymmath/en-easy.jsonl", "6", {"6"}),
        ("olymmath/en-hard.jsonl", r"2^{2022}", set()),
    ],
)
def test_a_constant_answer_scores_the_golds_that_equal_it(benchmark, constant, spellings) -> None:
    answers = golds(benchmark)
    grades = grade_all([rf"\boxed{{{constant}}}"] * len(answers), answers)
    assert [bool(each) for each in grades] == [gold in spellings for gold in answers]


def test_another_problems_gold_is_wrong() -> None:
    answers = golds("math500/test.jsonl")
    others = answers[7:] + answers[:7]
    grades = grade_all(others, answers)
    assert [bool(g) for g in grades] == [a == b for a, b in zip(answers, others, strict=True)]


# Extraction


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1} then \boxed{2", None),
        (r"\boxed{}", None),
        (r"\boxed", None),
        ("It is done.\nAnswer: 7", "7"),
        ("Answer: 6\nNo.\nAnswer: 7", "7"),
        ("Answer:\n\n$$\n7\n$$", "7"),
        ("Answer:\n$\\{\\}$", r"\{\}"),
        ("The answer is $7$ apples.", "7"),
        ("Answer: between 5 and $7$", "between 5 and $7$"),
        ("Answer: 7\n" + r"\boxed{8}", "8"),
        (r"\boxed{8}" + "\nAnswer: 7", "7"),
        (r"\boxed{8}" + "\nThe answer is 7", "8"),
        ("**Final Answer**\n\n7", "7"),
        ("Answer: 7\nI am sure that this answer is correct.", "7"),
        ("The answer is 7. I am sure that it is the right answer.", "7"),
        ("Answer: $7$ (since $6$ is even)", "$7$ (since $6$ is even)"),
        ("7", "7"),
        ("one line\n7", None),
        ("", None),
        (r"\boxed{" + "1" * LENGTH + "}", "1" * LENGTH),
        (r"\boxed{" + "1" * (LENGTH + 1) + "}", None),
        ("1" * (LENGTH + 1), None),
    ],
)
def test_extraction(text: str, stated: str | None) -> None:
    assert extract(text) == stated
    assert grade(text, "0").stated == stated


@pytest.mark.parametrize(
    ("stated", "short"),
    [
        ("7, because 6 is even", "7"),
        ("7 (as we saw)", "7"),
        ("$7$ (since $6$ is even)", "$7$"),
        ("The largest $n$ is 34.", "34."),
        ("B - the second one", "B"),
        ("7 if n is even", None),
        ("7 (or 8)", None),
        (r"5 \pmod 7", None),
        ("x - ab", None),
        ("the same as before", None),
    ],
)
def test_an_answer_is_read_without_what_is_said_around_it_too(stated: str, short: str) -> None:
    assert readings(stated) == [stated, short][: 2 if short else 1]


# Properties


@given(st.integers(-(10**12), 10**12), st.data())
def test_an_integer_equals_itself_however_it_is_written(number: int, data) -> None:
    sign, digits = "-" * (number < 0), str(abs(number))
    written = data.draw(
        st.sampled_from(
            [
                f"{sign}{digits}",
                f"{sign}000{digits}",
                f"{sign}{abs(number):,}",
                f"{sign}{abs(number):,}".replace(",", r",\!"),
                f"{sign}{digits}.0",
                f"{sign}{abs(number):,}".replace(",", "{,}"),
                f" {sign} {digits} ",
                rf"{sign}{digits}\text{{ m}}",
                rf"{sign}\frac{{{digits}}}{{1}}",
                f"{number}^\\circ",
            ]
        )
    )
    forms = ["{}", r"\boxed{{{}}}", "Answer: {}.", "**{}**", "Answer: **${}$**", r"\[\fbox{{{}}}\]"]
    form = data.draw(st.sampled_from(forms))
    assert grade(form.format(written), f"{sign}{digits}")


@given(st.integers(), st.integers())
def test_different_integers_differ(one: int, other: int) -> None:
    assert bool(grade(rf"\boxed{{{one}}}", str(other))) == (one == other)


@given(st.fractions(), st.fractions())
def test_fractions_are_compared_exactly(one, other) -> None:
    text = rf"\boxed{{\frac{{{one.numerator}}}{{{one.denominator}}}}}"
    assert bool(grade(text, f"{other.numerator}/{other.denominator}")) == (one == other)


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.randoms())
def test_lists_have_no_order_and_tuples_have_one(numbers: list[int], rng) -> None:
    shuffled = rng.sample(numbers, len(numbers))
    gold, answer = (", ".join(map(str, each)) for each in (numbers, shuffled))
    assert grade(answer, gold)
    assert grade(rf"\{{{answer}\}}", gold)
    assert bool(grade(f"({answer})", f"({gold})")) == (numbers == shuffled)


@given(st.text(), st.text(min_size=1).filter(str.strip))
def test_any_text_is_judged_without_error(answer: str, gold: str) -> None:
    same(clean(gold), clean(answer), lambda *formulas: False)
    assert extract(answer) is None or len(extract(answer)) <= LENGTH


def test_answers_are_graded_in_order() -> None:
    answers = [r"\boxed{x+x}", "4", r"\boxed{2y}", "none\nat all", r"\boxed{2x}"] * 8
    grades = grade_all(answers, ["2x"] * len(answers), workers=3)
    assert [each.score for each in grades] == [1, 0, 0, 0, 1] * 8
    assert grade_all([], []) == []


# Input and the other grader


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "7"), "answer is None"),
        ((7, "7"), "answer is 7"),
        (("7", 7), "gold is 7"),
        (("7", ""), "gold is ''"),
        (("7", " "), "gold is ' '"),
        (("7", "7" * 1001), "must be a text of 1 to 1000 characters"),
        (("7", "7", 0), "seconds is 0"),
        (("7", "7", float("nan")), "seconds is nan"),
        (("7", "7", float("inf")), "seconds is inf"),
    ],
)
def test_bad_input_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grade(*arguments)


def test_bad_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="answers has 1 entries and must have 2"):
        grade_all(["7"], ["7", "8"])
    with pytest.raises(ValueError, match="workers is 0"):
        grade_all(["7"], ["7"], workers=0)
    with pytest.raises(ValueError, match="gold is None"):
        grade_all(["7", "7"], ["7", None])


SAMPLES = [  # answer, gold, ours, math_dapo's
    ("Answer: 5", "5", True, True),
    ("Answer: $\\frac{1}{2}$", r"\frac{1}{2}", True, True),
    (r"so \boxed{5}", "5", True, True),
    ("Answer: 6", "5", False, False),
    ("no answer\nhere", "5", False, False),
    ("Answer: 5.", "5", True, False),
    ("Answer: **5**", "5", True, False),
    ("Answer: 25", "025", True, False),
    ("Answer: 0.5", r"\frac{1}{2}", True, False),
    (r"Answer: \(5\)", "5", True, False),
    ("Answer: 25", "025", True, False),
    ("Answer: 5\n" + r"\boxed{6}", "5", False, True),
]


def test_disagreements_with_verls_grader() -> None:
    answers, truths, ours, theirs = map(list, zip(*SAMPLES, strict=True))
    table = grading.verdicts(answers, truths)
    assert table["correct"].tolist() == ours
    assert table["math_dapo"].tolist() == theirs == list(map(grading.verl_grade, answers, truths))
    assert table["stated"].tolist()[:5] == ["5", r"\frac{1}{2}", "5", "6", None]

    differ = grading.disagreements(table)
    assert differ["count"].sum() == sum(a != b for a, b in zip(ours, theirs, strict=True))
    assert differ.iloc[0].to_dict() == {
        "gold": "025",
        "stated": "25",
        "correct": True,
        "math_dapo": False,
        "count": 2,
    }
    assert len(grading.disagreements(table.head(5))) == 0
