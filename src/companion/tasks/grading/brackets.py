"""Brackets of all kinds: how deep they nest, where they end, and what stands outside of them.

The braces of a set are characters of their own here, see notation.py.
"""

_OPEN, _CLOSE = "([{⦃", ")]}⦄"


def levels(text: str) -> list[int]:
    """How deep in brackets each character is; a bracket is as deep as what it encloses."""
    depths, depth = [], 0
    for character in text:
        depth += character in _OPEN
        depths.append(depth)
        depth -= character in _CLOSE
    return depths


def end(text: str, start: int) -> int:
    """The index after the bracket that closes the one at `start`; the text's end without one."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] in _OPEN) - (text[i] in _CLOSE)
        if depth <= 0:
            return i + 1
    return len(text)


def peel(text: str) -> tuple[str, str]:
    """The two brackets around all of `text`, such as "(]", and what is inside; or "", `text`."""
    if len(text) > 1 and text[0] in _OPEN and text[-1] in _CLOSE and end(text, 0) == len(text):
        return text[0] + text[-1], text[1:-1].strip()
    return "", text


def split(text: str, separators: str) -> list[str]:
    """The parts of `text` between separators that stand in no bracket."""
    parts, start = [], 0
    for i, level in enumerate(levels(text)):
        if level == 0 and text[i] in separators:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]
