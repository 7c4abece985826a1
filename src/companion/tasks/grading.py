r"""Grading of mathematics answers: rule-based extraction and exact match, as the paper says.

What counts as the answer is its last \boxed{...}; without one, what follows the last "Answer:" or
"answer is" (DAPO's prompt asks for it); without that, a text of a single line as it stands. A box
that is not closed is no answer. Answer and gold are taken apart (lists, tuples, intervals,
matrices, equations, units) and numbers compared as exact fractions here; only formulas are left
to math-verify's LaTeX parser (math-verify 0.9.0, latex2sympy2_extended 1.11.0).

That parser, sympy and whatever a model wrote for them run in a process of their own, which has a
memory limit and is ended and replaced at the time limit: math-verify's own limit is a SIGALRM,
which works in the main thread only. No text is evaluated there either. ExprExtractionConfig,
which hands text to sympy's parse_expr, is not used; numbers in LaTeX reach eval just as well
(latex2sympy2.py:1026 calls sympy.Number on their text), hence `_exact`; an audit hook refuses
whatever else would evaluate text. Two formulas are equal if their values agree to 20 digits at
four points; math_verify.verify, which takes 1/2^99 for 1/2^98, decides only on what has no value,
such as sets and relations.

Decisions that graders differ in:

- Exact: 0.33 is not 1/3, 1.414 not sqrt(2). `a \approx b` states a.
- A comma-separated list or a set has no order; tuples, intervals, vectors and matrices have one,
  and their brackets count: neither 1,2 nor [1,2] nor \{1,2\} is (1,2).
- 52_8 equals neither 52 nor 42: the base asked for is part of the answer.
- Units may be left out, but not exchanged (5 cm is not 5 m). 15% equals 15 and 0.15.
- 1,234 and 1 234 are one number, unless an answer of as many parts separates them by ", ".
- x = 5 equals 5, but not y = 5; an equation equals its multiples.
"""

from __future__ import annotations

import json
import math
import os
import queue
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mpmath
    import pandas as pd
    import sympy

LENGTH = 1000
"""Longer answers are none, in characters (the longest gold of MATH-500 has 53)."""
DEPTH = 20
"""Formulas whose brackets nest deeper are not read."""
SECONDS = 5.0
"""CPU time that one comparison may take; a formula takes some milliseconds."""
MEMORY = 2 * 1024**3
"""Address space of a worker process, in bytes."""
WORKERS = min(8, os.cpu_count() or 1)
"""At most so many worker processes, each started when first needed."""


@dataclass(frozen=True)
class Grade:
    """A verdict; true where the answer is right."""

    score: int
    """1 for a right answer, 0 otherwise."""
    stated: str | None
    """The answer as extracted, or None where there is none."""
    stopped: bool = False
    """Whether the comparison was ended by its time or memory limit (and the score is 0)."""

    def __bool__(self) -> bool:
        return self.score == 1


def grade(answer: str, gold: str, seconds: float = SECONDS) -> Grade:
    """Whether the model's text `answer` ends in an answer that equals `gold`.

    Works in threads, Ray workers and notebooks.

    Args:
        seconds: CPU time that a comparison may take before its process is ended. Not time on the
            clock, so that no verdict depends on how busy the machine is.

    Raises:
        ValueError: gold is empty, longer than LENGTH or no text, answer is no text, or seconds
            is no finite positive number.
        RuntimeError: the worker process does not start.
    """
    if not isinstance(answer, str):
        raise ValueError(f"answer is {answer!r:.80} and must be a text")
    if not isinstance(gold, str) or not 0 < len(gold.strip()) <= LENGTH:
        raise ValueError(f"gold is {gold!r:.80} and must be a text of 1 to {LENGTH} characters")
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds} and must be positive and finite")
    stated = extract(answer)
    if stated is None:
        return Grade(0, None)
    pair = _clean(gold), _clean(stated)
    if _key(pair[0]) == _key(pair[1]):
        return Grade(1, stated)
    if max(map(_depth, pair)) > DEPTH:
        return Grade(0, stated)
    try:
        return Grade(int(_same(*pair, _undecided)), stated)
    except _Undecided:
        equal = _ask(*pair, seconds)
    return Grade(int(bool(equal)), stated, stopped=equal is None)


def grade_all(
    answers: Sequence[str], golds: Sequence[str], workers: int = 2, seconds: float = SECONDS
) -> list[Grade]:
    """`grade` of each answer with its gold, in order, with up to `workers` processes.

    Raises:
        ValueError: answers and golds differ in number, workers is below 1, or as `grade`.
    """
    if len(answers) != len(golds):
        raise ValueError(f"answers has {len(answers)} entries and must have {len(golds)}, as golds")
    if workers < 1:
        raise ValueError(f"workers is {workers} and must be at least 1")
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda a, g: grade(a, g, seconds), answers, golds))


