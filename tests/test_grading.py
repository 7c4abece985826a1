"""Grading: golds of the real benchmarks, a table of hard pairs, hostile text, kinds of hosts."""

import asyncio
import csv
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.tasks import grading
from companion.tasks.grading import Grade, extract, grade, grade_all

FORMULA = (r"\boxed{(x-1)(x+1)}", "x^2-1")  # equal, and only a worker process can tell
HANGS = (r"\boxed{9^{9^{9^{9}}}}", r"\pi")

with open(Path(__file__).parent / "data" / "answer_pairs.csv", newline="") as file:
    PAIRS = list(csv.DictReader(file))


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
    "math500/test.jsonl": 500, "aime24/test.jsonl": 30, "aime25/test.parquet": 30,
    "olymmath/en-easy.jsonl": 100, "olymmath/en-hard.jsonl": 100,
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
        ("7", "7"),
        ("one line\n7", None),
        ("", None),
        (r"\boxed{" + "1" * grading.LENGTH + "}", "1" * grading.LENGTH),
        (r"\boxed{" + "1" * (grading.LENGTH + 1) + "}", None),
        ("1" * (grading.LENGTH + 1), None),
    ],
)
def test_extraction(text: str, stated: str | None) -> None:
    assert extract(text) == stated
    assert grade(text, "0").stated == stated


# Properties


