"""What an exhibit is: a module of this package says which runs it needs and what it shows of them.

Knows no exhibit by name: those are listed in `registry`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from companion.exhibits import text
from companion.schema import Profile
from companion.study.roles import Evidence

Verdict = Literal["agrees", "differs", "open"]


@dataclass(frozen=True)
class Claim:
    """What the paper claims beside what was measured here: a row of the verdict table."""

    claim: str
    """In a reader's words, as the paper means it: "Reheating costs no accuracy by itself"."""
    brief: str
    """The same in a few words, within a sentence: "reheating alone costs nothing"."""
    paper: str
    """Its number with its unit, or in a few words what it saw."""
    here: str
    """The same measured here, with its interval."""
    verdict: Verdict
    """By `wording.judged`, `wording.unchanged`, or a comparison of the same kind."""


@dataclass(frozen=True)
class Widget:
    """A part of the page that a reader moves."""

    script: str
    """assets/<script>.js, which draws it."""
    data: Any
    """What it draws, in JSON's types."""


@dataclass(frozen=True)
class Shown:
    """An exhibit's picture or table, what it says, and the paper's own numbers."""

    figure: Figure | None = None
    data: pd.DataFrame | None = None
    """The tidy numbers behind the figure."""
    table: pd.DataFrame | None = None
    """For a table: its cells, Estimates or plain."""
    spec: str = ".1f"
    """How the table's Estimates are written."""
    as_text: pd.DataFrame | None = None
    """The table as page and notebook show it; None: `text.show`."""
    note: str = ""
    """What a reader of the table must know; under it."""
    finding: str = ""
    """The figure's finding in a line, also its title; from the measurements. A table has none."""
    sentence: str = ""
    """What was measured, beside what the paper reports; written from the measurements."""
    widget: Widget | None = None
    """On the page, above all else of it."""
    claims: tuple[Claim, ...] = ()
    """The paper's claims that it puts to the test, from the same measurements as the sentence."""
    reported: pd.DataFrame | None = None
    """The paper's own table, to stand beside it."""
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables by name, saved beside it."""

    @property
    def written(self) -> pd.DataFrame | None:
        """The table as text."""
        if self.table is None or self.as_text is not None:
            return self.as_text
        return text.show(self.table, self.spec)

    def displays(self) -> list[dict[str, str]]:
        """What a notebook shows, in order: a bundle of representations by MIME type each."""
        shown = [_picture(self.figure, self.data)] if self.figure else []
        shown += [_frame(self.written)] if self.written is not None else []
        shown += [_words(self.note)] if self.note else []
        for name, table in self.more.items():
            shown += [_words(f"`{name}`"), _frame(text.show(table))]
        if self.reported is not None:
            shown += [_words("The paper:"), _frame(self.reported)]
        return shown + ([_words(self.sentence, "> ")] if self.sentence else [])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        for bundle in self.displays():
            display(bundle, raw=True)


@dataclass(frozen=True)
class Exhibit:
    """A table or figure."""

    name: str
    """What its files are called, such as "fig03" or "table2"."""
    title: str
    notebook: str
    roles: tuple[str, ...]
    """The runs it needs (`companion.study.roles`)."""
    make: Callable[[Profile, Evidence], Shown | None]
    """Draws it from these runs; None where the profile leaves nothing to show."""
    alt: str = ""
    """For a figure: what is drawn, for those who cannot see it; its finding stands before it."""
    every_seed: bool = False
    """Over all published seeds, or of the first that has its runs."""


def _picture(figure: Figure, data: pd.DataFrame | None) -> dict[str, str]:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    number = hashlib.sha256(b"" if data is None else data.to_csv().encode()).hexdigest()[:16]
    picture = base64.b64encode(file.getvalue()).decode()
    return {"image/png": picture, "text/plain": f"<Figure of data {number}>"}


def _frame(table: pd.DataFrame) -> dict[str, str]:
    return {"text/html": table.to_html(), "text/plain": table.to_string()}


def _words(words: str, mark: str = "") -> dict[str, str]:
    """Words of ours or of a run's labels: none of them is HTML, which Markdown would let through."""
    return {"text/markdown": mark + html.escape(words, quote=False), "text/plain": mark + words}
