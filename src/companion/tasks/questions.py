"""From a data set's rows to questions: fields, options, repeats, and the template they are asked in."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from companion.policies import as_text
from companion.tasks import Question
from companion.tasks.sources import Source

INSTRUCTION = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
REMINDER = '\n\nRemember to put your answer on its own line after "Answer:".'
"""DAPO's template: its training file holds the problems between these two (Yu et al. 2025)."""

LETTERS = "ABCD"
SHUFFLE = 0
"""Seed of the order of a multiple-choice problem's options."""


def prompt(question: str) -> str:
    """The user message for a problem's text: one template for training and evaluation."""
    return f"{INSTRUCTION}{question}{REMINDER}"


def question(text: str) -> str:
    """A problem's text with DAPO's template, if it is there, and outer whitespace taken off."""
    return text.strip().removeprefix(INSTRUCTION).removesuffix(REMINDER).strip()


def plain(name: str, source: Source, table: pa.Table) -> pa.Table:
    """The columns key, problem, answer and option 1..., as text, of the hub's fields or verl's."""
    if "reward_model" in table.column_names:
        columns = _verl_columns(name, table)
    else:
        fields = {"key": source.key, "problem": source.problem, "answer": source.answer}
        fields |= {f"option {i}": field for i, field in enumerate(source.distractors, 1)}
        missing = [field for field in fields.values() if field not in table.column_names]
        if missing:
            raise ValueError(
                f"{name} has no field '{missing[0]}' but {', '.join(table.column_names)}; use the "
                f"fields of {source.hub}, or verl's"
            )
        columns = {column: table[field] for column, field in fields.items()}
    return pa.table({column: _text(name, column, values) for column, values in columns.items()})


def _text(name: str, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = values.type
    if pa.types.is_nested(kind) or pa.types.is_boolean(kind) or pa.types.is_binary(kind):
        raise ValueError(f"{name} has rows whose {column} is {kind} and must be text; restore them")
    return pc.cast(values, pa.string())


def _verl_columns(name: str, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    try:
        prompts, extra = table["prompt"], table["extra_info"]
        ids = {field.name for field in extra.type}
        key = next(field for field in ("key", "index", "id") if field in ids)
        if pc.min_max(pc.list_value_length(prompts)).as_py() != {"min": 1, "max": 1}:
            raise ValueError("more than one message")
        return {
            "key": pc.struct_field(extra, key),
            "problem": pc.struct_field(pc.list_element(prompts, 0), "content"),
            "answer": pc.struct_field(table["reward_model"], "ground_truth"),
        }
    except (KeyError, StopIteration, TypeError, ValueError, NotImplementedError):
        raise ValueError(
            f"{name} has the field 'reward_model' and must then have verl's others: prompt with "
            "one message, reward_model.ground_truth, extra_info.index"
        ) from None


def distinct(table: pa.Table) -> list[dict[str, Any]]:
    """The rows in order, without those that repeat an earlier one."""
    numbered = table.append_column("row", pa.array(range(table.num_rows)))
    first = numbered.group_by(table.column_names).aggregate([("row", "min")])["row_min"]
    return list(table.take(pa.array(sorted(first.to_pylist()))).to_pylist())


def problem(name: str, row: dict[str, Any]) -> Question:
    fields = {field: (value or "").strip() for field, value in row.items()}
    fields["problem"] = question(fields["problem"])
    empty = [field for field, value in fields.items() if not value]
    if empty:
        raise ValueError(f"{name} has a row (key {row['key']!r}) without {empty[0]}; restore it")
    if "option 1" in fields:
        return _multiple_choice(name, fields)
    return Question(name, fields["key"], prompt(fields["problem"]), fields["answer"])


def _multiple_choice(name: str, fields: dict[str, str]) -> Question:
    """The options in an order that depends on SHUFFLE and the key alone."""
    options = [fields["answer"], *(fields[f] for f in fields if f.startswith("option"))]
    order = random.Random(f"{SHUFFLE}/{fields['key']}").sample(range(len(options)), len(options))
    shown = "\n".join(f"{letter}) {options[i]}" for letter, i in zip(LETTERS, order, strict=True))
    text = f"{fields['problem']}\n\n{shown}\n\nAnswer with the letter of the right option."
    return Question(name, fields["key"], prompt(text), LETTERS[order.index(0)])


def without_repeats(problems: list[Question]) -> list[Question]:
    """The first of those that differ in whitespace alone; none where their answers differ."""
    groups: dict[str, list[Question]] = {}
    for problem in problems:
        groups.setdefault(" ".join(as_text(problem.prompt).split()), []).append(problem)
    return [group[0] for group in groups.values() if len({p.gold for p in group}) == 1]
