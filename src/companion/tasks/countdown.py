"""Countdown: reach a target with + - * / from numbers that are all used exactly once.

An answer is a search: attempts of one step a line, each step followed by the numbers left.
A line that ends in "no" retracts the attempt; one that ends in "yes" closes the answer. To the
prompt "3 5 7 -> 36", for example:

    3 + 5 = 8 : 7 8
    8 - 7 = 1 no
    5 + 7 = 12 : 3 12
    12 * 3 = 36 yes

Only the last attempt is judged, as of a mathematics answer only the final result is. Everything
is checked by rule; no text is ever evaluated.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from companion.tasks import Question

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerFast

    from companion import schema

OPERATORS = ("+", "-", "*", "/")
LARGEST = 100
"""Every number written, intermediate results included, lies in 0..LARGEST."""
LARGEST_GIVEN = 25
"""The numbers of a problem lie in 1..LARGEST_GIVEN."""

TRAINING = "Countdown"
"""What the training data is called in Table 3."""
SUITES = {
    "very easy": (0.15, 1.0),
    "easy": (0.07, 0.15),
    "middle": (0.05, 0.07),
    "hard": (0.035, 0.05),
    "very hard": (0.0, 0.035),
}
"""Three numbers, graded by `chance`: suite -> (above, up to)."""
OOD = "four numbers"
"""Out of distribution: the base policy has seen such problems, RL never trains on them."""
SPLITS = ("train", "validation", "test")
GRADER_VERSION, REWARD_VERSION = 1, 1
"""Of `verify`, which decides both (see tasks/__init__.py)."""


@dataclass(frozen=True)
class Problem:
    numbers: tuple[int, ...]
    target: int

    @property
    def key(self) -> str:
        """The same for every order of the numbers: "3 5 7 -> 36"."""
        return f"{' '.join(map(str, sorted(self.numbers)))} -> {self.target}"


def prompt(problem: Problem) -> str:
    """The user message, such as "5 3 7 -> 36"."""
    return f"{' '.join(map(str, problem.numbers))} -> {problem.target}"


def parse_prompt(text: str) -> Problem:
    """The problem that `prompt` wrote as `text`; ValueError for any other text."""
    numbers, _, target = text.partition(" -> ")
    words = [*numbers.split(), target]
    if len(words) < 3 or not all(map(_is_number, words)):
        raise ValueError(f"prompt is {text!r} and must read like '5 3 7 -> 36'")
    return Problem(tuple(map(int, words[:-1])), int(target))


def apply(left: int, operator: str, right: int) -> int | None:
    """left operator right, or None where that is no whole number in 0..LARGEST."""
    if operator == "/":
        result = left // right if right and left % right == 0 else -1
    else:
        result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    return result if 0 <= result <= LARGEST else None


def verify(problem: Problem, answer: str) -> bool:
    """Whether the last attempt of `answer` (text without special tokens) solves `problem`.

    Each of its steps must be right, use two numbers at hand and state, in any order, what is
    left; the last step leaves the target alone and is marked "yes".
    """
    lines = [line.split() for line in answer.split("\n")]
    closed = [i for i, line in enumerate(lines[:-1]) if line and line[-1] in ("no", "yes")]
    numbers = sorted(problem.numbers)
    for line in lines[closed[-1] + 1 if closed else 0 :]:
        numbers = _after(numbers, line)
    return numbers == [problem.target]


def _after(numbers: list[int], line: list[str]) -> list[int]:
    """The numbers left after the step on `line`, sorted; none where it is wrong."""
    if len(line) < 6 or line[1] not in OPERATORS or line[3] != "=":
        return []
    left, right, result = line[0], line[2], line[4]
    if not all(map(_is_number, (left, right, result, *line[6:]))):
        return []
    rest = list(numbers)
    for used in (int(left), int(right)):
        if used not in rest:
            return []
        rest.remove(used)
    if apply(int(left), line[1], int(right)) != int(result):
        return []
    rest = sorted([*rest, int(result)])
    mark, stated = line[5], sorted(map(int, line[6:]))
    last = len(rest) == 1
    return rest if (mark, stated) == (("yes", []) if last else (":", rest)) else []


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 3


def _steps(numbers: tuple[int, ...]) -> list[tuple[int, str, int, int, tuple[int, ...]]]:
    """All steps from `numbers`: left, operator, right, result, the numbers left after it.

    The larger number stands first, so that a sum or product is written in one way: orders that
    mean the same would be entropy that no reward can lower. Never empty: the larger minus the
    smaller is always in range.
    """
    return [
        (a, operator, b, result, (*rest, result))
        for (i, a), (j, b) in itertools.permutations(enumerate(numbers), 2)
        if a > b or (a == b and i < j)
        for rest in [[number for k, number in enumerate(numbers) if k not in (i, j)]]
        for operator in OPERATORS
        if (result := apply(a, operator, b)) is not None
    ]


def random_attempt(numbers: tuple[int, ...], rng: random.Random) -> list[str]:
    """The lines of a random correct attempt, each step drawn evenly from all there are.

    The last line ends in its result, still without a mark.
    """
    lines = []
    while len(numbers) > 1:
        a, operator, b, result, numbers = rng.choice(_steps(numbers))
        line = f"{a} {operator} {b} = {result}"
        lines.append(line if len(numbers) == 1 else f"{line} : {' '.join(map(str, numbers))}")
    return lines


def reached(attempt: list[str]) -> int:
    """The result of an attempt's last line."""
    return int(attempt[-1].split(" = ")[1])


