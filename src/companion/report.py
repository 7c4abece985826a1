"""Where a notebook leaves its tables and figures: runs/<profile>/report-seed<n>/."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from companion.params import ROOT, Profile
from companion.tables import show, tidy


def folder(profile: Profile) -> Path:
    return ROOT / "runs" / profile.name / f"report-seed{profile.seed}"


def save(profile: Profile, name: str, figure: Figure, data: pd.DataFrame) -> None:
    """A figure as figures/<name>.png and .svg, with the numbers behind it as .csv."""
    save_figure(folder(profile) / "figures", name, figure, data)


def save_table(profile: Profile, name: str, table: pd.DataFrame, spec: str = ".1f") -> None:
    """A table of Estimates as tables/<name>.csv (numbers) and .md (to read, formatted by `spec`)."""
    save_estimates(folder(profile) / "tables", name, table, spec)


def save_text(profile: Profile, name: str, table: pd.DataFrame) -> None:
    """A table of text and plain numbers as tables/<name>.csv and .md."""
    save_plain(folder(profile) / "tables", name, table)


def save_figure(to: Path, name: str, figure: Figure, data: pd.DataFrame) -> None:
    to.mkdir(parents=True, exist_ok=True)
    figure.savefig(to / f"{name}.png")
    figure.savefig(to / f"{name}.svg", metadata={"Date": None})
    data.to_csv(to / f"{name}.csv", index=False)


def save_estimates(to: Path, name: str, table: pd.DataFrame, spec: str = ".1f") -> None:
    to.mkdir(parents=True, exist_ok=True)
    tidy(table).to_csv(to / f"{name}.csv", index=False)
    text = show(table, spec)
    text.columns = [" ".join(c) if isinstance(c, tuple) else c for c in text.columns]
    (to / f"{name}.md").write_text(text.to_markdown() + "\n")


def save_plain(to: Path, name: str, table: pd.DataFrame) -> None:
    to.mkdir(parents=True, exist_ok=True)
    table.to_csv(to / f"{name}.csv")
    (to / f"{name}.md").write_text(table.to_markdown() + "\n")