def verl_grade(answer: str, gold: str) -> bool:
    """The verdict that verl's DAPO reward gives: utils/reward_score/math_dapo.py (0.9.1).

    It compares texts in the last 300 characters, "Answer:" before the box. Importing verl takes
    seconds once.
    """
    from verl.utils.reward_score import math_dapo

    return bool(math_dapo.compute_score(answer, gold)["acc"])


def verdicts(answers: Sequence[str], golds: Sequence[str], workers: int = 2) -> pd.DataFrame:
    """One row a sample: gold, stated (None without an answer), correct, math_dapo."""
    import pandas as pd

    grades = grade_all(answers, golds, workers)
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
    columns = ["gold", "stated", "correct", "math_dapo"]
    counts = differ.groupby(columns, dropna=False, sort=False).size().reset_index(name="count")
    return counts.sort_values("count", ascending=False, kind="stable", ignore_index=True)


# Extraction

_MARK = re.compile(r"answer[*_]*\s*(?::|\bis\b:?)[*_\s]*", re.IGNORECASE)
_FORMULA = re.compile(r"(?<!\\)\$+(.+?)(?<!\\)\$+|\\\((.+?)\\\)|\\\[(.+?)\\\]")


def extract(answer: str) -> str | None:
    r"""The answer that a model's text states, or None; see the module's first paragraph."""
    box = max(answer.rfind(r"\boxed"), answer.rfind(r"\fbox"))
    ends = [0, *(mark.end() for mark in _MARK.finditer(answer))] if box < 0 else []
    if box >= 0:
        stated = _boxed(answer[box : box + LENGTH + 20])
    elif ends[-1]:
        stated = _sentence(answer[ends[-1] : ends[-1] + 2 * LENGTH])
    else:
        stated = "" if "\n" in answer.strip() else answer.strip()
    return stated if 0 < len(stated) <= LENGTH else None


def _boxed(text: str) -> str:
    r"""The content of the \boxed{...} that begins `text`; "" where it is not closed."""
    start = re.match(r"\\(?:boxed|fbox)\s*(\{|[^\s{}$]*)", text)
    if start[1] != "{":
        return start[1]
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[start.end() - 1 :], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start.end() : start.end() - 1 + brace.start()].strip()
    return ""


def _sentence(text: str) -> str:
    """What follows "Answer:": the first sentence of the first line that says something."""
    line = next((line for line in text.splitlines() if re.search(r"[\w{]", line)), "")
    line = re.split(r"\.\s+(?=[A-Z])", line)[0].strip()
    formulas = list(_FORMULA.finditer(line))
    if len(formulas) == 1 and not re.search(r"[0-9]", _FORMULA.sub("", line)):
        return next(group for group in formulas[0].groups() if group).strip()
    return line


