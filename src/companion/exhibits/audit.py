"""Ours: how sure the paper's own gains are, from its own table."""

from __future__ import annotations

import pandas as pd

from companion import paper
from companion.analysis import noise
from companion.exhibits.exhibit import Exhibit, Shown
from companion.schema import Profile
from companion.study.roles import Evidence

SPREADS = ("known", "least given pass@8", "problems held fixed")


def make(profile: Profile, evidence: Evidence) -> Shown:
    gains = noise.gains(paper.table1())
    table = gains[gains["spread"].isin(SPREADS)].reset_index(drop=True)
    return Shown(table=table.round(4), as_text=table.round(2), sentence=sentence(table))


def sentence(table: pd.DataFrame) -> str:
    sampled, fixed = (
        table[(table["spread"] == "problems held fixed") == held] for held in (False, True)
    )
    zero = (sampled["low"] <= 0) & (sampled["high"] >= 0)
    beyond = ", ".join(
        f"{row.arm.removeprefix('+DAPO w/ ')} on {row.model} ({row.metric} {row.difference:+.2f} "
        f"[{row.low:.2f}, {row.high:.2f}])"
        for row in fixed[(fixed["low"] > 0) | (fixed["high"] < 0)].itertuples()
    )
    return (
        f"With the problems as a sample {zero.sum()} of {len(zero)} intervals of the paper's gains "
        f"over +DAPO hold 0; with these very problems held fixed, the interval leaves 0 out for "
        f"{beyond or 'none'}. They are the least that the paper's table implies: unpaired, of one "
        "training seed."
    )


EXHIBIT = Exhibit(
    name="audit",
    title="Audit: how sure the paper's own gains are (points)",
    notebook="10_cost",
    roles=(),
    make=make,
)
