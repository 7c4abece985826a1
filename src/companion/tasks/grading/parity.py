"""The verdicts of verl's DAPO grader beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from companion.tasks.grading.grades import grade_all

if TYPE_CHECKING:
    import pandas as pd


def verl_grade(answer: str, gold: str) -> bool:
    """The verdict of verl's own DAPO grader: utils/reward_score/math_dapo.py (0.9.1).

    It compares texts in the last 300 characters, "Answer:" before the box. RL's reward leaves the
    box out by default (`rl.reward_rule`); this one is a reference and does not follow it. Importing
    verl takes seconds once.
    """
    from verl.utils.reward_score import math_dapo

    score: Any = math_dapo.compute_score(answer, gold)  # not the float that verl declares
    return bool(score["acc"])


def verdicts(answers: Sequence[str], golds: Sequence[str]) -> pd.DataFrame:
    """One row a sample: gold, stated (None without an answer), correct, math_dapo.

    Raises:
        ValueError, RuntimeError: as `grade_all`.
    """
    import pandas as pd

    grades = grade_all(answers, golds)
    return pd.DataFrame(
        {
            "gold": list(golds),
            "stated": pd.Series([each.stated for each in grades], dtype=object),
            "correct": pd.Series(map(bool, grades), dtype=bool),
            "math_dapo": pd.Series(map(verl_grade, answers, golds), dtype=bool),
        }
    )


def disagreements(table: pd.DataFrame) -> pd.DataFrame:
    """The samples of `verdicts` on which the two graders differ, alike ones counted in `count`.

    The most frequent first; empty where the graders agree on all.
    """
    differ = table[table["correct"] != table["math_dapo"]]
    counts = differ.groupby(list(table), dropna=False, sort=False).size().reset_index(name="count")
    return counts.sort_values("count", ascending=False, kind="stable", ignore_index=True)
