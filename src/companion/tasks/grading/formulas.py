"""Formulas as math-verify's LaTeX parser reads them, compared by their values.

Two formulas are equal if their values agree to 20 digits at four points; math_verify.verify, which
takes 1/2^99 for 1/2^98, decides only on what has no value, such as sets and relations. No text is
evaluated: ExprExtractionConfig, which hands text to sympy's parse_expr, is not used, and numbers
in LaTeX, which reach eval just as well (latex2sympy2.py:1026 calls sympy.Number on their text), go
through `_exact`. For worker processes: importing it takes a second or two, and it knows no limits.
"""

import math
import random
from functools import lru_cache

import math_verify
import mpmath
import sympy
from latex2sympy2_extended import NormalizationConfig
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

from companion.tasks.grading.notation import latex

POINTS = 4
"""Formulas are equal if they are equal at so many points, with coordinates of either sign."""
DIGITS = 10_000
"""Larger values are not compared."""


def same_formula(gold: str, answer: str) -> bool:
    """Whether two formulas, equations or relations in clean notation are equal.

    Raises:
        MemoryError: as it says; whatever else goes wrong makes them different.
    """
    gold, answer = latex(gold), latex(answer)
    same = _same_equation if "=" in gold and "=" in answer else _same_expression
    try:
        return same(gold, answer)
    except MemoryError:
        raise
    except Exception:  # sympy raises whatever it likes on formulas that make no sense
        return False


def _same_expression(gold: str, answer: str) -> bool:
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


@lru_cache(maxsize=1024)
def _parse(text: str) -> sympy.Basic | None:
    """The formula as sympy has it, unevaluated; None where math-verify cannot read all of it."""
    # Without its rules for units: they would take 3h for 3. Real units have gone before.
    rules = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none"
    )
    config = math_verify.LatexExtractionConfig(boxed_match_priority=-1, normalization_config=rules)
    parsed = math_verify.parse(
        f"${text}$", [config], "no_fallback", "first_match", parsing_timeout=None
    )
    return parsed[0] if parsed else None


def _exact(self: _Latex2Sympy, text: str) -> sympy.Rational:
    """Decimals stay exact, and sympy's eval is avoided."""
    return sympy.Rational(text.replace(",", ""))


_Latex2Sympy.parse_number = _exact


def _value(formula: sympy.Expr, k: int) -> mpmath.mpc:
    """The value at point k, to 30 digits, or to 30 after the decimal point if it is large.

    Raises:
        ValueError: it has no value there, or one of more than DIGITS digits.
    """
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
    if name == "i":
        return sympy.I
    return sympy.Rational(random.Random(f"{name} {k}").randrange(-9999, 10_000, 2), 1009)


def _close(a: mpmath.mpc, b: mpmath.mpc) -> bool:
    """Equal to 20 digits, or to 20 after the decimal point if they are large."""
    return a == b or abs(a - b) < 1e-20 * min(1, max(abs(a), abs(b)))
