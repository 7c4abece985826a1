"""Grading in worker processes: hostile text, limits of time and memory, kinds of hosts."""

import asyncio
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from companion.tasks.grading import Grade, grade, grade_all, sandbox, workers
from companion.tasks.grading.extraction import LENGTH

FORMULA = (r"\boxed{(x-1)(x+1)}", "x^2-1")  # equal, and only a worker process can tell
HANGS = (r"\boxed{9^{9^{9^{9}}}}", r"\pi")


# Hostile text

LIMIT = 0.2
CODE = [
    "__import__('os').system('touch {0}')",
    "open('{0}','w')",
    "exec(\"open('{0}','w')\")",
    'eval(\'open("{0}","w")\')',
    'sympify(\'open("{0}","w")\')',
    "f(x):=open('{0}','w')",
    r"\operatorname{{eval}}(open('{0}','w'))",
    r"\text{{1}}+open('{0}','w').close()",
    r"\immediate\write18{{touch {0}}}",
    r"\input{{{0}}}",
    "1 if open('{0}','w') else 2",
    "Integer(open('{0}','w'))",
    "$(touch {0})",
    "`touch {0}`",
]
TOKENS = [
    r"\frac",
    "{",
    "}",
    "(",
    ")",
    "^",
    "_",
    "1",
    "x",
    r"\sqrt",
    "+",
    r"\left",
    r"\right",
    "&",
    r"\\",
    ",",
    r"\text{",
    "%",
    "$",
    r"\begin{pmatrix}",
    r"\pm",
    "=",
    "<",
    "!",
    "|",
    "\0",
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
    for worker in filter(None, list(workers._idle.queue)):
        with suppress(psutil.NoSuchProcess):  # it ends while it is looked at
            for fork in psutil.Process(worker.process.pid).children():
                found[fork.pid] = sum(fork.cpu_times()[:2])
    return found


def test_hostile_text_is_graded_in_bounded_time_and_memory_and_never_run(
    tmp_path, monkeypatch
) -> None:
    requests = []
    ask = workers._Worker.ask

    def recorded(worker, gold, answer, seconds):
        reply = ask(worker, gold, answer, seconds)
        requests.append((answer, seconds, reply))
        return reply

    monkeypatch.setattr(workers._Worker, "ask", recorded)
    rng = random.Random(0)
    answers = [hostile(rng, tmp_path / "canary") for _ in range(500)]
    truths = [rng.choice(["7", r"\pi", "(1,2)", "x^2+1", r"\{1,2\}", "y=2x"]) for _ in answers]
    grades, spent = [], []
    for answer, gold in zip(answers, truths, strict=True):
        before = forks()
        grades.append(grade(answer, gold, LIMIT))
        after = forks()
        spent += [after[fork] - before[fork] for fork in before.keys() & after.keys()]

    assert not any(tmp_path.iterdir())
    assert not any(grades)
    assert all(each.stated is None or len(each.stated) <= LENGTH for each in grades)
    # What reached a process was short and under the limit, and ended with a reply or the process.
    assert len(requests) > 50 and len(spent) > 250
    assert all(len(answer) < 2 * LENGTH for answer, *_ in requests)
    assert {seconds for _, seconds, _ in requests} == {LIMIT}
    assert max(spent) < 2 * LIMIT
    assert sum(reply is None for *_, reply in requests) == sum(each.stopped for each in grades) > 0


def test_memory_is_limited() -> None:
    assert grade(*FORMULA)
    for fork in forks():
        limits = resource.prlimit(fork, resource.RLIMIT_AS)
        assert limits == (sandbox.MEMORY, sandbox.MEMORY)
    assert not grade(r"\boxed{\operatorname{zeros}(10^6,10^6)}", "x^2-1")


def test_the_worker_process_can_neither_evaluate_nor_write_nor_start_anything(tmp_path) -> None:
    program = """
import os, subprocess, sys
from companion.tasks.grading import comparison, sandbox
same_formula = sandbox.prepare()
sandbox.confine()
for attempt in (
    lambda: eval("1"), lambda: exec("1"), lambda: __import__("sympy").sympify("1"),
    lambda: os.system("true"), lambda: subprocess.run(["true"]), os.fork,
    lambda: open(sys.argv[1], "w"), lambda: os.open(sys.argv[1], os.O_CREAT),
    lambda: os.remove(sys.argv[0]), lambda: os.mkdir(sys.argv[1]),
):
    try: print(attempt())
    except Exception as error: print(error)
print(comparison.same(r"\\sqrt{8}", r"2\\sqrt{2}", same_formula))
"""
    words = [sys.executable, "-c", program, str(tmp_path / "written")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 11 and lines[-1] == "True"
    assert all("refused" in line for line in lines[:-1])
    assert not any(tmp_path.iterdir())


def test_the_time_limit_ends_the_process_and_the_next_call_works() -> None:
    assert grade(*FORMULA)
    before = forks()
    assert grade(*HANGS, seconds=LIMIT) == Grade(0, HANGS[0][7:-1], stopped=True)
    assert grade(*FORMULA)
    assert len(before.keys() - forks().keys()) == 1


@pytest.mark.fault("a grading worker is killed")
@pytest.mark.parametrize("which", ["worker", "fork"])
def test_a_process_that_something_else_ends_is_replaced(which: str) -> None:
    assert grade(*FORMULA)
    before = forks()
    if which == "worker":
        for worker in filter(None, list(workers._idle.queue)):
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
from companion.tasks.grading import grade, workers
assert grade(*{FORMULA!r})
print(*[worker.process.pid for worker in workers._idle.queue if worker], flush=True)
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
    monkeypatch.setattr(workers, "_idle", None)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    workers._new_pool()
    with pytest.raises(RuntimeError, match="did not start .*run make setup"):
        grade(*FORMULA)
    assert grade("7", "7")  # nothing that a process is needed for
