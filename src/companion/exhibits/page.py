"""results/<profile>/report.html: every table and figure in the paper's order, on one page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from companion.exhibits.exhibit import Exhibit, Shown
from companion.study.roles import Evidence

TEMPLATE = Path(__file__).with_suffix(".html.j2")


@dataclass(frozen=True)
class Placed:
    """An exhibit as it hangs on the page."""

    exhibit: Exhibit
    shown: Shown
    behind: Evidence


def write(target: Path, profile: str, seeds: list[int], placed: list[Placed]) -> Path:
    """Write report.html into `target`, with its figures inside: it needs no network.

    Args:
        seeds: all that are published.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    page = target / "report.html"
    page.write_text(
        template.render(
            profile=profile,
            seeds=seeds,
            placed=placed,
            image=lambda name: _image(target, name),
            rows=_rows,
        )
    )
    return page


def _image(target: Path, name: str) -> str:
    data = (target / "figures" / f"{name}.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _rows(table: pd.DataFrame) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """A table's column names, and its rows by name."""
    names = [" ".join(c) if isinstance(c, tuple) else str(c) for c in table.columns]
    return names, [
        (str(name), [str(cell) for cell in row])
        for name, row in zip(table.index, table.itertuples(index=False), strict=True)
    ]
