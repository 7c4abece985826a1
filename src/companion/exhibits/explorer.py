"""Ours: the self-teacher at three token positions, to be moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from companion import objective
from companion.analysis import positions
from companion.analysis.positions import Position
from companion.exhibits.exhibit import Exhibit, Shown, Widget
from companion.schema import Profile
from companion.study.roles import Evidence

CARRIED = 2048
"""Of a larger vocabulary the page carries the likeliest tokens alone, which the note says."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    found, tau = positions.of(evidence.only("positions")), profile.reheat.tau
    table = summary(found, tau)
    size = len(next(iter(found.values())).tokens)
    return Shown(
        table=table,
        widget=Widget("explorer", {"tau": tau, "positions": [_data(*p) for p in found.items()]}),
        note=f"Moved: the {CARRIED:,} likeliest of {size:,} tokens." if size > CARRIED else "",
        sentence=sentence(table, tau),
    )


def summary(found: dict[str, Position], tau: float) -> pd.DataFrame:
    """A row a position: where it is, its likeliest token, and student and teacher there (nats)."""
    rows = {}
    for name, position in found.items():
        z = torch.tensor(position.logits, dtype=torch.float64)
        p = objective.log_probs(z).exp()
        rows[name] = {
            "prompt": position.prompt,
            "answer so far": " ".join(position.answer_so_far.split()),
            "likeliest token": position.tokens[int(p.argmax())],
            "its probability": float(p.max()),
            "student's entropy": float(objective.entropy(z)),
            "teacher's": float(objective.entropy(z / tau)),
            "KL to it": float(objective.forward_kl(z, tau)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def sentence(table: pd.DataFrame, tau: float) -> str:
    """Args: `summary`."""
    each = ", ".join(
        f"from {student:.3f} to {teacher:.3f} where it is {name}"
        for name, student, teacher in zip(
            table.index, table["student's entropy"], table["teacher's"], strict=True
        )
    )
    return f"A temperature of {tau:g} takes the policy's entropy {each} (nats, at single tokens)."


def _data(name: str, position: Position) -> dict[str, Any]:
    """A position as explorer.js reads it: its tokens from the likeliest on."""
    order = np.argsort(-position.logits, kind="stable")[:CARRIED]
    return {
        "name": name,
        "prompt": position.prompt,
        "soFar": " ".join(position.answer_so_far.split()),
        "tokens": [position.tokens[i] for i in order],
        "logits": [float(f"{position.logits[i]:.6g}") for i in order],
    }


EXHIBIT = Exhibit(
    name="explorer",
    title="Try it: the self-teacher at one token",
    notebook="00_overview",
    roles=("positions",),
    make=make,
)
