"""results/<profile>/report.html and README.md: the study on one page, from the exhibits alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from companion.exhibits import inline, verdict
from companion.exhibits.exhibit import Widget
from companion.exhibits.placed import Placed
from companion.exhibits.text import minus

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class About:
    """What a reader must know before the first number."""

    profile: str
    seeds: list[int]
    """All that are published."""
    model: str
    """What is trained, such as "a Qwen3 of 0.8M parameters"."""
    problem: str = ""
    """One test problem, as it is asked."""
    answer: str = ""
    """A right answer to it."""
    executed: Mapping[str, list[str]] = field(default_factory=dict)
    """By notebook, its executed copies, relative to the page."""


def write(target: Path, about: About, placed: list[Placed]) -> Path:
    """Write report.html into `target`, which needs no network, and README.md, which a forge renders."""
    given = {"about": about, "placed": placed, "target": target, "verdicts": verdict.table(placed)}
    page = target / "report.html"
    page.write_text(_environment(html=True).get_template("page.html.j2").render(given))
    twin = _environment(html=False).get_template("page.md.j2").render(given)
    (target / "README.md").write_text(re.sub(r"\n{3,}", "\n\n", twin))
    return page


def _environment(*, html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ASSETS),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"minus": minus, "short": _short, "cells": rows}
    environment.globals |= {
        "asset": _asset,
        "picture": _picture,
        "panels": _panels,
        "moved": _moved,
        "words": verdict.lines,
        "answer": verdict.markdown,
        "meaning": verdict.MEANING,
    }
    return environment


def _short(title: str) -> str:
    """An exhibit's title as the contents have it: without the unit."""
    return re.sub(r" \([^)]*\)$", "", title)


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text())


def _picture(target: Path, placed: Placed) -> Markup:
    name = placed.exhibit.name
    return inline.svg((target / "figures" / f"{name}.svg").read_text(), name, placed.label)


def _panels(placed: Placed) -> list[str]:
    return inline.panels(placed.shown.figure) if placed.shown.figure else []


def _moved(widget: Widget) -> Markup:
    """What a widget draws, as JSON that ends no script."""
    text = json.dumps(widget.data, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def rows(table: pd.DataFrame) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """A table's column names, and its rows by name."""
    names = [" ".join(c) if isinstance(c, tuple) else str(c) for c in table.columns]
    return names, [
        (str(name), [str(cell) for cell in row])
        for name, row in zip(table.index, table.itertuples(index=False), strict=True)
    ]
