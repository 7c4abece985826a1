"""Tables as text to read, and as numbers to keep."""

from __future__ import annotations

import math
import re
from dataclasses import asdict

import numpy as np
import pandas as pd

from companion.statistics import Estimate


def holds_estimates(table: pd.DataFrame) -> bool:
    return any(isinstance(cell, Estimate) for cell in table.to_numpy().ravel())


def show(table: pd.DataFrame, spec: str = ".1f") -> pd.DataFrame:
    """The table as text: each Estimate as `value [low, high]`, nats with three decimals.

    A table without Estimates is plain numbers and words, of which no more than four digits count.
    """
    if not holds_estimates(table):
        return table.map(lambda cell: _four_digits(cell) if isinstance(cell, float) else cell)
    written = table.map(lambda cell: format(cell, spec) if isinstance(cell, Estimate) else "")
    for column in table.columns:
        if "nats" in str(column):
            written[column] = [format(cell, ".3f") for cell in table[column]]
    return written


def _four_digits(number: float) -> float:
    """Rounded to four digits, of which those before the point are all kept."""
    if not number or not math.isfinite(number):
        return number
    return round(number, max(0, 3 - math.floor(math.log10(abs(number)))))


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """The table as numbers, to save as CSV: columns policy (its index: an arm, or a checkpoint's
    step), the column levels, value, low, high."""
    levels = ["suite", "metric"] if table.columns.nlevels == 2 else ["metric"]
    rows = [
        {"policy": policy, **dict(zip(levels, np.atleast_1d(column), strict=True)), **asdict(cell)}
        for policy, row in table.iterrows()
        for column, cell in row.items()
        if isinstance(cell, Estimate)
    ]
    return pd.DataFrame(rows).round(4)


def minus(text: object) -> str:
    """With the sign that is as wide as a plus, before numbers."""
    return re.sub(r"(?<![\w.)–-])-(?=\d)", "−", str(text))
