"""Formulas as math-verify's LaTeX parser reads them, compared by their values.

math_verify.verify, which takes 1/2^99 for 1/2^98, decides only on what has no value, such as sets,
relations and matrices.

No text is evaluated: ExprExtractionConfig, which hands text to sympy's parse_expr, is not used,
and numbers in LaTeX, which reach eval just as well (latex2sympy2.py:1026 calls sympy.Number on
their text), go through `_exact`. For worker processes: importing it takes a second or two, and it
knows no limits.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import math_verify
import sympy
from latex2sympy2_extended import NormalizationConfig
from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

from companion.tasks.grading import values
from companion.tasks.grading.notation import latex


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
    if not (_has_value(ours) and _has_value(theirs)):
        return bool(math_verify.verify(ours, theirs, timeout_seconds=None))
    if ours == theirs:  # values that are no numbers too: infinity, f(x)
        return not ours.has(sympy.nan, sympy.zoo)
    return values.equal(ours, theirs)


def _has_value(formula: sympy.Basic) -> bool:
    return isinstance(formula, sympy.Expr) and not getattr(formula, "is_Matrix", False)


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
    return values.proportional(ours, theirs)


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
