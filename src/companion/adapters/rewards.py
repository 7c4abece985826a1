"""The reward function that verl loads (`reward.custom_reward_function`).

Relies on verl/experimental/reward_loop/reward_manager/dapo.py:82 (0.9.1), which calls it by
keyword and adds the overlong penalty to `score`; `acc` is what dynamic sampling filters on. What
verl_command writes under `reward_kwargs` comes with every call (verl/trainer/ppo/reward.py:76).

verl calls it in a thread and waits without a limit; what would set one needs a process. The rules need
none: mathematics looks at LOOKED_AT characters, Countdown at each line once and at three digits of a
word, so that twice the answer takes twice the steps at most (tests/test_math_task.py). One that could
hang belongs into the workers of tasks/grading, which can be called from any thread.
"""

from typing import Any

from companion.provenance import first_line

LOOKED_AT = 300
"""Characters at an answer's end in which its result is looked for (math_dapo.py:267)."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Any = None,
    reward_rule: str | None = None,
    grader: str = "",
    **_: Any,
) -> dict[str, float]:
    """The reward of an answer, by its task's own rule.

    Countdown, and a task of one's own: 1 for a right answer, else 0. Mathematics, also as the grader
    of such a task: 1 or -1, by `rl.reward_rule`.

    Args:
        data_source: "<task>/<suite>", as in the training file.
        solution_str: the answer without special tokens.
        ground_truth: a question's gold.
        reward_rule: the profile's, for mathematics.
        grader: of a task of one's own.

    Raises:
        ValueError: the rule cannot tell; for an answer that cannot be scored there is no number. verl
            ends with it, or replay_buffer.py does where verl would go on.
    """
    try:
        return _score(data_source, solution_str, ground_truth, reward_rule, grader)
    except Exception as error:  # whatever a rule trips over
        raise ValueError(
            f"an answer to '{data_source}' with the gold {ground_truth!r} cannot be rewarded "
            f"({first_line(error)}); mend the data or the rule, and call again, which resumes"
        ) from error


def _score(source: str, answer: str, gold: str, rule: str | None, grader: str) -> dict[str, float]:
    task = source.split("/")[0]
    if task == "countdown":
        from companion.tasks import countdown

        correct = float(countdown.verify(countdown.parse_prompt(gold), answer))
        return {"score": correct, "acc": correct}
    if task == "own" and grader != "math":
        from companion.tasks import own

        correct = float(own.right(grader, answer, gold))
        return {"score": correct, "acc": correct}
    if task in ("math", "own"):
        correct = _math(answer, gold, rule)
        return {"score": 1.0 if correct else -1.0, "acc": float(correct)}
    raise ValueError(
        f"data_source is '{source}' and must begin with 'countdown/', 'math/' or 'own/'"
    )


def _math(answer: str, gold: str, rule: str | None) -> bool:
    """Whether DAPO's rule takes the answer; verl/utils/reward_score/math_dapo.py, 0.9.1.

    "answer-line": what follows the last "Answer:", and nothing else, as verl up to 0.9.0 had it
    (compared with the published 0.5.0 and 0.9.0: but for the box, the file is the same).
    "answer-line-or-box": verl 0.9.1's, which without an "Answer:" looks for a box.
    """
    from verl.utils.reward_score import math_dapo

    if rule == "answer-line":
        return bool(math_dapo.is_correct_minerva(answer[-LOOKED_AT:], gold)[0])
    if rule == "answer-line-or-box":
        return bool(math_dapo.compute_score(answer, gold)["acc"])
    raise ValueError(f"reward_rule is {rule!r} and must be 'answer-line' or 'answer-line-or-box'")
