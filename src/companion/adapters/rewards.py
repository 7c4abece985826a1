"""The reward function that verl loads (`reward.custom_reward_function`).

Relies on verl/experimental/reward_loop/reward_manager/dapo.py:82 (0.9.1), which calls it by
keyword and adds the overlong penalty to `score`; `acc` is what dynamic sampling filters on.
"""

from typing import Any


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
) -> dict[str, float]:
    """The reward of an answer, by its task's own rule.

    Countdown: 1 for a right answer, else 0. Mathematics: verl's rule for DAPO
    (utils/reward_score/math_dapo.py, 0.9.1), 1 or -1, so that training is the published recipe's.

    Args:
        data_source: "<task>/<suite>", as in the training file.
        solution_str: the answer without special tokens.
        ground_truth: a question's gold.

    Raises:
        ValueError: no rule for this data source.
    """
    task = data_source.split("/")[0]
    if task == "countdown":
        from companion.tasks import countdown

        correct = float(countdown.verify(countdown.parse_prompt(ground_truth), solution_str))
        return {"score": correct, "acc": correct}
    if task == "math":
        from verl.utils.reward_score import math_dapo

        verdict = math_dapo.compute_score(solution_str, ground_truth)
        return {"score": float(verdict["score"]), "acc": float(verdict["acc"])}
    raise ValueError(f"data_source is '{data_source}' and must begin with 'countdown/' or 'math/'")
