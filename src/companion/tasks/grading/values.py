"""Whether two formulas are equal: their values at points where both are real.

sqrt(1/n) is 1/sqrt(n), and sqrt(ab) is sqrt(a) sqrt(b), where all of it is real; what the complex
roots of negative numbers would be is not compared, unless the formulas are real nowhere. Odd roots
of negative numbers are real. For worker processes: it knows no limits.
"""

import math
import random
from collections.abc import Iterator
from functools import lru_cache

import mpmath
import sympy

POINTS = 8
"""Formulas in variables are equal if they are at so many points, drawn but always the same."""
TRIES = 32
"""So many points are tried until POINTS are found where both formulas are real."""
DIGITS = 10_000
"""Larger values are not compared."""


def equal(ours: sympy.Expr, theirs: sympy.Expr) -> bool:
    """Whether two formulas have the same values, to 20 digits.

    Raises:
        ValueError: one has no finite value at a point, or one of more than DIGITS digits.
    """
    with mpmath.workdps(DIGITS):
        return all(_close(*values) for values in _where_real(ours, theirs))


def proportional(ours: sympy.Expr, theirs: sympy.Expr) -> bool:
    """Whether the values of two formulas have one ratio everywhere, and not 0.

    Raises:
        ValueError: as `equal`.
    """
    with mpmath.workdps(DIGITS):
        ratios = [a / b for a, b in _where_real(ours, theirs)]
        return bool(ratios[0] != 0) and all(_close(ratios[0], ratio) for ratio in ratios)


def _where_real(ours: sympy.Expr, theirs: sympy.Expr) -> Iterator[tuple[mpmath.mpc, mpmath.mpc]]:
    """The values at points where both are real, or wherever it was tried if there are none."""
    others, found = [], 0
    for k in range(TRIES if ours.free_symbols | theirs.free_symbols else 1):
        (a, real), (b, too) = _at(ours, k), _at(theirs, k)
        if real and too:
            yield a, b
            found += 1
            if found == POINTS:
                return
        others.append((a, b))
    if not found:
        yield from others


@lru_cache(maxsize=4096)
def _at(formula: sympy.Expr, k: int) -> tuple[mpmath.mpc, bool]:
    """The value at point k, and whether it is real there, with all that is in it."""
    formula, roots = _prepared(formula)
    at = {symbol: _coordinate(symbol.name, k) for symbol in formula.free_symbols}
    value = _value(formula, at)
    return value, not value.imag and all(root.evalf(15, subs=at).is_real for root in roots)


@lru_cache(maxsize=1024)
def _prepared(formula: sympy.Expr) -> tuple[sympy.Expr, list[sympy.Expr]]:
    """`formula` with real odd roots and limits taken, and its parts that may be complex."""
    formula = formula.replace(_is_odd_root, _real_root)
    formula = formula.replace(sympy.UnevaluatedExpr, lambda inside: inside)
    formula = formula.replace(sympy.Limit, lambda *limit: sympy.Limit(*limit).doit())
    return formula, [part for part in sympy.preorder_traversal(formula) if _is_partly_real(part)]


def _is_odd_root(formula: sympy.Basic) -> bool:
    exponent = formula.exp if isinstance(formula, sympy.Pow) else sympy.S.One
    return bool(exponent.is_Rational and exponent.q > 1 and exponent.q % 2)


def _real_root(power: sympy.Pow) -> sympy.Expr:
    return sympy.real_root(power.base, power.exp.q) ** power.exp.p


def _is_partly_real(formula: sympy.Basic) -> bool:
    """Whether it is a function of variables that is complex for some real ones."""
    if isinstance(formula, sympy.Pow):
        return bool(formula.free_symbols and not formula.exp.is_integer)
    kinds = sympy.log, sympy.asin, sympy.acos, sympy.acosh, sympy.atanh, sympy.asec, sympy.acsc
    return isinstance(formula, kinds) and bool(formula.free_symbols)


def _value(formula: sympy.Expr, at: dict[sympy.Symbol, sympy.Expr]) -> mpmath.mpc:
    """The value at a point, to 30 digits, or to 30 after the decimal point if it is large."""
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
    """The value of a variable at point k; i is the imaginary unit.

    At every other point below 1 and not 10 in size, and positive at every fourth point, so that
    few formulas are real nowhere.
    """
    if name == "i":
        return sympy.I
    draw = random.Random(f"{name} {k}")
    size = sympy.Rational(draw.randrange(1, 10_000, 2), 1009 if k % 2 else 10_007)
    return size if k % 4 == 0 or draw.random() < 0.5 else -size


def _close(a: mpmath.mpc, b: mpmath.mpc) -> bool:
    """Equal to 20 digits, or to 20 after the decimal point if they are large."""
    return bool(a == b or abs(a - b) < 1e-20 * min(1, max(abs(a), abs(b))))