def chance(problem: Problem) -> float:
    """The probability that a random attempt reaches the target."""

    def after(left: tuple[int, ...]) -> float:
        if len(left) == 1:
            return float(left[0] == problem.target)
        chances = [after(rest) for *_, rest in _steps(left)]
        return sum(chances) / len(chances)

    # Sorted, so that rounding cannot put two orders of one problem into two suites.
    return after(tuple(sorted(problem.numbers)))


def random_problem(count: int, rng: random.Random) -> tuple[Problem, list[str]]:
    """A problem of `count` numbers, of whatever split, with the attempt its target comes from.

    The target is at least 10 and none of the numbers, so that it has to be worked for.
    """
    while True:
        numbers = tuple(rng.randint(1, LARGEST_GIVEN) for _ in range(count))
        solution = random_attempt(numbers, rng)
        if reached(solution) >= 10 and reached(solution) not in numbers:
            return Problem(numbers, reached(solution)), solution


def split_of(problem: Problem) -> str:
    """The one split a problem belongs to: 80% train, 10% validation, 10% test, by a hash."""
    bucket = int(hashlib.sha256(problem.key.encode()).hexdigest(), 16) % 10
    return {0: "validation", 1: "test"}.get(bucket, "train")


def suite_of(problem: Problem) -> str:
    """The suite of a problem that can be solved."""
    if len(problem.numbers) == 4:
        return OOD
    odds = chance(problem)
    return next(suite for suite, (above, most) in SUITES.items() if above < odds <= most)


@lru_cache
def problems(split: str, suite: str, count: int) -> list[Problem]:
    """The first `count` problems of a suite in a split: always the same, no two alike.

    Raises:
        ValueError: no such split or suite, or it holds fewer problems.
    """
    if split not in SPLITS:
        raise ValueError(f"split is '{split}' and must be one of {', '.join(SPLITS)}")
    if suite not in (*SUITES, OOD):
        raise ValueError(f"suite is '{suite}' and must be one of {', '.join((*SUITES, OOD))}")
    rng = random.Random(f"{split}/{suite}")
    found: dict[str, Problem] = {}
    for _ in range(300 * count + 10_000):
        problem, _ = random_problem(4 if suite == OOD else 3, rng)
        if split_of(problem) == split and suite_of(problem) == suite:
            found.setdefault(problem.key, problem)
        if len(found) == count:
            return list(found.values())
    raise ValueError(f"count is {count} and must be at most {len(found)} for {split}/{suite}")


def training_set(count: int) -> list[tuple[str, Problem]]:
    """The first `count` training problems: (suite, problem), suites in equal parts."""
    each = -(-count // len(SUITES))
    pairs = [(suite, problem) for suite in SUITES for problem in problems("train", suite, each)]
    return pairs[:count]


# --- As a task of this package --------------------------------------------------------------


def suites(settings: schema.Task, split: str) -> list[str]:
    """The suites of the validation or test split, the out-of-distribution one last."""
    return [*SUITES, OOD]


def ood(settings: schema.Task) -> str:
    """The suite of another kind than RL trains on."""
    return OOD


def training(settings: schema.Task) -> list[Question]:
    """`task.train_problems` questions, in equal parts of the suites."""
    return [_question(*pair) for pair in training_set(settings.train_problems)]


def questions(settings: schema.Task, split: str, suite: str, count: int) -> list[Question]:
    """The first `count` of a suite; ValueError where it has fewer."""
    return [_question(suite, problem) for problem in problems(split, suite, count)]


def overlap(asked: Sequence[Question], trained: Sequence[Question]) -> pd.DataFrame:
    """Questions of the same numbers and target; none, since a hash decides on the split."""
    import pandas as pd

    keys = {question.key for question in trained}
    twins = [(q.suite, q.key, q.key, 1.0) for q in asked if q.key in keys]
    return pd.DataFrame(twins, columns=["suite", "key", "training_key", "similarity"])


def judge(settings: schema.Task, answers: Sequence[str], golds: Sequence[str]) -> pd.DataFrame:
    """One row an answer: correct."""
    import pandas as pd

    return pd.DataFrame(
        {
            "correct": [
                verify(parse_prompt(gold), answer)
                for answer, gold in zip(answers, golds, strict=True)
            ]
        }
    )


def grader(settings: schema.Task) -> dict[str, str]:
    """None: there is one."""
    return {}


def reward(profile: schema.Profile) -> dict[str, str]:
    """None: there is one rule."""
    return {}


def source(settings: schema.Task, split: str) -> dict[str, Any]:
    """Nothing was downloaded: the problems come from fixed seeds."""
    return {}


def _question(suite: str, problem: Problem) -> Question:
    """The gold is the prompt: whatever attempt reaches its target is right."""
    return Question(suite, problem.key, prompt(problem), prompt(problem))


CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Qwen3's, without its system message, tools and thinking."""


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, number, sign or line end, in Qwen's chat format; 116 tokens.

    verl 0.9.1 (utils/tokenizer/continuous_token.py) needs "\\n" as one token and <|im_end|>.
    Decoding joins the tokens with spaces, line ends included: " \\n ".
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "user", "assistant", "\n", "->"]
    words += [*OPERATORS, "=", ":", "no", "yes", *map(str, range(LARGEST + 1))]
    vocabulary = {word: token for token, word in enumerate(words)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