# Normal form of the notation. Operators and set braces become one character each, so that the
# rules below can look for them: ≤ ≥ ∈ ∪ ± ∓ ≈ ° ⦃ ⦄.

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "⁄": "/",
        "π": r"\pi ", "θ": r"\theta ", "∞": r"\infty ", "√": r"\sqrt ", "²": "^2", "³": "^3",
        "½": r"\frac12", "¼": r"\frac14", "¾": r"\frac34", "ℝ": r"\mathbb{R}", "∅": r"\emptyset ",
        "，": ",", "（": "(", "）": ")", "：": ":", "％": "%", "\u00a0": " ", "\u2009": " ",
        "\u202f": " ", "⟨": "(", "⟩": ")",
    }
)
_FUNCTIONS = "sqrt|pi|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|exp"
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"(?<!\\)\\[()\[\]]|\\?[$€£]", ""),
        (r"\\(?:boxed|fbox)(?=\s*\{)", ""),
        (r"\\(?:left|right)\s*\.", ""),
        (r"\\(?:left|right|[bB]igg?[lrm]?|(?:display|text|script)style|limits)(?![A-Za-z])\s*", ""),
        # 10,\!080 and 10{,}080 and 10\,080 are one number, even inside a tuple
        (r"(?<=[0-9])\s*(?:,\\!|\{,\}|\\[,;: ])\s*(?=[0-9]{3}(?![0-9]))", ""),
        (r"(?<!\\)\\!|\\phantom\s*\{[^{}]*\}", ""),
        (r"(?<!\\)\\[,;:> ]|\\q?quad(?![A-Za-z])|\\(?:thin|med|thick)space(?![A-Za-z])|~", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:text[a-z]*|[mh]box|math(?:rm|bf|it|sf|tt|normal))\s*(?=\{)", r"\\text"),
        (r"^\s*\\text\{([^{}]*[0-9][^{}]*)\}\s*$", r"\1"),
        (r"!=", r"\\ne "),
        (r"\s*(?:\\text\{\s*\(?base\s*\}?|\(?base)\s*([0-9]+)\s*\)?\}?$", r"_\1"),
        (r",?\s*\\text\{\s*,?\s*(?:and|or)\s*\}\s*", ", "),
        (r",?\s*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])\s*", ", "),
        (r"\{[0-9]{1,3}(?:,[0-9]{3})+\}", lambda match: match[0].replace(",", "")),
        (r"\\leq?(?:slant)?(?![A-Za-z])|<=", "≤"),
        (r"\\geq?(?:slant)?(?![A-Za-z])|>=", "≥"),
        (r"\\lt(?![A-Za-z])", "<"),
        (r"\\gt(?![A-Za-z])", ">"),
        (r"\\in(?![A-Za-z])", "∈"),
        (r"\\cup(?![A-Za-z])", "∪"),
        (r"\\pm(?![A-Za-z])|\+-|\+/-", "±"),
        (r"\\mp(?![A-Za-z])", "∓"),
        (r"\\approx(?![A-Za-z])", "≈"),
        (r"\\(?:\{|lbrace(?![A-Za-z]))", "⦃"),
        (r"\\(?:\}|rbrace(?![A-Za-z]))", "⦄"),
        (r"\\langle(?![A-Za-z])", "("),
        (r"\\rangle(?![A-Za-z])", ")"),
        (r"\\lbrack(?![A-Za-z])", "["),
        (r"\\rbrack(?![A-Za-z])", "]"),
        (r"\^\s*\{?\s*(?:\\circ|\\degree|°)(?![A-Za-z])\s*\}?|\\degrees?(?![A-Za-z])", "°"),
        (r"\\%|\\text\{\s*percent\s*\}|(?<=[0-9}\s])percent(?![A-Za-z])", "%"),
        (r"\^\s*\{?\s*\\text\{\s*(?:st|nd|rd|th)\s*\}\s*\}?", ""),
        (r"\*\*", "^"),
        (r"(?<![\\A-Za-z])(?:infinity|infty|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"\+\s*(?=\\infty)", ""),
        (rf"(?<![\\A-Za-z])(?=(?:{_FUNCTIONS})(?![A-Za-z]))", r"\\"),
        (r"\\varnothing(?![A-Za-z])|⦃\s*⦄", r"\\emptyset "),
        (r"\(\s*-\s*\\infty\s*,\s*\\infty\s*\)", r"\\mathbb{R}"),
    ]
]
_BACK = str.maketrans(
    {
        "≤": r"\le ", "≥": r"\ge ", "∈": r"\in ", "∪": r"\cup ", "±": r"\pm ", "∓": r"\mp ",
        "≈": r"\approx ", "⦃": r"\{", "⦄": r"\}",
    }
)
_ARGUMENT = r"\s*(\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}|\\[A-Za-z]+|[0-9A-Za-z])"
_FRACTION = re.compile(rf"\\frac(?![A-Za-z]){_ARGUMENT}{_ARGUMENT}")
_ROOT = re.compile(rf"\\sqrt(?![A-Za-z])\s*(\[[^\[\]]*\])?{_ARGUMENT}")


@lru_cache(maxsize=4096)
def _clean(text: str) -> str:
    """`text` in one notation, spaces collapsed, without dollars, markdown and a final stop."""
    text = text.strip().strip("*`\"").translate(_UNICODE)
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)  # LaTeX escaped twice
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _braced(_grouped(text))
    return " ".join(text.split()).lstrip(" *`\":,;").rstrip(" *`\".:,;\\")


def _grouped(text: str) -> str:
    r"""Parentheses after \sqrt and ^ as braces: sqrt(2) and 2^(n+1)."""
    for start in reversed([match.end() - 1 for match in re.finditer(r"(?:\\sqrt|\^)\s*\(", text)]):
        _, inside = _peel(text[start : _end(text, start)])
        text = text[:start] + "{" + inside + "}" + text[_end(text, start) :]
    return text


def _braced(text: str) -> str:
    r"""\frac and \sqrt with braces around their arguments, which TeX does not ask for."""

    def wrap(argument: str) -> str:
        return "{" + _braced(argument[1:-1] if argument[0] == "{" else argument) + "}"

    text = _FRACTION.sub(lambda match: rf"\frac{wrap(match[1])}{wrap(match[2])}", text)
    return _ROOT.sub(lambda match: rf"\sqrt{match[1] or ''}{wrap(match[2])}", text)


def _key(text: str) -> str:
    """`text` without the spaces that separate no digits."""
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", text)


# Brackets

_OPEN, _CLOSE = "([{⦃", ")]}⦄"


def _levels(text: str) -> list[int]:
    """How deep in brackets each character is; a bracket is as deep as what it encloses."""
    levels, depth = [], 0
    for character in text:
        depth += character in _OPEN
        levels.append(depth)
        depth -= character in _CLOSE
    return levels


