"""The objective's direction, its temperature, and where it works (notebook 07)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.figures.style import COLOURS, canvas

KL = {"FKL": COLOURS["+DAPO w/ PR-FKL"], "RKL": COLOURS["+DAPO w/ PR-RKL"]}
TAU = ["#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7"]


def fig07(paths: pd.DataFrame) -> Figure:
    """Fig. 7: forward and reverse KL, by AdamW and by plain SGD: entropy and gradient norm.

    Args:
        paths: `collect.paths`, with runs named "FKL, AdamW" and so on.
    """
    figure, axes = canvas(2, 2, figsize=(9, 5.6), sharex="col")
    for column, optimizer in enumerate(("AdamW", "SGD")):
        for direction, colour in KL.items():
            rows = paths[paths["run"] == f"{direction}, {optimizer}"]
            _entropy(axes[0, column], rows, colour, direction)
            axes[1, column].plot(rows["step"], rows["grad_norm"], color=colour, label=direction)
        axes[0, column].set(title=f"{optimizer}, the same learning rate for both")
        axes[1, column].set(
            xlabel="reheating step", ylabel="gradient norm, unclipped", ylim=(0, None)
        )
    axes[0, 0].legend(fontsize=8)
    return figure


def fig08(paths: pd.DataFrame, gradients: pd.DataFrame) -> Figure:
    """Fig. 8: the teacher's temperature, and how alike the first gradients are.

    Args:
        paths: `collect.paths`, with runs named by tau.
        gradients: measurements of `gradients.at_start`; pairs of one direction are drawn.
    """
    figure, axes = canvas(1, 3, figsize=(11, 3.3), width_ratios=[1.3, 1, 1])
    taus = sorted(paths["run"].unique())
    for tau, colour in zip(taus, TAU, strict=False):
        _entropy(axes[0], paths[paths["run"] == tau], colour, f"τ = {tau:g}")
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
        colour, label = (KL["FKL"], "FKL") if direction == "forward" else (KL["RKL"], "RKL")
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


def fig09(paths: pd.DataFrame) -> Figure:
    """Fig. 9: reheating a base policy and a collapsed one: entropy and gradient norm.

    Args:
        paths: `collect.paths`, with the runs "base" and "collapsed".
    """
    figure, axes = canvas(1, 2, figsize=(9, 3.3))
    for name, colour in (("base", "#D55E00"), ("collapsed", KL["FKL"])):
        rows = paths[paths["run"] == name]
        _entropy(axes[0], rows, colour, f"{name} policy")
        axes[1].plot(rows["step"], rows["grad_norm"], color=colour, label=f"{name} policy")
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set(title="Entropy (the gate forced open)", xlabel="reheating step")
    axes[1].set(
        title="Gradient norm",
        xlabel="reheating step",
        ylabel="gradient norm, unclipped",
        ylim=(0, None),
    )
    axes[0].legend(fontsize=8)
    return figure


def _entropy(axis: Axes, rows: pd.DataFrame, colour: str, label: str) -> None:
    """A run's entropy over its steps, with its interval over prompts."""
    axis.fill_between(
        rows["step"],
        rows["entropy_low"],
        rows["entropy_high"],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    axis.plot(rows["step"], rows["token_entropy"], "o-", color=colour, markersize=3, label=label)
    axis.set(ylabel="mean token entropy (nats, T = 1),\n95% over prompts", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
