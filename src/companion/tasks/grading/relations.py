"""Equations and inequalities that only name a value or an interval: x = 5, x > 3."""

import re

from companion.tasks.grading.brackets import split

_NAME = re.compile(
    r"(?!\\pi\b|e$)"
    r"(?:\\?[A-Za-z]+'*(?:_(?:[0-9A-Za-z]|\{[^{}]*\}))?(?:\([A-Za-z, ]*\))?|\([A-Za-z, ]+\))"
)


def named(text: str) -> tuple[str | None, str]:
    r"""What the value in `text` is called and the value: ("x", "5") for x = 5.

    x > 3 and x ∈ (3, ∞) are both ("x", "(3,∞)"). The name is None where there is none, and "" for
    an equation that does not name its value, which is then the last side ("" for other relations).
    """
    sides = split(text, "=")
    if len(sides) > 1:
        if len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]):
            sides.reverse()
        return sides[0] if _NAME.fullmatch(sides[0]) else "", sides[-1]
    sides = split(text, "∈")
    if len(sides) > 1:
        return (sides[0], sides[1]) if _NAME.fullmatch(sides[0]) else ("", "")
    return _interval(text) if any(sign in text for sign in "<>≤≥") else (None, text)


def exact(text: str) -> str:
    """`text` without the rounded value that it adds: a for a ≈ b, x = b for x ≈ b."""
    first, *rounded = split(text, "≈")
    if not rounded or (first and not _NAME.fullmatch(first)):
        return first
    return f"{first} = {rounded[0]}" if first else rounded[0]


def _interval(text: str) -> tuple[str, str]:
    """The name and interval in a < x ≤ b, x < b or a > x; "" and "" for other relations."""
    parts = [part.strip() for part in re.split("([<>≤≥])", text)]
    if parts[1] in ">≥":
        parts = [part.translate(str.maketrans("<>≤≥", "><≥≤")) for part in reversed(parts)]
    if len(parts) == 3:
        parts = ["-∞", "<", *parts] if _NAME.fullmatch(parts[0]) else [*parts, "<", "∞"]
    if len(parts) != 5 or not _NAME.fullmatch(parts[2]) or {parts[1], parts[3]} - {"<", "≤"}:
        return "", ""
    low, left, name, right, high = parts
    return name, f"{'[' if left == '≤' else '('}{low},{high}{']' if right == '≤' else ')'}"
