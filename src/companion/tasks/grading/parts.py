"""What answers consist of: the members of a list or set, the entries of a tuple or matrix."""

import re
from itertools import chain, pairwise

from companion.tasks.grading.brackets import levels, peel, split
from companion.tasks.grading.relations import exact, named

_THOUSANDS = re.compile(r"(?<![0-9,.])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])")
_MATRIX = re.compile(
    r"\\begin\{(?:([pbBvV]?)(?:small)?matrix|array\}\s*\{[clr| ]*)\}"
    r"((?:(?!\\begin).)*)\\end\{[A-Za-z]+\}"
)


_ALL_BUT = re.compile(
    r"^(?:\\mathbb\{R\}\s*(?:\\setminus|-)|R\s*\\setminus)\s*[⦃{]?\s*([^,;⦃⦄{}]+?)\s*[⦄}]?$"
)


def members(text: str, commas: bool = False) -> list[str]:
    """The members of a list, set or union, or `text` itself; 1 ± 2 has two.

    R without 3 is the union of two intervals; "p=5, q=2; p=7, q=2" are two pairs.

    Args:
        commas: every comma separates; otherwise 1,234 is one number.
    """
    text = _ALL_BUT.sub(r"(-∞,\1) ∪ (\1,∞)", text)
    if len(parts := split(text, "∪")) > 1:
        return [member for part in parts for member in members(part)]
    if not commas:
        depths = levels(text)
        text = _THOUSANDS.sub(
            lambda match: match[0] if depths[match.start()] else match[0].replace(",", ""), text
        )
    rows = split(text, ";")
    if len(rows) > 1 and any(len(split(row, ",")) > 1 for row in rows):
        return [f"({row})" for row in rows]
    parts = [exact(part) for part in split(text, ",;")]
    if len(parts) == 1:
        name, value = named(parts[0])
        brackets, inside = peel(value)
        if brackets == "⦃⦄":
            return members(inside)
        if name and len(several := members(value)) > 1:  # x = ±2, x ∈ {1, 2}
            return several
    return [member for part in parts for member in _signs(part)]


def _signs(text: str) -> list[str]:
    if "±" not in text and "∓" not in text:
        return [text]
    return [text.translate(str.maketrans("±∓", signs)) for signs in ("+-", "-+")]


def entries(text: str) -> tuple[str, list[str]]:
    """The kind and shape of a tuple, interval or matrix, such as "[) 2", and its entries; or "".

    Those of a ratio 1:2:3 are the quotients of its neighbours.
    """
    brackets, inside = peel(text)
    if match := _MATRIX.fullmatch(inside):
        rows = re.split(r"\\\\(?:\[[^\]]*\])?", re.sub(r"\\\\\s*$", "", match[2]))
        cells = [[cell.strip() for cell in row.split("&")] for row in rows]
        kind = "determinant" if match[1] in ("v", "V") else "matrix"
        return f"{kind} {[len(row) for row in cells]}", [*chain(*cells)]
    if len(parts := split(text, ":")) > 2:
        return f": {len(parts)}", [rf"\frac{{{a}}}{{{b}}}" for a, b in pairwise(parts)]
    parts = split(inside, ",;")
    return (f"{brackets} {len(parts)}", parts) if brackets and len(parts) > 1 else ("", [])
