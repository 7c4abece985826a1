"""Every setting of the study, typed and described; what cannot be is refused with one sentence."""

from __future__ import annotations

from pydantic import model_validator

from companion.schema.measure import Analysis, Entropy, Evaluation
from companion.schema.reheat import Frozen, Merge, Reheat, Teacher
from companion.schema.rl import RL, Arm, Collapse, RewardRule
from companion.schema.task import Hardware, Task
from companion.schema.values import Section, Seed, check_tau

__all__ = [
    "RL",
    "Analysis",
    "Arm",
    "Collapse",
    "Entropy",
    "Evaluation",
    "Frozen",
    "Hardware",
    "Merge",
    "Profile",
    "Reheat",
    "RewardRule",
    "Section",
    "Task",
    "Teacher",
    "check_tau",
]


class Profile(Section):
    name: str
    about: str
    seed: Seed
    hardware: Hardware
    task: Task
    rl: RL
    reheat: Reheat
    frozen: Frozen = Frozen()
    merge: Merge = Merge()
    entropy: Entropy
    evaluation: Evaluation
    analysis: Analysis

    @model_validator(mode="after")
    def _check(self) -> Profile:
        if self.task.name == "own" and not self.task.prompts:
            raise ValueError("task.prompts is missing; name the file with the task's prompts")
        if self.task.name == "countdown" and not self.task.test_problems:
            raise ValueError("task.test_problems is missing; countdown has no end, give a number")
        if twice := set(self.rl.arms) & set(self.analysis.rivals):
            raise ValueError(
                f"analysis.rivals holds '{min(twice)}', which is in rl.arms; name it in one of them"
            )
        if self.rl.batch_size % self.rl.mini_batch_size:
            raise ValueError(
                f"rl.mini_batch_size is {self.rl.mini_batch_size} and must divide "
                f"rl.batch_size ({self.rl.batch_size})"
            )
        return self
