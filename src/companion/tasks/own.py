"""A task of one's own: the questions of a file, and how an answer to them is judged.

A row is a question: `prompt`, a user message, or `messages`, a conversation that ends with one; `gold`,
which RL and evaluation need and reheating does not; and, where accuracies are to be told apart, `suite`.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from companion import hashes
from companion.params import place
from companion.policies import Prompt, as_text
from companion.provenance import first_line, portable
from companion.tasks import Question, benchmarks

if TYPE_CHECKING:
    import pandas as pd

    from companion.schema import Profile, Task

TRAINING = "prompts of one's own"
SUITE = "own"
"""Where the file names none."""
GRADER_VERSION, REWARD_VERSION = 1, 1
"""Of `exact` below; mathematics is judged as in math.py, and a function of one's own by its code."""
GRADERS = ("exact", "math")


def suites(settings: Task, split: str) -> list[str]:
    """The file's suites, in the order in which they come there; the out-of-distribution one last."""
    names = list(dict.fromkeys(question.suite for question in read(settings.prompts or "")))
    if settings.ood is not None and settings.ood not in names:
        raise ValueError(
            f"task.ood is '{settings.ood}' and must be a suite of task.prompts, such as '{names[0]}'"
        )
    return sorted(names, key=lambda name: name == settings.ood)


def ood(settings: Task) -> str | None:
    """The suite that is never trained on."""
    return settings.ood


def training(settings: Task) -> list[Question]:
    """`task.train_problems` of the training split, in the order of their hashes: a random subset.

    Raises:
        ValueError: there are fewer.
    """
    found = [q for q in _split(settings, "train") if q.suite != settings.ood]
    if settings.train_problems > len(found):
        raise ValueError(
            f"task.train_problems is {settings.train_problems} and must be at most {len(found)}: "
            f"'{settings.prompts}' without the share task.held_out ({settings.held_out:g})"
        )
    return found[: settings.train_problems]


def questions(settings: Task, split: str, suite: str, count: int | None) -> list[Question]:
    """The first `count` of a suite in the order of their hashes; all if it has no more."""
    found = [q for q in _split(settings, split) if q.suite == suite][:count]
    if not found:
        raise ValueError(
            f"'{settings.prompts}' leaves no {split} problem of suite '{suite}'; raise task.held_out "
            f"({settings.held_out:g}), or give more prompts"
        )
    return found


def overlap(asked: Sequence[Question], trained: Sequence[Question]) -> pd.DataFrame:
    """Near-duplicates by n-grams of characters; see contamination.py."""
    from companion.tasks import contamination

    return contamination.near_duplicates(trained, asked)


def judge(settings: Task, answers: Sequence[str], golds: Sequence[str]) -> pd.DataFrame:
    """One row an answer: correct, and for mathematics what math.py says beside.

    Raises:
        ValueError: a gold is missing, or the grader fails.
    """
    import pandas as pd

    if "" in golds:
        raise ValueError(
            f"'{settings.prompts}' has rows without gold, and their answers cannot be judged; add it"
        )
    if settings.grader == "math":
        from companion.tasks import math

        return math.judge(settings, answers, golds)
    pairs = zip(answers, golds, strict=True)
    return pd.DataFrame({"correct": [right(settings.grader, *pair) for pair in pairs]})


def right(grader: str, answer: str, gold: str) -> bool:
    """Whether an answer is right, by "exact" or by "file.py:function".

    exact: what follows the last "Answer:", or all of it where there is none, is the gold but for
    whitespace. A function is called with the answer's text and the gold.

    Raises:
        ValueError: there is no such grader, it cannot be loaded, fails, or says anything but True or
            False.
    """
    if grader == "exact":
        return answer.rpartition("Answer:")[2].split() == gold.split()
    path, name = _split_name(grader)
    try:
        verdict = _function(path, name, path.stat().st_mtime_ns)(answer, gold)
    except Exception as error:  # whatever a user's function trips over
        raise ValueError(
            f"task.grader '{grader}' fails on the answer {answer[:60]!r} with the gold {gold!r} "
            f"({first_line(error)}); mend it"
        ) from error
    if not isinstance(verdict, bool):
        raise ValueError(f"task.grader '{grader}' says {verdict!r} and must say True or False")
    return verdict


def grader(settings: Task) -> dict[str, str]:
    """The grader's name and, of a function of one's own, the hash of its file."""
    if settings.grader in GRADERS:
        return {"grader": settings.grader}
    path = _split_name(settings.grader)[0]
    return {"grader": settings.grader, "grader_code": hashes.file_hash(path)}


def reward(profile: Profile) -> dict[str, str]:
    """What the reward in adapters/rewards.py is told: the grader, and mathematics' rule."""
    rule = {"reward_rule": profile.rl.reward_rule} if profile.task.grader == "math" else {}
    return grader(profile.task) | rule


def source(settings: Task, split: str) -> dict[str, Any]:
    """Of what file or data set of the hub, and the hash of all that was read there."""
    name = settings.prompts or ""
    asked = (json.dumps([q.suite, q.prompt, q.gold]) for q in read(name))
    return {TRAINING: {"from": portable(name), "sha256": hashes.text_hash(asked)}}


