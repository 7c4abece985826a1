"""results/<profile>/report.html: every table and figure in the paper's order, on one page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

TEMPLATE = Path(__file__).with_suffix(".html.j2")


@dataclass(frozen=True)
class Exhibit:
    """A table or figure as the page shows it."""

    name: str
    """The file it was saved as, such as "fig03" or "table2"."""
    title: str
    verdict: str
    """What agrees with the paper and what does not, in one sentence."""
    notebook: str
    runs: list[str]
    """Names of the published runs behind it."""
    alt: str = ""
    """For a figure: what it shows, for those who cannot see it."""
    table: pd.DataFrame | None = None
    """For a table: its text."""
    more: Sequence[str] = ()
    """Further tables behind a figure, such as "gradients"."""
    reported: pd.DataFrame | None = None
    """The paper's own table, to stand beside it."""


def write(target: Path, profile: str, seeds: list[int], exhibits: list[Exhibit]) -> Path:
    """Write report.html into `target`, with its figures inside: it needs no network."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    page = target / "report.html"
    page.write_text(
        template.render(
            profile=profile,
            seeds=seeds,
            exhibits=exhibits,
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
