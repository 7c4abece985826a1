"""The paper's mathematics: DAPO-Math-17K to train on, five benchmarks, and GPQA beside them.

What `companion.tasks` asks of a task; the data sets are in benchmarks.py, the grader in grading/.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion.tasks import Question, benchmarks, sources

if TYPE_CHECKING:
    import pandas as pd

    from companion import schema

TRAINING = sources.TRAINING
SUITES = ("MATH-500", "AIME24", "AIME25", "AIME26", "OlymMATH")
"""Table 1's benchmarks, over which it takes the macro-average."""
OOD = "GPQA Main"
"""Out of distribution: Fig. 4's second benchmark."""
GRADER_VERSION, REWARD_VERSION = 1, 1
"""Of grading/ and its verdict beside, verl's; of the rule in adapters/rewards.py."""
HELD_OUT = 256
"""Training problems that are set aside: the paper has no validation problems of its own."""


def suites(settings: schema.Task, split: str) -> list[str]:
    """The test split's are the benchmarks; validation problems come from the training file."""
    return [*SUITES, OOD] if split == "test" else [TRAINING]


def ood(settings: schema.Task) -> str:
    """The benchmark of another kind than RL trains on."""
    return OOD


def training(settings: schema.Task) -> list[Question]:
    """`task.train_problems` of DAPO-Math-17K, in the order of their hashes, so a subset is random.

    Raises:
        ValueError: there are fewer, the held-out ones set aside.
    """
    problems = _ordered(benchmarks.folder_of(settings))[HELD_OUT:]
    if settings.train_problems > len(problems):
        raise ValueError(
            f"task.train_problems is {settings.train_problems} and must be at most "
            f"{len(problems)}: {TRAINING} without the {HELD_OUT} held out"
        )
    return problems[: settings.train_problems]


def questions(settings: schema.Task, split: str, suite: str, count: int | None) -> list[Question]:
    """The first `count` of a suite, all if it has no more or `count` is None."""
    if split == "test":
        return list(_loaded(suite, benchmarks.folder_of(settings))[0][:count])
    return _ordered(benchmarks.folder_of(settings))[:HELD_OUT][:count]


def overlap(asked: Sequence[Question], trained: Sequence[Question]) -> pd.DataFrame:
    """Near-duplicates by n-grams of characters; see contamination.py."""
    from companion.tasks import contamination

    return contamination.near_duplicates(trained, asked)


def judge(settings: schema.Task, answers: Sequence[str], golds: Sequence[str]) -> pd.DataFrame:
    """One row an answer: correct by our grader, math_dapo by verl's, and stated, the answer found.

    verl's is `math_dapo` as 0.9.1 has it, box included, whatever rule RL was rewarded by
    (`rl.reward_rule`): a reference, the same for every run.
    """
    from companion.tasks import grading

    return grading.verdicts(answers, golds)[["correct", "math_dapo", "stated"]]


def grader(settings: schema.Task) -> dict[str, str]:
    """None: there is one."""
    return {}


def reward(profile: schema.Profile) -> dict[str, str]:
    """Where RL looks for the answer; see adapters/rewards.py."""
    return {"reward_rule": profile.rl.reward_rule}


def source(settings: schema.Task, split: str) -> dict[str, Any]:
    """Of a split's data sets: where they came from, their revisions, the hash of their content."""
    names = [suite for suite in suites(settings, split) if suite not in settings.leave_out]
    return {name: _loaded(name, benchmarks.folder_of(settings))[1] for name in names}


@lru_cache
def _loaded(name: str, folder: Path | None) -> tuple[list[Question], dict[str, Any]]:
    return benchmarks.load(name, folder)


@lru_cache
def _ordered(folder: Path | None) -> list[Question]:
    problems, _ = _loaded(TRAINING, folder)
    return benchmarks.ordered(problems)
