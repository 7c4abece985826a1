"""Numbers: decimals, fractions and percentages as exact values, numerals with a base, times."""

import re
from fractions import Fraction

from companion.tasks.grading.notation import plain

_UNSIGNED = r"[0-9]+(?:\.[0-9]+)?"
_FRACTION = re.compile(rf"\\frac\{{\s*(-?\s*{_UNSIGNED})\s*\}}\{{\s*({_UNSIGNED})\s*\}}$")
_NUMBER = re.compile(
    rf"""\s*(?P<sign>[+-]?)\s*(?:
    (?P<decimal>
      (?:(?:[0-9]{{1,3}}(?:(?:,[0-9]{{3}})+|(?:[ ][0-9]{{3}})+)|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)
      (?:[eE][+-]?[0-9]{{1,3}})?)
    | (?:(?P<whole>[0-9]+)\s+)?(?P<above>-?\s*{_UNSIGNED})\s*/\s*(?P<below>{_UNSIGNED})
    | (?P<head>[0-9]*\.[0-9]*)\\overline\{{(?P<cycle>[0-9]+)\}}
    )""",
    re.VERBOSE,
)


def same_number(gold: str, answer: str) -> bool | None:
    """Whether two numbers are equal, where 15% equals 15 and 0.15; None if one is none."""
    ours, theirs = (_number(text.removesuffix("%").strip()) for text in (gold, answer))
    if ours is None or theirs is None:
        return None
    if gold.endswith("%") == answer.endswith("%"):
        return ours == theirs
    share, value = (ours, theirs) if gold.endswith("%") else (theirs, ours)
    return value in (share, share / 100)


def _number(text: str) -> Fraction | None:
    r"""The value of 1,234 or -0.5 or \frac{1}{2} or 1/2 or 1\frac{1}{2} or 0.\overline{3}."""
    match = _NUMBER.fullmatch(_FRACTION.sub(r" \1/\2", text))
    if match is None:
        return None
    if match["decimal"]:
        value = Fraction(re.sub("[ ,]", "", match["decimal"]))
    elif match["cycle"]:
        shift = 10 ** len(match["head"].partition(".")[2])
        value = Fraction("0" + match["head"] + "0")
        value += Fraction(int(match["cycle"]), shift * (10 ** len(match["cycle"]) - 1))
    else:
        whole, above, below = match["whole"], match["above"], match["below"]
        if not Fraction(below) or (whole and not (above + below).isdigit()):
            return None
        value = int(whole or 0) + Fraction(above.replace(" ", "")) / Fraction(below)
    return -value if match["sign"] == "-" else value


_BASES = [
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_NUMERAL = re.compile(
    r"\(?(?P<digits>[0-9][0-9A-Za-z]*|[A-F][0-9A-F]*)\)?"
    rf"(?:_\{{?\(?(?P<base>[0-9]+|{'|'.join(_BASES)})\)?\}}?)?"
)


def same_numeral(gold: str, answer: str) -> bool | None:
    """Whether digits and base are the same, 10 where none is named; None if neither names one."""
    ours, theirs = (_NUMERAL.fullmatch(plain(text).replace(" ", "")) for text in (gold, answer))
    if not (ours and ours["base"]) and not (theirs and theirs["base"]):
        return None
    return ours is not None and theirs is not None and _digits(ours) == _digits(theirs)


def _digits(numeral: re.Match[str]) -> tuple[str, str]:
    base = numeral["base"] or "10"
    base = str(_BASES.index(base) + 2) if base in _BASES else base
    return numeral["digits"].casefold().lstrip("0"), base


_TIME = re.compile(r"(?:[01]?[0-9]|2[0-4]):[0-5][0-9]")
_TWO = re.compile(r"([0-9]+)\s*[:/]\s*([0-9]+)|\\frac\{([0-9]+)\}\{([0-9]+)\}")


def same_time(gold: str, answer: str) -> bool | None:
    """Whether 2:30, which may be a time of day, is stated by both; None if neither may be one.

    2:30 is no 1/15 then and no 1:15, but 3:10 and 3/10 may be one ratio.
    """
    times = [_TIME.fullmatch(text) for text in (gold, answer)]
    if not any(times) or (":" in gold and ":" in answer and not all(times)):
        return None
    ours, theirs = (_TWO.fullmatch(text) for text in (gold, answer))
    return ours is not None and theirs is not None and _integers(ours) == _integers(theirs)


def _integers(match: re.Match[str]) -> list[int]:
    return [int(group) for group in match.groups() if group]
