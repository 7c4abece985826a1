"""Equations and inequalities that only name a value or an interval: x = 5, x > 3."""

import re

from companion.tasks.grading.brackets import split

_INDEX = r"(?:_(?:[0-9A-Za-z]|\{[^{}]*\}))?"
_CALL = (
    rf"\\?[A-Za-z]+'*(?:\^\{{-1\}})?{_INDEX}"
    r"\((?:-?[0-9.]+|[A-Za-z, ]*|[^()]*[=<>≤≥≠|][^()]*)\)"
)
_NAME = re.compile(
    rf"(?!\\pi\b|e$)(?:\\?[A-Za-z]+'*{_INDEX}|{_CALL}|\([A-Za-z, ]+\)|\\text\{{[^{{}}]*\}})"
)
_GIVEN = re.compile(
    rf"\\text\{{[^{{}}]*\}}|(?<![A-Za-z\\]){_CALL}|\\begin\{{[^0-9]*\\end\{{[a-z]+\}}"
    r"|(?:m\s*)?\\(?!frac|cdot|times|sqrt|ln|log|exp|sin|cos|tan|cot|sec|csc|pi|infty)[A-Za-z]+"
)
_POWERS = re.compile(r"\^\s*(?:[0-9T]|\{\s*-?[0-9T]+\s*\})")
_LETTERS = re.compile(rf"(?<![A-Za-z\\])[A-Za-z]+'*{_INDEX}")
_OPERATIONS = re.compile(
    r"(?:[\s+*/:|()\[\]{}°-]|\\(?:frac|cdot|times|sqrt|ln|log|exp|sin|cos|tan|cot|sec|csc))*"
)

_MIRROR = str.maketrans("<>≤≥", "><≥≤")


def named(text: str, unknowns: bool = False) -> tuple[str | None, str]:
    r"""What the value in `text` is called and the value: ("x", "5") for x = 5.

    x > 3 and x ∈ (3, ∞) are both ("x", "(3,∞)"). The name is None where there is none, and "" for
    an equation that does not name its value, which is then the last side ("" for other relations).

    Args:
        unknowns: m + n = 5 names a value, too, and is no equation of a line.
    """
    sides = split(text, "=")
    if len(sides) > 1:
        if len(sides) == 2 and _names(sides[1], unknowns) and not _names(sides[0], unknowns):
            sides.reverse()
        return sides[0] if _names(sides[0], unknowns) else "", sides[-1]
    sides = split(text, "∈")
    if len(sides) > 1:
        return (sides[0], sides[1]) if _NAME.fullmatch(sides[0]) else ("", "")
    return _interval(text) if any(sign in text for sign in "<>≤≥≠") else (None, text)


def _names(side: str, unknowns: bool) -> bool:
    """Whether a side of an equation is what the other one gives the value of: x, f(3), AB/CD.

    A side with numerals, such as x + 2, or one unknown, such as -x, makes an equation to be solved.
    Capitals, angles and words are given and not unknown.
    """
    if _NAME.fullmatch(side):
        return True
    rest = _GIVEN.sub(" Q ", side)
    letters = set(_LETTERS.findall(rest))
    solved = {letter for letter in letters if re.fullmatch("[a-z](?:_.+)?", letter)}
    if not solved:
        rest = _POWERS.sub("", rest)
    if side.startswith("-") or not _OPERATIONS.fullmatch(_LETTERS.sub(" ", rest)):
        return False
    return bool(letters) and (not solved or (unknowns and len(letters) > 1))


def ascending(text: str) -> str:
    """a < b < c for c > b > a; any other text as it is."""
    parts = [part.strip() for part in re.split("([<>≤≥])", text)]
    if len(parts) < 3 or {*parts[1::2]} - {">", "≥"}:
        return text
    return "".join(part.translate(_MIRROR) for part in reversed(parts))


def exact(text: str) -> str:
    """`text` without the rounded value that it adds: a for a ≈ b, x = b for x ≈ b."""
    first, *rounded = split(text, "≈")
    if not rounded or (first and not _NAME.fullmatch(first)):
        return first
    return f"{first} = {rounded[0]}" if first else rounded[0]


def _interval(text: str) -> tuple[str, str]:
    """The name and interval in a < x ≤ b, x < b or a > x; "" and "" for other relations."""
    parts = [part.strip() for part in re.split("([<>≤≥≠])", text)]
    if parts[1] in ">≥":
        parts = [part.translate(_MIRROR) for part in reversed(parts)]
    if len(parts) == 3 and parts[1] == "≠":
        name, value = parts[::2] if _NAME.fullmatch(parts[0]) else parts[::-2]
        return (name, f"(-∞,{value}) ∪ ({value},∞)") if _NAME.fullmatch(name) else ("", "")
    if len(parts) == 3:
        parts = ["-∞", "<", *parts] if _NAME.fullmatch(parts[0]) else [*parts, "<", "∞"]
    if len(parts) != 5 or not _NAME.fullmatch(parts[2]) or {parts[1], parts[3]} - {"<", "≤"}:
        return "", ""
    low, left, name, right, high = parts
    return name, f"{'[' if left == '≤' else '('}{low},{high}{']' if right == '≤' else ')'}"
