"""Whether two answers state the same: rules for all but formulas."""

import re
from collections.abc import Callable

from companion.tasks.grading.brackets import peel, split
from companion.tasks.grading.choices import same_choice
from companion.tasks.grading.notation import key
from companion.tasks.grading.numbers import same_number, same_numeral, same_time
from companion.tasks.grading.parts import entries, members
from companion.tasks.grading.relations import ascending, named
from companion.tasks.grading.units import measured

Leaf = Callable[[str, str], bool]
"""Decides on a formula, equation or relation that no rule took apart."""


def same(gold: str, answer: str, leaf: Leaf) -> bool:
    """Whether two clean texts state the same, whatever it is."""
    gold, answer = _unwrap(gold), _unwrap(answer)
    if not gold or not answer:
        return False
    if key(gold) == key(answer):
        return True
    if (letters := same_choice(gold, answer)) is not None:
        return letters
    if (numbers := same_number(gold, answer)) is not None:
        return numbers
    golds, answers = members(gold), members(answer)
    if len(golds) != len(answers):  # "101,202" beside "202, 101"
        golds, answers = members(gold, len(answers) > 1), members(answer, len(golds) > 1)
    if (golds, answers) == ([gold], [answer]):
        return _same_item(gold, answer, leaf)
    return len(golds) == len(answers) and _same_unordered(golds, answers, leaf)


def _unwrap(text: str) -> str:
    """`text` without braces around all of it."""
    while (peeled := peel(text))[0] == "{}":
        text = peeled[1]
    return text


def _same_unordered(golds: list[str], answers: list[str], leaf: Leaf) -> bool:
    rest = list(answers)
    for gold in golds:
        match = next((i for i, answer in enumerate(rest) if same(gold, answer, leaf)), None)
        if match is None:
            return False
        del rest[match]
    return True


def _same_item(gold: str, answer: str, leaf: Leaf) -> bool:
    """As `same`, for texts that are no list: values, x = value, relations."""
    (name, value), (answer_name, answer_value) = named(gold), named(answer, unknowns=True)
    if name is None and answer_name is None:
        return _same_value(value, answer_value, leaf)
    if name is None and answer_name == "":  # 2 + 3 = 5 is 5, and x + 2 = 5 is not
        sides = split(answer, "=")
        return len(sides) > 1 and all(same(gold, side, leaf) for side in sides)
    if name is None or answer_name is None or (name and key(name) == key(answer_name)):
        return name != "" and same(value, answer_value, leaf)
    gold, answer = ascending(gold), ascending(answer)
    return key(gold) == key(answer) or leaf(gold, answer)


def _same_value(gold: str, answer: str, leaf: Leaf) -> bool:
    """As `same`, for texts that are neither lists nor relations."""
    if (words := _same_words(gold, answer)) is not None:
        return words
    (bare, unit), (answer_bare, answer_unit) = measured(gold), measured(answer)
    if {unit, answer_unit} in ({"°", None}, {"°", "rad"}) and r"\pi" in gold + answer:
        pairs = (bare, unit), (answer_bare, answer_unit)
        return leaf(*(f"{value}°" if of == "°" else value for value, of in pairs))
    if unit and answer_unit and unit != answer_unit:
        return False
    if (bare, answer_bare) != (gold, answer):
        return same(bare, answer_bare, leaf)
    (kind, golds), (answer_kind, answers) = entries(gold), entries(answer)
    if kind or answer_kind:
        if kind == answer_kind:
            return all(same(*pair, leaf) for pair in zip(golds, answers, strict=True))
        if (kind and answer_kind) or r"\begin" not in (answer if kind else gold):
            return False  # and no sum of matrices
    for rule in (same_numeral, same_time):
        if (verdict := rule(gold, answer)) is not None:
            return verdict
    return leaf(gold, answer)


_TEXT = re.compile(r"\\text\{[^{}0-9]*[^\W0-9_][^{}0-9]*\}")
_WORD = re.compile(r"[A-Za-z][A-Za-z .'-]{2,}")


def _same_words(gold: str, answer: str) -> bool | None:
    r"""Whether two words or choices are one: \text{(C)} and C. None if they are formulas."""
    texts = [_TEXT.fullmatch(text) for text in (gold, answer)]
    if not any(texts) and not (_WORD.fullmatch(gold) and _WORD.fullmatch(answer)):
        return None
    gold, answer = (re.sub(r"\\text|[\W_]+", "", text.casefold()) for text in (gold, answer))
    return gold == answer
