"""The grade of an answer, and of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from companion.tasks.grading.brackets import levels
from companion.tasks.grading.comparison import same
from companion.tasks.grading.extraction import LENGTH, extract, readings
from companion.tasks.grading.notation import clean, key
from companion.tasks.grading.workers import WORKERS, ask

DEPTH = 20
"""Answers whose brackets nest deeper are right only if they read as the gold does."""
SECONDS = 5.0
"""CPU time that one comparison may take; a formula takes some milliseconds."""


@dataclass(frozen=True)
class Grade:
    """A verdict; true where the answer is right."""

    score: int
    """1 for a right answer, 0 otherwise."""
    stated: str | None
    """The answer as extracted, or None where there is none."""
    stopped: bool = False
    """Whether the comparison was ended by its time or memory limit (and the score is 0)."""

    def __bool__(self) -> bool:
        return self.score == 1


def grade(answer: str, gold: str, seconds: float = SECONDS) -> Grade:
    """Whether the model's text `answer` ends in an answer that equals `gold`.

    Works in threads, Ray workers and notebooks.

    Args:
        seconds: CPU time that a comparison may take before its process is ended. Not time on the
            clock, so that no verdict depends on how busy the machine is.

    Raises:
        ValueError: gold is empty, longer than LENGTH or no text, answer is no text, or seconds
            is no finite positive number.
        RuntimeError: the worker process does not start.
    """
    if not isinstance(answer, str):
        raise ValueError(f"answer is {answer!r:.80} and must be a text")
    if not isinstance(gold, str) or not 0 < len(gold.strip()) <= LENGTH:
        raise ValueError(f"gold is {gold!r:.80} and must be a text of 1 to {LENGTH} characters")
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds} and must be positive and finite")
    stated = extract(answer)
    if stated is None:
        return Grade(0, None)
    verdicts = []
    for reading in readings(stated):
        verdicts.append(_same(clean(gold), clean(reading), seconds))
        if verdicts[-1]:
            return Grade(1, stated)
    return Grade(0, stated, stopped=None in verdicts)


def _same(gold: str, answer: str, seconds: float) -> bool | None:
    """Whether two clean texts state the same; None where a limit ended the comparison."""
    if max(0, *levels(gold), *levels(answer)) > DEPTH:
        return key(gold) == key(answer)
    try:
        return same(gold, answer, _undecided)
    except _Undecided:
        return ask(gold, answer, seconds)


class _Undecided(Exception):
    """The rules do not suffice; a worker process has to look."""


def _undecided(gold: str, answer: str) -> bool:
    raise _Undecided


def grade_all(
    answers: Sequence[str], golds: Sequence[str], workers: int = WORKERS, seconds: float = SECONDS
) -> list[Grade]:
    """`grade` of each answer with its gold, in order, with up to `workers` processes.

    Raises:
        ValueError: answers and golds differ in number, workers is below 1, or as `grade`.
        RuntimeError: as `grade`.
    """
    if len(answers) != len(golds):
        raise ValueError(f"answers has {len(answers)} entries and must have {len(golds)}, as golds")
    if workers < 1:
        raise ValueError(f"workers is {workers} and must be at least 1")
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda a, g: grade(a, g, seconds), answers, golds))
