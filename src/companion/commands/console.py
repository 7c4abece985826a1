"""Tables on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table


def show(table: pd.DataFrame, title: str, notes: Sequence[str] = ()) -> None:
    """Print a table and its notes: at most one decimal, gaps empty."""
    grid = Table("", title=title, caption="\n".join(notes), caption_justify="left")
    grid.columns[0].no_wrap = True
    for name in table:
        numbers = pd.api.types.is_numeric_dtype(table[name])
        grid.add_column(str(name), justify="right" if numbers else "left")
    for key, row in zip(table.index, table.itertuples(index=False), strict=True):
        grid.add_row(str(key), *map(_cell, row))
    Console().print(grid)


def _cell(value: object) -> str:
    if not isinstance(value, float) or math.isnan(value):
        return "" if value != value else str(value)
    return "< 0.1" if 0 < value < 0.05 else f"{value:,.1f}".removesuffix(".0")
