"""Fig. 8: the teacher's temperature, and how alike its first gradients are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion import paper
from companion.analysis import collect, measure
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import FKL, RKL, canvas, entropy_line
from companion.schema import Profile
from companion.study.roles import Evidence

TAU = ["#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7"]
PAPER = paper.number("§4.5", "spread of entropy over teacher temperatures")
"""Nats."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths({float(tau): run for tau, run in evidence.by_key("temperatures").items()})
    gradients = measure.table(evidence.only("gradients"))
    return Shown(
        figure=draw(paths, gradients),
        data=paths,
        sentence=sentence(paths, gradients),
        more={"gradients": gradients},
    )


def draw(paths: pd.DataFrame, gradients: pd.DataFrame) -> Figure:
    """Fig. 8: the teacher's temperature, and how alike the first gradients are.

    Args:
        paths: `collect.paths`, with runs named by tau.
        gradients: measurements of `gradients.at_start`; pairs of one direction are drawn.
    """
    figure, axes = canvas(1, 3, figsize=(11, 3.3), width_ratios=[1.3, 1, 1])
    taus = sorted(paths["run"].unique())
    for tau, colour in zip(taus, TAU, strict=False):
        entropy_line(axes[0], paths[paths["run"] == tau], colour, f"τ = {tau:g}")
    axes[0].set(title="Reheating by τ", xlabel="reheating step")
    axes[0].legend(fontsize=8)
    same = gradients[gradients["direction_1"] == gradients["direction_2"]]
    names = [
        f"{b:g} / {a:g}"
        for a, b in same.query("direction_1 == 'forward'")[["tau_1", "tau_2"]].itertuples(
            index=False
        )
    ]
    for shift, (direction, rows) in zip((-0.2, 0.2), same.groupby("direction_1"), strict=True):
        places = np.arange(len(rows)) + shift
        colour, label = (FKL, "FKL") if direction == "forward" else (RKL, "RKL")
        apart = axes[1].bar(places, (1 - rows["cosine"]).round(4), 0.4, color=colour, label=label)
        axes[1].bar_label(apart, fmt="{:g}", fontsize=7)  # reverse KL's are 0, by Eq. 20
        ratios = axes[2].bar(places, rows["norm_ratio"], 0.4, color=colour, label=label)
        axes[2].bar_label(ratios, fmt="%.1f", fontsize=7)
    axes[1].set(title="Distance of first gradients", ylabel="1 − cosine", ylim=(0, None))
    axes[2].set(title="Ratio of their norms", ylabel="norm ratio")
    axes[2].axhline(1, color="0.6", linewidth=1)
    for axis in axes[1:]:
        axis.set_xticks(range(len(names)), names)
        axis.set_xlabel("τ of the two gradients")
    axes[1].legend(fontsize=8)
    return figure


def sentence(paths: pd.DataFrame, gradients: pd.DataFrame) -> str:
    wide = paths.pivot(index="step", columns="run", values="token_entropy").dropna()
    spread = (wide.max(axis=1) - wide.min(axis=1)).max()
    same = gradients.query("direction_1 == 'forward' and direction_2 == 'forward'")
    return (
        f"Over the {len(wide) - 1} steps that all τ ran, entropy differs by at most {spread:.3f} nats "
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
    alt="Entropy over steps for three temperatures; distances and norm ratios of their first gradients.",
)
