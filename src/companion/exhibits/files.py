"""Where exhibits are kept: figures/<name>.{png,svg,csv} and tables/<name>.{csv,md} in a folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from companion import params
from companion.exhibits.exhibit import Shown
from companion.exhibits.text import holds_estimates, show, tidy
from companion.params import ROOT
from companion.schema import Profile


def folder(profile: Profile) -> Path:
    """Where a notebook leaves its exhibits; other settings than the profile's own go elsewhere."""
    name = f"report-seed{profile.seed}{params.variant(profile)}"
    return ROOT / "runs" / profile.name / name


def keep(profile: Profile, name: str, shown: Shown) -> Shown:
    """Save what a notebook is about to show; returns it."""
    save(folder(profile), name, shown)
    return shown


def save(to: Path, name: str, shown: Shown) -> None:
    """Write an exhibit's files below `to`."""
    if shown.figure is not None and shown.data is not None:
        save_figure(to / "figures", name, shown.figure, shown.data)
    if shown.table is not None:
        save_table(to / "tables", name, shown.table, shown.spec)
    for other, table in shown.more.items():
        save_table(to / "tables", other, table)


def save_figure(to: Path, name: str, figure: Figure, data: pd.DataFrame) -> None:
    """The picture as PNG and SVG, the numbers behind it as CSV."""
    to.mkdir(parents=True, exist_ok=True)
    figure.savefig(to / f"{name}.png")
    figure.savefig(to / f"{name}.svg", metadata={"Date": None})
    data.to_csv(to / f"{name}.csv", index=False)


def save_table(to: Path, name: str, table: pd.DataFrame, spec: str = ".1f") -> None:
    """Its numbers as CSV, and as Markdown to read (Estimates formatted by `spec`)."""
    to.mkdir(parents=True, exist_ok=True)
    if not holds_estimates(table):
        table.to_csv(to / f"{name}.csv")
        (to / f"{name}.md").write_text(table.to_markdown() + "\n")
        return
    tidy(table).to_csv(to / f"{name}.csv", index=False)
    written = show(table, spec)
    written.columns = [" ".join(c) if isinstance(c, tuple) else c for c in written.columns]
    (to / f"{name}.md").write_text(written.to_markdown() + "\n")