@given(st.integers(-(10**12), 10**12), st.data())
def test_an_integer_equals_itself_however_it_is_written(number: int, data) -> None:
    sign, digits = "-" * (number < 0), str(abs(number))
    written = data.draw(
        st.sampled_from(
            [
                f"{sign}{digits}", f"{sign}000{digits}", f"{sign}{abs(number):,}",
                f"{sign}{abs(number):,}".replace(",", r",\!"), f"{sign}{digits}.0",
                f"{sign}{abs(number):,}".replace(",", "{,}"), f" {sign} {digits} ",
                rf"{sign}{digits}\text{{ m}}", rf"{sign}\frac{{{digits}}}{{1}}", f"{number}^\\circ",
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
    try:
        grading._same(grading._clean(gold), grading._clean(answer), grading._undecided)
    except grading._Undecided:
        pass
    assert extract(answer) is None or len(extract(answer)) <= grading.LENGTH


def test_answers_are_graded_in_order() -> None:
    answers = [r"\boxed{x+x}", "4", r"\boxed{2y}", "none\nat all", r"\boxed{2x}"] * 8
    grades = grade_all(answers, ["2x"] * len(answers), workers=3)
    assert [each.score for each in grades] == [1, 0, 0, 0, 1] * 8
    assert grade_all([], []) == []


# Hostile text

LIMIT = 0.2
CODE = [
    "__import__('os').system('touch {0}')", "open('{0}','w')", 'exec("open(\'{0}\',\'w\')")',
    "eval('open(\"{0}\",\"w\")')", "sympify('open(\"{0}\",\"w\")')", "f(x):=open('{0}','w')",
    r"\operatorname{{eval}}(open('{0}','w'))", r"\text{{1}}+open('{0}','w').close()",
    r"\immediate\write18{{touch {0}}}", r"\input{{{0}}}", "1 if open('{0}','w') else 2",
    "Integer(open('{0}','w'))", "$(touch {0})", "`touch {0}`",
]
TOKENS = [
    r"\frac", "{", "}", "(", ")", "^", "_", "1", "x", r"\sqrt", "+", r"\left", r"\right", "&",
    r"\\", ",", r"\text{", "%", "$", r"\begin{pmatrix}", r"\pm", "=", "<", "!", "|", "\0",
]


def hostile(rng: random.Random, canary: Path) -> str:
    """A text that is meant to hang, exhaust, crash or take over the grader."""
    n, d = rng.randint(1, 400), rng.randint(2, 9)
    kinds = [
        "(" * n + "1" + ")" * n,
        "{" * n + "1" + "}" * n,
        r"\sqrt{" * n + "2" + "}" * n,
        r"\frac{1}{" * n + "2" + "}" * n,
        "(" * n,
        "}" * n + "{" * n,
        f"{d}**{d}**{d}",
        f"{d}^{{{d}^{{{d}}}}}",
        f"{d}^{{{d}^{{{d}^{{{d}}}}}}}",
        f"{10**d}!",
        "5" + "!" * d,
        rf"\binom{{{10**d}}}{{{10**d // 2}}}",
        rf"\int_0^{d} e^{{-x^{d}}} \sin(x^x) dx",
        rf"\sum_{{k=1}}^{{{10**d}}} \frac{{1}}{{k^{d}}}",
        rf"\prod_{{k=1}}^{{{10**d}}} k",
        rf"\operatorname{{zeros}}({10**d},{10**d})",
        "9" * 2 * n,
        "1" + ",1" * n,
        r"\pm" * n + "1",
        "x" * n,
        r"\begin{pmatrix}" + "1&" * n + r"1\end{pmatrix}",
        rng.choice(CODE).format(canary),
        "1+" + rng.choice(CODE).format(canary),
        "\0".join("12345"[:d]),
        "".join(chr(rng.choice([rng.randrange(127), rng.randrange(0xD800)])) for _ in range(n)),
        "".join(rng.choice(TOKENS) for _ in range(rng.randint(1, 60))),
    ]
    long = rng.choice(["1", "(", r"\boxed{", "$", "Answer: ", "answer ", " ", "\n", "\0"])
    if rng.random() < 0.02:
        return long * (10**6 // len(long))
    return rng.choice(["{}", r"\boxed{{{}}}", "Answer: {}"]).format(rng.choice(kinds))


def forks() -> dict[int, float]:
    """The processes that grade, each with the CPU time it has used."""
    found = {}
    for worker in filter(None, list(grading._idle.queue)):
        for fork in psutil.Process(worker.process.pid).children():
            found[fork.pid] = sum(fork.cpu_times()[:2])
    return found


def test_hostile_text_is_graded_in_bounded_time_and_memory_and_never_run(
    tmp_path, monkeypatch
) -> None:
    requests = []
    ask = grading._Worker.ask

    def recorded(worker, gold, answer, seconds):
        reply = ask(worker, gold, answer, seconds)
        requests.append((answer, seconds, reply))
        return reply

    monkeypatch.setattr(grading._Worker, "ask", recorded)
    rng = random.Random(0)
    answers = [hostile(rng, tmp_path / "canary") for _ in range(1000)]
    truths = [rng.choice(["7", r"\pi", "(1,2)", "x^2+1", r"\{1,2\}", "y=2x"]) for _ in answers]
    grades, spent = [], []
    for answer, gold in zip(answers, truths, strict=True):
        before = forks()
        grades.append(grade(answer, gold, LIMIT))
        after = forks()
        spent += [after[fork] - before[fork] for fork in before.keys() & after.keys()]

    assert not any(tmp_path.iterdir())
    assert not any(grades)
    assert all(each.stated is None or len(each.stated) <= grading.LENGTH for each in grades)
    # What reached a process was short and under the limit, and ended with a reply or the process.
    assert len(requests) > 100 and len(spent) > 500
    assert all(len(answer) < 2 * grading.LENGTH for answer, *_ in requests)
    assert {seconds for _, seconds, _ in requests} == {LIMIT}
    assert max(spent) < 2 * LIMIT
    assert sum(reply is None for *_, reply in requests) == sum(each.stopped for each in grades) > 0


def test_memory_is_limited() -> None:
    assert grade(*FORMULA)
    for fork in forks():
        limits = resource.prlimit(fork, resource.RLIMIT_AS)
        assert limits == (grading.MEMORY, grading.MEMORY)
    assert not grade(r"\boxed{\operatorname{zeros}(10^6,10^6)}", "x^2-1")


def test_the_worker_process_can_neither_evaluate_nor_write_nor_start_anything(tmp_path) -> None:
    program = """
import os, subprocess, sys
from companion.tasks import grading
grading._prepare()
grading._confine()
for attempt in (
    lambda: eval("1"), lambda: exec("1"), lambda: __import__("sympy").sympify("1"),
    lambda: os.system("true"), lambda: subprocess.run(["true"]), os.fork,
    lambda: open(sys.argv[1], "w"), lambda: os.open(sys.argv[1], os.O_CREAT),
):
    try: print(attempt())
    except Exception as error: print(error)
print(grading._same(r"\\sqrt{8}", r"2\\sqrt{2}", grading._same_formula))
"""
    words = [sys.executable, "-c", program, str(tmp_path / "written")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 9 and lines[-1] == "True"
    assert all("refused" in line for line in lines[:-1])
    assert not any(tmp_path.iterdir())


def test_the_time_limit_ends_the_process_and_the_next_call_works() -> None:
    assert grade(*FORMULA)
    before = forks()
    assert grade(*HANGS, seconds=LIMIT) == Grade(0, HANGS[0][7:-1], stopped=True)
    assert grade(*FORMULA)
    assert len(before.keys() - forks().keys()) == 1


@pytest.mark.parametrize("which", ["worker", "fork"])
def test_a_process_that_something_else_ends_is_replaced(which: str) -> None:
    assert grade(*FORMULA)
    before = forks()
    if which == "worker":
        for worker in filter(None, list(grading._idle.queue)):
            worker.process.kill()
            worker.process.wait()
    else:
        for fork in before:
            os.kill(fork, signal.SIGKILL)
        while forks().keys() & before.keys():
            time.sleep(0.01)
    assert all(grade_all([FORMULA[0]] * 4, [FORMULA[1]] * 4))


# Hosts


def test_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        grades = list(pool.map(lambda _: grade(*FORMULA), range(20)))
        stopped = pool.submit(grade, *HANGS, LIMIT).result()
    assert all(grades) and stopped.stopped


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_of_multiprocessing_and_ray(method: str) -> None:
    """Daemonic ones, which multiprocessing itself lets have no children."""
    assert grade(*FORMULA)  # so that a fork inherits a worker, which it must not use
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(grade, FORMULA) == Grade(1, FORMULA[0][7:-1])
        assert pool.apply(grade, (*HANGS, LIMIT)).stopped
    assert grade(*FORMULA)


def test_a_running_event_loop_as_in_notebooks() -> None:
    async def cell() -> Grade:
        return grade(*FORMULA)

    assert asyncio.run(cell())


def test_worker_processes_end_with_their_host() -> None:
    program = f"""
from companion.tasks import grading
assert grading.grade(*{FORMULA!r})
print(*[worker.process.pid for worker in grading._idle.queue if worker], flush=True)
import os; os._exit(0)
"""
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (worker,) = map(int, done.stdout.split())
    for _ in range(600):
        if not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie":
            return
        time.sleep(0.1)
    pytest.fail(f"process {worker} is still there")


def test_a_worker_that_does_not_start_is_reported(monkeypatch) -> None:
    monkeypatch.setattr(grading, "_idle", None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    grading._new_pool()
    with pytest.raises(RuntimeError, match="did not start .*run make setup"):
        grade(*FORMULA)
    assert grade("7", "7")  # nothing that a process is needed for


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
        "gold": "025", "stated": "25", "correct": True, "math_dapo": False, "count": 2,
    }
    assert len(grading.disagreements(table.head(5))) == 0
