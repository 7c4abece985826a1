"""Which part of a model's text is its answer."""

import re

LENGTH = 1000
"""Longer answers are none, in characters (the longest gold of MATH-500 has 53)."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(\{|[^\s{}$]*)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_MARK = re.compile(r"answer[*_]*\s*(?::|\bis\b:?)[*_\s]*", re.IGNORECASE)
_FORMULA = re.compile(r"(?<!\\)\$+(.+?)(?<!\\)\$+|\\\((.+?)\\\)|\\\[(.+?)\\\]")


def extract(answer: str) -> str | None:
    r"""The last \boxed{...}, or what follows the last "Answer:", or a single line; or None."""
    box = max(answer.rfind(r"\boxed"), answer.rfind(r"\fbox"))
    if box >= 0:
        stated = _boxed(answer[box : box + LENGTH + 20])
    elif marks := list(_MARK.finditer(answer)):
        stated = _sentence(answer[marks[-1].end() :][: 2 * LENGTH])
    else:
        stated = "" if "\n" in answer.strip() else answer.strip()
    return stated if 0 < len(stated) <= LENGTH else None


def _boxed(text: str) -> str:
    r"""The content of the \boxed{...} that begins `text`; "" where it is not closed."""
    start = _BOX.match(text)
    if start[1] != "{":
        return start[1]
    depth = 1
    for brace in _BRACE.finditer(text, start.end()):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start.end() : brace.start()].strip()
    return ""


def _sentence(text: str) -> str:
    """What follows "Answer:": the first sentence of the first line that says something.

    The formula alone where it is the only one and all numbers stand in it.
    """
    line = next((line for line in text.splitlines() if re.search(r"[\w{]", line)), "")
    line = re.split(r"\.\s+(?=[A-Z])", line)[0].strip()
    formulas = list(_FORMULA.finditer(line))
    if len(formulas) == 1 and not re.search(r"[0-9]", _FORMULA.sub("", line)):
        return next(filter(None, formulas[0].groups())).strip()
    return line
