"""Fig. 8: the teacher's temperature, and how alike its first gradients are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import paper
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import (
    FKL,
    RKL,
    SMALL,
    canvas,
    entropy_line,
    paper_line,
    titled,
)
from companion.exhibits.wording import on_seeds, span, unanimous
from companion.schema import Profile
from companion.study.roles import Evidence

TAUS = ["#440154", "#21918c", "#c8a415", "#5ec962", "#3b528b"]
"""From the lowest τ on: of viridis, its yellow darkened; no arm has them."""
PAPER = paper.number("§4.5", "spread of entropy over teacher temperatures")
"""Nats."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = evidence.paths("temperatures").astype({"run": float})
    gradients = evidence.measured("gradients")
    found = finding(paths)
    return Shown(
        figure=titled(draw(paths, gradients), found),
        finding=found,
        data=paths,
        sentence=sentence(paths, gradients),
        claims=claims(paths),
        more={"gradients": gradients},
    )


def draw(paths: pd.DataFrame, gradients: pd.DataFrame) -> Figure:
    """Fig. 8: the teacher's temperature, and how alike the first gradients are.

    Args:
        paths: `Evidence.paths`, with runs named by tau.
        gradients: measurements of `gradients.at_start`; pairs of one direction are drawn.
    """
    figure, axes = canvas(2, 2, figsize=(10, 6.6))
    for tau, colour in zip(sorted(paths["run"].unique()), TAUS, strict=False):
        rows = paths[paths["run"] == tau]
        entropy_line(axes[0, 0], rows, colour, f"τ = {tau:g}", linewidth=1.2)
        for wide in _together(paths):
            apart = 1000 * (wide[tau] - wide.mean(axis=1))
            axes[0, 1].plot(wide.index, apart, "o-", color=colour, markersize=3, linewidth=1)
    # The paper's spread is of the highest and the lowest: half of it on either side of their middle.
    for side in (-1, 1):
        said = f"the paper: within {PAPER}" if side > 0 else ""
        paper_line(axes[0, 1], side * 1000 * PAPER / 2, said)
    room = max(1.4 * 1000 * PAPER / 2, 1.1 * abs(axes[0, 1].dataLim.intervaly).max())
    axes[0, 0].set(title="Reheating by τ", xlabel="reheating step")
    axes[0, 1].set(
        title="… against the mean of all τ",
        xlabel="reheating step",
        ylabel="difference of entropy (millinats)",
        ylim=(-room, room),
    )
    axes[0, 0].legend(loc="lower right")
    _gradients(axes[1], gradients)
    return figure


def _gradients(axes: Sequence[Axes], gradients: pd.DataFrame) -> None:
    """How far apart the first gradients of two temperatures are, and how different in size, as means
    of the seeds."""
    same = gradients[gradients["direction_1"] == gradients["direction_2"]]
    pair = ["direction_1", "tau_1", "tau_2"]
    same = same.groupby(pair, sort=False)[["cosine", "norm_ratio"]].mean().reset_index()
    forward = same[same["direction_1"] == "forward"]
    names = [f"{row.tau_2:g} / {row.tau_1:g}" for row in forward.itertuples()]
    for shift, (direction, rows) in zip((-0.2, 0.2), same.groupby("direction_1"), strict=True):
        places = np.arange(len(rows)) + shift
        colour = FKL if direction == "forward" else RKL
        label = f"{direction} KL"
        apart = axes[0].bar(places, (1 - rows["cosine"]).round(4), 0.4, color=colour, label=label)
        axes[0].bar_label(apart, fmt="{:g}", fontsize=SMALL)  # reverse KL's are 0, by Eq. 20
        ratios = axes[1].bar(places, rows["norm_ratio"], 0.4, color=colour, label=label)
        axes[1].bar_label(ratios, fmt="%.1f", fontsize=SMALL)
    axes[0].set(title="Distance of the first gradients", ylabel="1 − cosine (0: one direction)")
    axes[1].set(title="Ratio of their norms", ylabel="norm by the higher τ / by the lower")
    axes[1].axhline(1, color="0.6", linewidth=1)
    for axis in axes:
        axis.set_ylim(0, 1.15 * axis.dataLim.y1)
        axis.set_xticks(range(len(names)), names)
        axis.set_xlabel("τ of the two gradients")
    axes[0].legend(loc="upper left")


def _together(paths: pd.DataFrame) -> list[pd.DataFrame]:
    """Of each seed the entropy (nats) at the steps that all τ ran: a row a step, a column a τ."""
    each = paths.groupby("seed")
    return [
        rows.pivot(index="step", columns="run", values="token_entropy").dropna() for _, rows in each
    ]


def _spreads(paths: pd.DataFrame) -> list[float]:
    """Of each seed the most that entropy differs between τ at one step, in nats."""
    return [float((wide.max(axis=1) - wide.min(axis=1)).max()) for wide in _together(paths)]


def finding(paths: pd.DataFrame) -> str:
    spread, taus = max(_spreads(paths)), sorted(paths["run"].unique())
    does = on_seeds([each < PAPER for each in _spreads(paths)], "hardly matters", "matters")
    return (
        f"The teacher's τ {does}: {taus[0]:g} to {taus[-1]:g} differ by at most {spread:.3f} nats "
        f"(the paper: {PAPER})"
    )


def claims(paths: pd.DataFrame) -> tuple[Claim, ...]:
    spreads, taus = _spreads(paths), sorted(paths["run"].unique())
    return (
        Claim(
            "The temperature that is distilled (τ) hardly matters for how entropy comes back",
            "τ hardly matters",
            f"less than {PAPER} nats apart",
            f"at most {max(spreads):.3f} nats apart (τ of {', '.join(f'{tau:g}' for tau in taus)})",
            unanimous("agrees" if spread < PAPER else "differs" for spread in spreads),
        ),
    )


def sentence(paths: pd.DataFrame, gradients: pd.DataFrame) -> str:
    steps, spread = span(len(wide) - 1 for wide in _together(paths)), max(_spreads(paths))
    same = gradients.query("direction_1 == 'forward' and direction_2 == 'forward'")
    return (
        f"Over the {steps} steps that all τ ran, entropy differs by at most {spread:.3f} nats "
        f"between them (the paper: within {PAPER}); the forward gradients' cosine is at least "
        f"{same['cosine'].min():.3f} while their norms differ up to "
        f"{np.exp(np.abs(np.log(same['norm_ratio']))).max():.1f} times, which AdamW hides."
    )


EXHIBIT = Exhibit(
    name="fig08",
    title="Fig. 8: the teacher's temperature",
    notebook="07_objectives",
    roles=("temperatures", "gradients"),
    make=make,
    alt="Entropy over steps for three temperatures, and their differences beside the paper's bound; "
    "distances and norm ratios of their first gradients.",
    every_seed=True,
)
