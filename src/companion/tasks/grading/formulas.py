"""Formulas as math-verify's LaTeX parser reads them, compared by their values.

Two formulas are equal if their values agree to 20 digits at all points where both are real, or at
all points if there is none such: sqrt(1/n) is 1/sqrt(n), whatever a complex root of a negative n
would be. Odd roots of negative numbers are real. math_verify.verify, which takes 1/2^99 for
1/2^98, decides only on what has no value, such as sets and relations.

No text is evaluated: ExprExtractionConfig, which hands text to sympy's parse_expr, is not used,
and numbers in LaTeX, which reach eval just as well (latex2sympy2.py:1026 calls sympy.Number on
their text), go through `_exact`. For worker processes: importing it takes a second or two, and it
knows no limits.
"""

import math
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import math_verify
import mpmath
import sympy
from latex2sympy2_extended import NormalizationConfig
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

from companion.tasks.grading.notation import latex

POINTS = 8
"""Formulas in variables are compared at so many points, with coordinates of either sign."""
DIGITS = 10_000
"""Larger values are not compared."""
_Values = list[tuple[mpmath.mpc, bool]]


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
        points = _where_real(_values(ours), _values(theirs))
        return all(_close(*point) for point in points)


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
        ratios = [a / b for a, b in _where_real(_values(ours), _values(theirs))]
        return ratios[0] != 0 and all(_close(ratios[0], ratio) for ratio in ratios)


def _where_real(ours: _Values, theirs: _Values) -> list[tuple[mpmath.mpc, mpmath.mpc]]:
    """The values at the points where both are real, or at all points if there are none."""
    count = max(len(ours), len(theirs))
    pairs = list(zip(ours * (count // len(ours)), theirs * (count // len(theirs)), strict=True))
    real = [pair for pair in pairs if pair[0][1] and pair[1][1]]
    return [(a, b) for (a, _), (b, _) in real or pairs]


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


def _side_by_side(self: _Latex2Sympy, factors: Sequence[Any], i: int = 0) -> sympy.Basic:
    """2(3) is 6: the library takes any two whole numbers side by side for a mixed number, 2 3/1."""
    first = self.convert_postfix(factors[i])
    if i == len(factors) - 1:
        return first
    rest = self.convert_postfix_list(factors, i + 1)
    if isinstance(first, list):
        return sympy.Derivative(rest, first[0])
    if getattr(first, "is_Matrix", False) or getattr(rest, "is_Matrix", False):
        return self.mat_mul_flat(first, rest)
    if first.is_Integer and rest.is_Rational and i == len(factors) - 2:
        texts = [self.rule2text(factor) for factor in factors[i:]]
        if texts[0].isdigit() and texts[1].startswith(r"\frac"):
            return first + rest
        if texts[0].isdigit() and texts[1].isdigit():
            raise ValueError("two numbers side by side are none")
    return self.mul_flat(first, rest)


_Latex2Sympy.parse_number = _exact
_Latex2Sympy.convert_postfix_list = _side_by_side


@lru_cache(maxsize=1024)
def _values(formula: sympy.Expr) -> _Values:
    """The values at all points (one if there are no variables), and whether it is real there.

    That is, all that may be complex in it: sqrt(a) sqrt(b) is not real for negative a and b.
    """
    formula = formula.replace(_is_odd_root, _real_root)
    formula = formula.replace(sympy.UnevaluatedExpr, lambda inside: inside)
    roots = [part for part in sympy.preorder_traversal(formula) if _is_partly_real(part)]
    values = []
    for k in range(POINTS if formula.free_symbols else 1):
        at = {symbol: _coordinate(symbol.name, k) for symbol in formula.free_symbols}
        value = _value(formula, at)
        real = not value.imag and all(root.evalf(15, subs=at).is_real for root in roots)
        values.append((value, real))
    return values


def _is_partly_real(formula: sympy.Basic) -> bool:
    """Whether it is a function of variables that is complex for some real ones."""
    if isinstance(formula, sympy.Pow):
        return bool(formula.free_symbols and not formula.exp.is_integer)
    kinds = sympy.log, sympy.asin, sympy.acos, sympy.acosh, sympy.atanh, sympy.asec, sympy.acsc
    return isinstance(formula, kinds) and bool(formula.free_symbols)


def _is_odd_root(formula: sympy.Basic) -> bool:
    exponent = formula.exp if isinstance(formula, sympy.Pow) else sympy.S.One
    return bool(exponent.is_Rational and exponent.q > 1 and exponent.q % 2)


def _real_root(power: sympy.Pow) -> sympy.Expr:
    return sympy.real_root(power.base, power.exp.q) ** power.exp.p


def _value(formula: sympy.Expr, at: dict[sympy.Symbol, sympy.Expr]) -> mpmath.mpc:
    """The value at a point, to 30 digits, or to 30 after the decimal point if it is large.

    Raises:
        ValueError: it has no value there, or one of more than DIGITS digits.
    """
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
    """The value of a variable at point k, always the same; i is the imaginary unit.

    Below 10, at every other point below 1; positive at half of the points and once negative.
    """
    if name == "i":
        return sympy.I
    draw = random.Random(f"{name} {k}")
    size = sympy.Rational(draw.randrange(1, 10_000, 2), 1009 if k % 2 else 10_007)
    return -size if k == 1 or (k > POINTS // 2 and draw.random() < 0.5) else size


def _close(a: mpmath.mpc, b: mpmath.mpc) -> bool:
    """Equal to 20 digits, or to 20 after the decimal point if they are large."""
    return a == b or abs(a - b) < 1e-20 * min(1, max(abs(a), abs(b)))
