"""Numbers: decimals, fractions and percentages as exact values, and numerals with a base."""

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
    values = [_number(text.removesuffix("%").strip()) for text in (gold, answer)]
    if None in values:
        return None
    percent = [text.endswith("%") for text in (gold, answer)]
    if percent[0] == percent[1]:
        return values[0] == values[1]
    share, value = values if percent[0] else reversed(values)
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
    numerals = [_NUMERAL.fullmatch(plain(text).replace(" ", "")) for text in (gold, answer)]
    if not any(numeral and numeral["base"] for numeral in numerals):
        return None
    return all(numerals) and _digits(numerals[0]) == _digits(numerals[1])


def _digits(numeral: re.Match) -> tuple[str, str]:
    base = numeral["base"] or "10"
    base = str(_BASES.index(base) + 2) if base in _BASES else base
    return numeral["digits"].casefold().lstrip("0"), base