def _depth(text: str) -> int:
    return max(_levels(text), default=0)


def _end(text: str, start: int) -> int:
    """The index after the bracket that closes the one at `start`; the text's end without one."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in _OPEN) - (text[i] in _CLOSE)
        if depth <= 0:
            return i + 1
    return len(text)


def _peel(text: str) -> tuple[str, str]:
    """The two brackets around all of `text`, such as "(]", and what is inside; or "", `text`."""
    if len(text) > 1 and text[0] in _OPEN and text[-1] in _CLOSE and _end(text, 0) == len(text):
        return text[0] + text[-1], text[1:-1].strip()
    return "", text


def _split(text: str, separators: str) -> list[str]:
    """The parts of `text` between separators that stand in no bracket."""
    parts, start = [], 0
    for i, level in enumerate(_levels(text)):
        if level == 0 and text[i] in separators:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


# Comparison

Leaf = Callable[[str, str], bool]
"""Decides on a formula, equation or relation that no rule took apart (LaTeX)."""


class _Undecided(Exception):
    """The rules do not suffice; a worker process has to look."""


def _undecided(gold: str, answer: str) -> bool:
    raise _Undecided


def _same(gold: str, answer: str, leaf: Leaf) -> bool:
    """Whether two clean texts state the same, whatever it is."""
    gold, answer = _unwrap(gold), _unwrap(answer)
    if not gold or not answer:
        return False
    if _key(gold) == _key(answer):
        return True
    if (numbers := _same_number(gold, answer)) is not None:
        return numbers
    golds, answers = _members(gold), _members(answer)
    if len(golds) != len(answers):  # "101,202" beside "202, 101"
        golds, answers = _members(gold, len(answers) > 1), _members(answer, len(golds) > 1)
    if len(golds) == len(answers) == 1:
        return _same_item(golds[0], answers[0], leaf)
    return len(golds) == len(answers) and _same_unordered(golds, answers, leaf)


def _unwrap(text: str) -> str:
    """`text` without braces around all of it."""
    while (peeled := _peel(text))[0] == "{}":
        text = peeled[1]
    return text


_THOUSANDS = re.compile(r"(?<![0-9,.])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])")


def _members(text: str, commas: bool = False) -> list[str]:
    """The members of a list, set or union, or `text` itself; with `commas`, all of them separate.

    1 ± 2 has two.
    """
    if len(parts := _split(text, "∪")) > 1:
        return [member for part in parts for member in _members(part)]
    if not commas:
        levels = _levels(text)
        text = _THOUSANDS.sub(
            lambda match: match[0] if levels[match.start()] else match[0].replace(",", ""), text
        )
    parts = _split(text, ",;")
    if len(parts) == 1:
        name, value = _named(text)
        brackets, inside = _peel(value)
        if brackets == "⦃⦄":
            return _members(inside)
        if name and len(members := _members(value)) > 1:  # x = ±2, x ∈ {1, 2}
            return members
    return [member for part in parts for member in _signs(part)]


def _signs(text: str) -> list[str]:
    if "±" not in text and "∓" not in text:
        return [text]
    return [text.translate(str.maketrans("±∓", signs)) for signs in ("+-", "-+")]


def _same_unordered(golds: list[str], answers: list[str], leaf: Leaf) -> bool:
    rest = list(answers)
    for gold in golds:
        match = next((i for i, answer in enumerate(rest) if _same(gold, answer, leaf)), None)
        if match is None:
            return False
        del rest[match]
    return True


def _same_item(gold: str, answer: str, leaf: Leaf) -> bool:
    """As `_same`, for texts that are no list: values, x = value, relations."""
    (name, value), (answer_name, answer_value) = _named(gold), _named(answer)
    if name is None and answer_name is None:
        return _same_value(value, answer_value, leaf)
    if name is None:
        return _same(value, answer_value, leaf)
    if answer_name is None:
        return bool(name) and _same(value, answer_value, leaf)
    if name and _key(name) == _key(answer_name):
        return _same(value, answer_value, leaf)
    return leaf(_formula(gold), _formula(answer))


_NAME = re.compile(
    r"(?!\\(?:pi|infty)\b|e$)"
    r"(?:\\?[A-Za-z]+'*(?:_(?:[0-9A-Za-z]|\{[^{}]*\}))?(?:\([A-Za-z, ]*\))?|\([A-Za-z, ]+\))"
)


def _named(text: str) -> tuple[str | None, str]:
    """What the value in `text` is called and the value: ("x", "5") for x = 5.

    x > 3 and x ∈ (3, ∞) are both ("x", "(3,\\infty)"). The name is None where there is none, and
    "" for an equation that does not name its value, which is then the last side ("" for other
    relations).
    """
    exact, *rounded = _split(text, "≈")
    if rounded:
        text = f"{exact} = {rounded[0]}" if _NAME.fullmatch(exact) else exact or rounded[0]
    sides = _split(text, "=")
    if len(sides) > 1:
        if len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]):
            sides.reverse()
        return sides[0] if _NAME.fullmatch(sides[0]) else "", sides[-1]
    sides = _split(text, "∈")
    if len(sides) > 1:
        return (sides[0], sides[1]) if _NAME.fullmatch(sides[0]) else ("", "")
    return _interval(text) if any(sign in text for sign in "<>≤≥") else (None, text)


def _interval(text: str) -> tuple[str, str]:
    """The name and interval in a < x ≤ b, x < b or a > x; "" and "" for other relations."""
    parts = [part.strip() for part in re.split("([<>≤≥])", text)]
    if parts[1] in ">≥":
        parts = [part.translate(str.maketrans("<>≤≥", "><≥≤")) for part in reversed(parts)]
    if len(parts) == 3:
        below = _NAME.fullmatch(parts[0])
        parts = [r"-\infty", "<", *parts] if below else [*parts, "<", r"\infty"]
    if len(parts) != 5 or not _NAME.fullmatch(parts[2]) or {parts[1], parts[3]} - {"<", "≤"}:
        return "", ""
    low, left, name, right, high = parts
    return name, f"{'[' if left == '≤' else '('}{low},{high}{']' if right == '≤' else ')'}"


def _same_value(gold: str, answer: str, leaf: Leaf) -> bool:
    """As `_same`, for texts that are neither lists nor relations."""
    if (words := _same_words(gold, answer)) is not None:
        return words
    (gold, unit), (answer, answer_unit) = _measured(gold), _measured(answer)
    if unit and answer_unit and unit != answer_unit:
        return False
    gold, answer = _unwrap(gold), _unwrap(answer)
    if _key(gold) == _key(answer):
        return True
    if (numbers := _same_number(gold, answer)) is not None:
        return numbers
    for parts in (_rows, _tuple):
        (kind, golds), (answer_kind, answers) = parts(gold), parts(answer)
        if kind or answer_kind:
            return (
                kind == answer_kind
                and len(golds) == len(answers)
                and all(_same(g, a, leaf) for g, a in zip(golds, answers, strict=True))
            )
    if any("_" in text and _numeral(text) for text in (gold, answer)):
        return _numeral(gold) == _numeral(answer)
    return leaf(_formula(gold), _formula(answer))


_TEXT = re.compile(r"\\text\{[^{}0-9]*[^\W0-9_][^{}0-9]*\}")
_WORD = re.compile(r"[A-Za-z][A-Za-z .'-]{2,}")


def _same_words(gold: str, answer: str) -> bool | None:
    r"""Whether two words or choices are one: \text{(C)} and C. None if they are formulas."""
    texts = [_TEXT.fullmatch(text) for text in (gold, answer)]
    if not any(texts) and not (_WORD.fullmatch(gold) and _WORD.fullmatch(answer)):
        return None
    gold, answer = (re.sub(r"\\text|[\W_]+", "", text.casefold()) for text in (gold, answer))
    return gold == answer


_UNITS = {
    spelling: name
    for name, spellings in {
        "mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre",
        "km": "kilometer kilometre", "in": "inch inche", "ft": "foot feet", "yd": "yard",
        "mi": "mile", "g": "gram gramme", "kg": "kilogram", "lb": "pound", "oz": "ounce",
        "ml": "milliliter millilitre", "l": "liter litre", "gal": "gallon", "s": "second sec",
        "min": "minute", "h": "hour hr", "day": "", "week": "", "month": "", "year": "yr",
        "cent": "", "dollar": "", "°": "degree deg", "rad": "radian", "am": "", "pm": "",
    }.items()
    for spelling in (name, *spellings.split())
}
_POWER = r"\s*(?:\^\s*\{?\s*[23]\s*\}?)?"
_MEASURES = [
    re.compile(pattern + _POWER)
    for pattern in (
        r"(.*[^\s_^{(,])\s*\\text\{\s*([^{}]{2,}|[mgslhLNJWVAKCF])\s*\}",
        r"(.*[0-9)}])\s*((?:[mcdk]m|[mk]g|ml|in|ft|lbs?|oz|hrs?|min|sec|mph|[ap]\.?m)(?:/[a-z]+)?)",
        r"(.*[0-9)}])\s+([A-Za-z]{3,}(?:[ /-]+[A-Za-z]+)*)",
        r"(.*[^\s(])\s*(°)",
    )
]


def _measured(text: str) -> tuple[str, str | None]:
    """`text` without its unit, and the unit: (5, cm) for 5 \\text{ square cm}; None if unknown."""
    unit = None
    while match := next(filter(None, (each.fullmatch(text) for each in _MEASURES)), None):
        if match[2] == "°" and re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
            break
        words = re.findall("[a-z]+|°", match[2].casefold().replace(".", ""))
        words = [word for word in words if word not in ("square", "sq", "cubic", "cu", "per")]
        first = words[0] if words else ""
        unit = _UNITS.get(first) or _UNITS.get(first.rstrip("s")) or unit
        text = match[1].strip()
    return text, unit


_UNSIGNED = r"[0-9]+(?:\.[0-9]+)?"
_NUMBER = re.compile(
    rf"""(?P<sign>[+-]?)\s*(?:
    (?P<plain>(?:[0-9]{{1,3}}(?:(?:,[0-9]{{3}})+|(?:[ ][0-9]{{3}})+)|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)
      (?:[eE](?P<exponent>[+-]?[0-9]{{1,3}}))?
    | (?:(?P<whole>[0-9]+)\s*)?
      \\frac\{{\s*(?P<above>-?\s*{_UNSIGNED})\s*\}}\{{\s*(?P<below>{_UNSIGNED})\s*\}}
    | (?:(?P<count>[0-9]+)\s+)?(?P<over>{_UNSIGNED})\s*/\s*(?P<under>{_UNSIGNED})
    | (?P<head>[0-9]*\.[0-9]*)\\overline\{{(?P<cycle>[0-9]+)\}}
    )""",
    re.VERBOSE,
)


@lru_cache(maxsize=4096)
def _number(text: str) -> Fraction | None:
    r"""The value of 1,234 or -0.5 or \frac{1}{2} or 1/2 or 1\frac{1}{2} or 0.\overline{3}."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    if match["plain"]:
        value = Fraction(re.sub("[ ,]", "", match["plain"]))
        value *= Fraction(10) ** int(match["exponent"] or 0)
    elif match["cycle"]:
        shift = 10 ** len(match["head"].partition(".")[2])
        value = Fraction("0" + match["head"] + "0")
        value += Fraction(int(match["cycle"]), shift * (10 ** len(match["cycle"]) - 1))
    else:
        above, below = match["above"] or match["over"], match["below"] or match["under"]
        whole = match["whole"] or match["count"]
        if not Fraction(below) or whole and not (above + below).isdigit():
            return None
        value = int(whole or 0) + Fraction(above.replace(" ", "")) / Fraction(below)
    return -value if match["sign"] == "-" else value


def _same_number(gold: str, answer: str) -> bool | None:
    """Whether two numbers are equal, where 15% equals 15 and 0.15; None if one is none."""
    values = [_number(text.removesuffix("%").strip()) for text in (gold, answer)]
    if None in values:
        return None
    percent = [text.endswith("%") for text in (gold, answer)]
    if percent[0] == percent[1]:
        return values[0] == values[1]
    share, value = values if percent[0] else reversed(values)
    return value in (share, share / 100)


_MATRIX = re.compile(
    r"\\begin\{(?:([pbBvV]?)(?:small)?matrix|array\}\s*\{[clr| ]*)\}(.*)\\end\{[A-Za-z]+\}"
)


def _rows(text: str) -> tuple[str, list[str]]:
    """The kind of a matrix with its shape, such as "matrix 2x3", and its entries; or ""."""
    brackets, inside = _peel(text)
    text = inside if inside.startswith(r"\begin") else text
    match = _MATRIX.fullmatch(text)
    if match is None:
        return "", []
    rows = re.split(r"\\\\(?:\[[^\]]*\])?", re.sub(r"\\\\\s*$", "", match[2]))
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    kind = "determinant" if match[1] in ("v", "V") else "matrix"
    return f"{kind} {[len(row) for row in cells]}", [cell for row in cells for cell in row]


def _tuple(text: str) -> tuple[str, list[str]]:
    """The brackets of a tuple or interval, and its entries; or ""."""
    brackets, inside = _peel(text)
    entries = _split(inside, ",;")
    return (brackets, entries) if brackets and len(entries) > 1 else ("", [])


_BASES = "two three four five six seven eight nine ten eleven twelve".split()
_BASED = re.compile(
    r"\(?([0-9][0-9A-Za-z]*|[A-F][0-9A-F]*)\)?"
    rf"_(?=.)\{{?\(?([0-9]*|{'|'.join(_BASES)})\)?\}}?"
)


def _numeral(text: str) -> tuple[str, str] | None:
    """Digits and base of 52_8 or of 52, whose base is 10; None if `text` is nothing like it."""
    match = _BASED.fullmatch(_plain(text).replace(" ", ""))
    if match is None:
        return (text.lstrip("0"), "10") if text.isdecimal() else None
    base = match[2]
    return match[1].casefold().lstrip("0"), str(_BASES.index(base) + 2 if base in _BASES else base)


def _plain(text: str) -> str:
    r"""`text` with what stands in \text{...} only."""
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", text)


def _formula(text: str) -> str:
    r"""`text` as LaTeX for math-verify: degrees as radians, products of names made explicit.

    latex2sympy would read x(x+1) as a function x, and n(n+1)/2 as a function n.
    """
    text = _plain(text.removesuffix("%"))
    text = re.sub(r"([0-9.]+)\s*°", r"(\1\\cdot\\frac{\\pi}{180})", text).replace("°", "")
    text = re.sub(r"(?<![A-Za-z\\])([a-eh-zA-Z]|\\(?:pi|alpha|theta))\s*(?=\()", r"\1\\cdot ", text)
    return text.translate(_BACK)


# In the worker process: formulas


def _same_formula(gold: str, answer: str) -> bool:
    """Whether two formulas, equations or relations in LaTeX are equal."""
    same = _same_equation if "=" in gold and "=" in answer else _same_expression
    try:
        return same(gold, answer)
    except MemoryError:
        raise
    except Exception:  # sympy raises whatever it likes on formulas that make no sense
        return False


def _same_expression(gold: str, answer: str) -> bool:
    import math_verify
    import mpmath
    import sympy

    ours, theirs = _parse(gold), _parse(answer)
    if ours is None or theirs is None:
        return False
    if not isinstance(ours, sympy.Expr) or not isinstance(theirs, sympy.Expr):
        return math_verify.verify(ours, theirs, timeout_seconds=None)
    if ours == theirs:  # values that are no numbers too: infinity, f(x)
        return not ours.has(sympy.nan, sympy.zoo)
    with mpmath.workdps(DIGITS):
        return all(_close(_value(ours, k), _value(theirs, k)) for k in range(POINTS))


def _same_equation(gold: str, answer: str) -> bool:
    """Whether two equations are multiples of each other: left - right has one ratio everywhere."""
    import mpmath

    differences = []
    for sides in (gold.split("="), answer.split("=")):
        left, right = _parse(sides[0]), _parse(sides[-1])
        if left is None or right is None:
            return False
        differences.append(left - right)
    ours, theirs = differences
    if {s.name for s in ours.free_symbols} != {s.name for s in theirs.free_symbols}:
        return False
    with mpmath.workdps(DIGITS):
        ratios = [_value(ours, k) / _value(theirs, k) for k in range(POINTS)]
        return ratios[0] != 0 and all(_close(ratios[0], ratio) for ratio in ratios)


POINTS = 4
"""Formulas are equal if they are equal at so many points, with coordinates of either sign."""
DIGITS = 10_000
"""Larger values are not compared."""


@lru_cache(maxsize=1024)
def _parse(latex: str) -> sympy.Basic | None:
    """The formula as sympy has it, unevaluated; None where math-verify cannot read all of it."""
    import math_verify
    from latex2sympy2_extended import NormalizationConfig

    # Without its rules for units: they would take 3h for 3. `_measured` has gone before.
    rules = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    config = math_verify.LatexExtractionConfig(
        boxed_match_priority=-1, normalization_config=rules
    )
    parsed = math_verify.parse(
        f"${latex}$", [config], "no_fallback", "first_match", parsing_timeout=None
    )
    return parsed[0] if parsed else None


def _exact(self: object, text: str) -> sympy.Rational:
    """Instead of latex2sympy's `parse_number`: decimals stay exact, and sympy's eval is avoided."""
    import sympy

    return sympy.Rational(text.replace(",", ""))


def _value(formula: sympy.Expr, k: int) -> mpmath.mpc:
    """The value at point k, to 30 digits, or to 30 after the decimal point if it is large.

    Raises:
        ValueError: it has no value there, or one of more than DIGITS digits.
    """
    import mpmath
    import sympy

    at = {symbol: _coordinate(symbol.name, k) for symbol in formula.free_symbols}
    value = formula.evalf(15, subs=at)
    if not value.is_number or not value.is_finite:
        raise ValueError("the formula has no finite value")
    size = mpmath.mag(mpmath.mpc(*(part._to_mpmath(53) for part in value.as_real_imag())))
    digits = 30 + (int(size * math.log10(2)) if size > 0 else 0)
    if digits > DIGITS:
        raise ValueError(f"the value has {digits} digits and must have at most {DIGITS}")

    def precise(part: sympy.Expr) -> mpmath.mpf:
        # evalf marks what cancels, such as sqrt(8) - 2 sqrt(2), by a precision of 1
        return 0 if getattr(part, "_prec", 0) == 1 else part._to_mpmath(mpmath.mp.prec)

    return mpmath.mpc(*map(precise, formula.evalf(digits, subs=at).as_real_imag()))


def _coordinate(name: str, k: int) -> sympy.Expr:
    """The value of a variable at point k, always the same; i is the imaginary unit."""
    import sympy

    if name == "i":
        return sympy.I
    return sympy.Rational(random.Random(f"{name} {k}").randrange(-9999, 10_000, 2), 1009)


def _close(a: mpmath.mpc, b: mpmath.mpc) -> bool:
    """Equal to 20 digits, or to 20 after the decimal point if they are large."""
    largest = max(abs(a), abs(b))
    return a == b or abs(a - b) < 1e-20 * min(1, largest)


# Worker processes
#
# A worker is two processes: one imports and waits, the other is its fork and grades, until a limit
# ends it and the next fork takes over. A fork takes milliseconds, the imports a second or two.

_START_SECONDS = 120
_PATIENCE = 20
"""How much longer than its CPU time a comparison may last on a busy machine, as a factor."""
_REFUSED = {
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
    "subprocess.Popen", "socket.connect",
}


def _prepare() -> None:
    """Imports all that formulas need and lets the parser fill its tables once."""
    import logging

    import math_verify  # noqa: F401
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    logging.disable()
    _Latex2Sympy.parse_number = _exact
    _same_formula(r"\frac{\sqrt{2}x^{2}}{3}-2\pi(x+1)", r"\cos x")


def _confine() -> None:
    """Limits this process to MEMORY and takes its means to evaluate, to write and to start."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)  # a cluster may allow less
    memory = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def refuse(event: str, arguments: tuple) -> None:
        if (
            event in _REFUSED
            or event == "compile" and arguments[1] == "<string>"  # eval and exec of a text
            or event == "open" and arguments[2] & writes
        ):
            raise PermissionError(f"{event} is refused to a process that reads model text")

    sys.addaudithook(refuse)


def _serve(pipe: Connection) -> None:
    """Answers requests until the other end is closed; b"null" where a limit ended the fork."""
    try:
        _prepare()
    except Exception as error:
        pipe.send_bytes(f"{type(error).__name__}: {error}".encode())
        return
    pipe.send_bytes(b"ready")
    while True:
        fork = os.fork()
        if fork == 0:
            _confine()
            _answer(pipe)
            os._exit(0)
        _, status = os.waitpid(fork, 0)
        if status == 0:
            return
        pipe.send_bytes(b"null")


def _answer(pipe: Connection) -> None:
    """To each request (number, gold, answer, seconds) the reply (number, true, false or null)."""
    while True:
        try:
            number, gold, answer, seconds = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends a process, in C code as well
        try:
            equal = bool(_same(gold, answer, _same_formula))
        except MemoryError:
            equal = None
        except RecursionError:
            equal = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        pipe.send_bytes(json.dumps([number, equal]).encode())


class _Worker:
    def __init__(self) -> None:
        self.pipe, end = Pipe()
        self.number = 0
        # Not multiprocessing: its children import the parent's __main__, and daemons have none.
        # A session of its own, so that both processes can be ended and no interrupt reaches them.
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(end.fileno())], pass_fds=[end.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )
        end.close()
        reply = self._reply(_START_SECONDS)
        if reply != b"ready":
            self.end()
            reason = reply.decode() if reply else f"it ended or took {_START_SECONDS} s"
            raise RuntimeError(f"the grading process did not start ({reason}); run make setup")

    def ask(self, gold: str, answer: str, seconds: float) -> bool | None:
        """The verdict, or None where a limit prevented it."""
        self.number += 1
        request = json.dumps([self.number, gold, answer, seconds]).encode()
        try:
            while self.pipe.poll():  # of a fork that something else ended in between
                self.pipe.recv_bytes()
            self.pipe.send_bytes(request)
        except (EOFError, ConnectionError):
            self.end()
            return None
        while reply := self._reply(_PATIENCE * seconds):
            if reply == b"null":
                return None
            number, equal = json.loads(reply)
            if number == self.number:  # and not of a request that was interrupted
                return equal
        self.end()
        return None

    def _reply(self, seconds: float) -> bytes | None:
        try:
            return self.pipe.recv_bytes() if self.pipe.poll(seconds) else None
        except (EOFError, ConnectionError):
            return None

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()


def _new_pool() -> None:
    global _idle
    _idle = queue.LifoQueue()
    for _ in range(WORKERS):
        _idle.put(None)


_idle: queue.LifoQueue[_Worker | None]
_new_pool()
os.register_at_fork(after_in_child=_new_pool)  # two processes must not share a worker


def _ask(gold: str, answer: str, seconds: float) -> bool | None:
    """The verdict of a worker, or None where a limit prevented it."""
    worker = _idle.get()
    try:
        if worker is None or worker.process.poll() is not None:
            worker = _Worker()
        return worker.ask(gold, answer, seconds)
    finally:
        _idle.put(worker)


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # nobody is left to be told
        _serve(Connection(int(sys.argv[1])))
