"""The reward function that verl loads (`reward.custom_reward_function`).

Relies on verl/experimental/reward_loop/reward_manager/dapo.py:82 (0.9.1), which calls it by
keyword and adds the overlong penalty to `score`; `acc` is what dynamic sampling filters on.
"""

from typing import Any


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None, **_: Any
) -> dict[str, float]:
    """1 for a correct answer and 0 otherwise.

    Args:
        data_source: "<task>/<suite>", as in the training file.
        solution_str: the answer without special tokens.
        ground_truth: the prompt, from which the task's problem is read back.

    Raises:
        ValueError: no verifier for this data source.
    """
    task = data_source.split("/")[0]
    if task != "countdown":
        raise ValueError(f"data_source is '{data_source}' and must begin with 'countdown/'")
    from companion.tasks import countdown

    correct = float(countdown.verify(countdown.parse_prompt(ground_truth), solution_str))
    return {"score": correct, "acc": correct}
