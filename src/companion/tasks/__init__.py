"""What the policies are trained and evaluated on, and how an answer is judged.

A task is a module of this package with TRAINING, `suites`, `ood`, `training`, `questions`, `overlap`,
`judge`, `grader`, `reward` and `source`: countdown for two cores, math for the paper's own data, own
for a file of anybody's. The functions below ask the one that a profile names. GRADER_VERSION and
REWARD_VERSION are raised by hand when `judge`, or the reward in adapters/rewards.py, says something
else of the same answer (tests/test_versions.py); each is part of the identity of the runs that ask it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from companion import hashes
from companion.policies import Prompt

if TYPE_CHECKING:
    import pandas as pd

    from companion.schema import Profile


@dataclass(frozen=True)
class Question:
    suite: str
    """The benchmark, or the grade of difficulty, that it counts to."""
    key: str
    """Unique within the suite."""
    prompt: Prompt
    """What the policy is asked."""
    gold: str
    """What `judge` holds an answer against."""


def of(name: str) -> ModuleType:
    """The task's module; `name` is a profile's task.name."""
    return importlib.import_module(f"companion.tasks.{name}")


def suites(profile: Profile, split: str = "test") -> list[str]:
    """The in-domain suites of a split, over which accuracies are macro-averaged."""
    return [suite for suite in asked(profile, split) if suite != ood(profile)]


def ood(profile: Profile) -> str | None:
    """The out-of-distribution suite; None if the profile leaves it out."""
    suite = of(profile.task.name).ood(profile.task)
    return None if suite is None or suite in profile.task.leave_out else str(suite)


def asked(profile: Profile, split: str) -> list[str]:
    """Every suite of a split, but those of task.leave_out.

    Raises:
        ValueError: task.leave_out names no suite, or leaves none to average over.
    """
    task, left_out = of(profile.task.name), set(profile.task.leave_out)
    tested = task.suites(profile.task, "test")
    if not left_out <= set(tested) or set(tested) <= {*left_out, task.ood(profile.task)}:
        raise ValueError(
            f"task.leave_out is {profile.task.leave_out} and must name some of "
            f"{', '.join(tested)}, and leave one to average over"
        )
    return [suite for suite in task.suites(profile.task, split) if suite not in left_out]


def training(profile: Profile) -> list[Question]:
    """What RL and reheating draw their prompts from."""
    return list(of(profile.task.name).training(profile.task))


def held_out(profile: Profile, split: str) -> list[Question]:
    """Every question of the validation or test split, a suite after the other."""
    task, count = of(profile.task.name), getattr(profile.task, f"{split}_problems")
    names = asked(profile, split)
    return [q for suite in names for q in task.questions(profile.task, split, suite, count)]


def first_of_each(profile: Profile, split: str) -> list[Question]:
    """The first question of every suite of a split."""
    task = of(profile.task.name)
    names = asked(profile, split)
    return [task.questions(profile.task, split, suite, 1)[0] for suite in names]


def mixed(profile: Profile, split: str, count: int) -> list[Question]:
    """`count` questions of a split, in equal parts of its in-domain suites."""
    task, names = of(profile.task.name), suites(profile, split)
    each = -(-count // len(names))
    questions = [q for suite in names for q in task.questions(profile.task, split, suite, each)]
    return questions[:count]


def overlap(profile: Profile) -> pd.DataFrame:
    """Test questions that training repeats, or nearly: suite, key, training_key, similarity."""
    return of(profile.task.name).overlap(held_out(profile, "test"), training(profile))


def judge(profile: Profile, answers: Sequence[str], golds: Sequence[str]) -> pd.DataFrame:
    """One row an answer: `correct`, and what else the task's grader says."""
    return of(profile.task.name).judge(profile.task, answers, golds)


def grader(profile: Profile) -> dict[str, str]:
    """What of the grader is the user's choice, for the identity of an evaluation."""
    return dict(of(profile.task.name).grader(profile.task))


def reward(profile: Profile) -> dict[str, str]:
    """Settings of the task's reward: what RL's reward function gets beside an answer.

    They are part of an RL run's identity; a task whose reward has none leaves it as it is.
    """
    return dict(of(profile.task.name).reward(profile))


def source(profile: Profile, split: str = "train") -> dict[str, Any]:
    """Where a split's data came from, for run.json: revision and hash of what was downloaded."""
    return dict(of(profile.task.name).source(profile.task, split))


def training_hash(profile: Profile, *fields: str) -> str:
    """These fields of the task's training questions, for a run's fingerprint."""
    return hashes.text_hash(
        json.dumps([getattr(question, field) for field in fields]) for question in training(profile)
    )
