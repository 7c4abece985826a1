"""Where the paper's data sets are, and what each must hold: by the paper's names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where a data set is, and what it must hold."""

    hub: str
    parts: dict[str, str | None]
    """Local file, below the folder and without suffix -> the hub's config."""
    split: str
    """The hub's; a local file is one split."""
    problems: int
    spread: int = 0
    """How many problems more or fewer are accepted."""
    key: str = "unique_id"
    problem: str = "problem"
    answer: str = "answer"
    distractors: tuple[str, ...] = ()
    """Fields of the wrong options, where there are options."""
    csv: bool = False
    """Whether the hub's file is CSV, where an answer may read "None" or "NA" and is no gap."""
    revision: str | None = None
    """The hub's commit; None: the newest one at first load."""


TRAINING = "DAPO-Math-17K"
BENCHMARKS = {
    # By others' counts the file repeats 17,917 rows 100 times, with about 17,200 distinct problems
    # among them. It could not be counted here.
    TRAINING: Source(
        "BytedTsinghua-SIA/DAPO-Math-17k",
        {"dapo-math-17k/train": None},
        "train",
        17_200,
        300,
    ),
    "MATH-500": Source("HuggingFaceH4/MATH-500", {"math500/test": None}, "test", 500),
    "AIME24": Source("HuggingFaceH4/aime_2024", {"aime24/test": None}, "train", 30, key="id"),
    "AIME25": Source("math-ai/aime25", {"aime25/test": None}, "test", 30, key="id"),
    # The paper names no copy. This one could not be looked at here: id, split and fields are as
    # others use them.
    "AIME26": Source("MathArena/aime_2026", {"aime26/test": None}, "train", 30, key="problem_idx"),
    "OlymMATH": Source(
        "RUC-AIBOX/OlymMATH",
        {"olymmath/en-easy": "en-easy", "olymmath/en-hard": "en-hard"},
        "test",
        200,
    ),
    "GPQA Main": Source(
        "Idavidrein/gpqa",
        {"gpqa/gpqa_main": "gpqa_main"},
        "train",
        448,
        key="Record ID",
        problem="Question",
        answer="Correct Answer",
        distractors=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        csv=True,
    ),
}
"""Every data set by the paper's name. No revision is pinned: none could be checked here."""