# --- The file -------------------------------------------------------------------------------


def _split(settings: Task, split: str) -> list[Question]:
    """Of the file, by a hash of the prompt: the same whatever else the file holds."""
    every = benchmarks.ordered(read(settings.prompts or ""))
    if not settings.held_out:
        return every
    return [q for q in every if _split_of(q, settings) == split]


def _split_of(question: Question, settings: Task) -> str:
    at = int(hashes.text_hash([as_text(question.prompt)])[:8], 16) / 16**8
    if question.suite == settings.ood:  # nothing of it is for training
        return "test" if at < 0.5 else "validation"
    if at < settings.held_out / 2:
        return "test"
    return "validation" if at < settings.held_out else "train"


def of_a_hub(name: str) -> bool:
    """Whether a name can be a data set's or a model's on the hub: owner/name, and maybe @revision."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", name))


def read(name: str) -> list[Question]:
    """The questions of a file, or of the split "train" of a data set of the hub.

    Raises:
        ValueError: there is none, or a row of it is no question.
        RuntimeError: neither a file nor to be had from the hub.
    """
    path = place(name)
    if not path.exists() and of_a_hub(name):
        return _parsed(name, 0)
    try:
        return _parsed(str(path), path.stat().st_mtime_ns)
    except OSError as error:
        raise ValueError(
            f"task.prompts '{portable(str(path))}' cannot be read ({error.strerror}); give a file of "
            "JSON lines or parquet"
        ) from None


@lru_cache(maxsize=4)
def _parsed(name: str, _written: int) -> list[Question]:
    rows = _rows(Path(name)) if _written else _of_the_hub(name)
    name, found, seen = portable(name), [], dict[str, int]()
    for number, row in enumerate(rows, 1):
        question = _question(name, number, row)
        text = as_text(question.prompt)
        if (first := seen.setdefault(text, number)) != number:
            raise ValueError(f"'{name}' asks the same in rows {first} and {number}; remove one")
        found.append(question)
    if not found:
        raise ValueError(f"'{name}' has no rows; give at least one prompt")
    return found


def _of_the_hub(name: str) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset

    repository, _, revision = name.partition("@")
    try:
        yield from load_dataset(repository, split="train", revision=revision or None)
    except Exception as error:  # whatever a hub or a data set trips over
        raise RuntimeError(
            f"the prompts are '{name}', which is no file here and cannot be loaded from the Hugging "
            f"Face hub ({first_line(error)}); check the name and the network, or name a file"
        ) from None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        from pyarrow import ArrowInvalid, parquet

        try:
            yield from parquet.read_table(path).to_pylist()
        except ArrowInvalid as error:
            raise ValueError(
                f"'{portable(str(path))}' is no parquet ({first_line(error)})"
            ) from None
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("no object")
            except ValueError as error:
                raise ValueError(
                    f"line {number} of '{portable(str(path))}' is no JSON object ({error}); give "
                    "one a line"
                ) from None
            yield row


def _question(name: str, number: int, row: dict[str, Any]) -> Question:
    given = [column for column in ("prompt", "messages") if row.get(column) is not None]
    if len(given) != 1:
        raise ValueError(
            f"row {number} of '{name}' has the columns {', '.join(row)} and must have one of "
            "'prompt', a text, and 'messages', a conversation"
        )
    prompt: Prompt = row[given[0]]
    if given == ["messages"]:
        prompt = _conversation(name, number, prompt)
    elif not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(f"row {number} of '{name}' has the prompt {prompt!r}; give a text")
    suite, gold = row.get("suite", SUITE), row.get("gold", "")
    if not isinstance(suite, str) or not isinstance(gold, str | int | float):
        raise ValueError(f"row {number} of '{name}' has a suite or a gold that is no text; mend it")
    return Question(suite, str(number), prompt, str(gold).strip())


def _conversation(name: str, number: int, messages: Any) -> Prompt:
    """Checked, and as plain text where it is a user message alone."""
    whole = isinstance(messages, list) and all(
        isinstance(m, dict) and isinstance(m.get("content"), str) and m.get("role")
        for m in messages
    )
    if not whole or not messages or messages[-1]["role"] != "user":
        raise ValueError(
            f"row {number} of '{name}' has messages that are no conversation ending with a user's; give "
            'a list of {"role": …, "content": …}'
        )
    plain = [{"role": str(m["role"]), "content": m["content"]} for m in messages]
    return plain[0]["content"] if len(plain) == 1 else plain


# --- A grader of one's own ------------------------------------------------------------------


def _split_name(grader: str) -> tuple[Path, str]:
    file, colon, function = grader.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise ValueError(
            f"task.grader is '{grader}' and must be {' or '.join(GRADERS)}, or a function such as "
            "grader.py:grade"
        )
    return place(file), function


@lru_cache
def _function(path: Path, name: str, _written: int) -> Callable[[str, str], Any]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader  # of any .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return getattr(module, name)  # type: ignore[no-any-return]
    except Exception as error:  # whatever a user's file trips over
        raise ValueError(f"{name} of {path.name} cannot be loaded: {first_line(error)}") from error
