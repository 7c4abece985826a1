"""Cooling a reheated policy, and RL on few prompts (notebooks 08 and 09)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.figures.style import COLOURS, canvas

RKL = COLOURS["+DAPO w/ PR-RKL"]


def fig11(paths: pd.DataFrame, threshold: float) -> Figure:
    """Fig. 11: entropy while a policy is reheated and then cooled by reverse KL.

    Args:
        paths: `collect.paths`, with the runs "reheated" and "cooled".
        threshold: nats, the collapse threshold, at which cooling stops.
    """
    figure, (axis,) = canvas(figsize=(6.5, 3.3))
    last = paths.loc[paths["run"] == "reheated", "step"].max()
    for name, colour, offset in (("reheated", RKL, 0), ("cooled", "#0072B2", last)):
        rows = paths[paths["run"] == name]
        axis.fill_between(
            rows["step"] + offset,
            rows["entropy_low"],
            rows["entropy_high"],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        axis.plot(
            rows["step"] + offset,
            rows["token_entropy"],
            "o-",
            color=colour,
            markersize=3,
            label={"reheated": "high τ", "cooled": "low τ"}[name],
        )
    axis.axhline(threshold, color="#D55E00", linestyle=":", label="collapse threshold")
    axis.set(
        xlabel="step (reheating, then cooling)",
        ylabel="mean token entropy (nats, T = 1)",
        ylim=(0, None),
        title="Reverse KL there and back, 95% over prompts",
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize=8)
    return figure


def fig12(displacement: pd.DataFrame) -> Figure:
    """Fig. 12: the cooling update against the reheating update, layer by layer and overall.

    Args:
        displacement: measurements of `displacement.reversal`.
    """
    figure, axes = canvas(1, 4, figsize=(12, 3.5))
    drawn = {
        "cosine": ("Cosine", -1),
        "projection": ("Reverse projection", 1),
        "norm_ratio": ("Norm ratio", 1),
        "residual_ratio": ("Residual ratio", 0),
    }
    for axis, (column, (title, exact)) in zip(axes, drawn.items(), strict=True):
        for weights, rows in displacement.groupby("weights"):
            layers, whole = rows[rows["layer"] != "all"], rows[rows["layer"] == "all"]
            style = {"as saved": ("#0072B2", "o", 5), "bfloat16": ("#E69F00", "x", 4)}[weights]
            colour, marker, size = style
            axis.plot(
                layers["layer"],
                layers[column],
                marker,
                color=colour,
                markersize=size,
                label=f"{weights}, by layer",
            )
            axis.axhline(
                whole[column].item(),
                color=colour,
                linewidth=1.2,
                alpha=0.7,
                label=f"{weights}, all weights",
            )
        axis.axhline(exact, color="0.6", linestyle=":", label="an exact way back")
        axis.set(title=title, xlabel="layer")
        axis.tick_params(axis="x", labelrotation=45)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    return figure


def fig13(dynamics: pd.DataFrame) -> Figure:
    """Fig. 13: RL on few prompts, plain and reheated: entropy, gradient norm and reward.

    A step whose groups all agree has no gradient: a tick at the lower edge.

    Args:
        dynamics: columns arm ("Collapsed" before the arms part), step, rollout_entropy and
            token_entropy (nats), grad_norm, reward.
    """
    figure, axes = canvas(1, 3, figsize=(11, 3.3))
    for arm, rows in dynamics.groupby("arm", sort=False):
        colour, label = COLOURS[arm], "until the arms part" if arm == "Collapsed" else arm
        style = {"color": colour, "linewidth": 1, "linestyle": "--" if arm == "Collapsed" else "-"}
        axes[0].plot(rows["step"], rows["rollout_entropy"], label=label, **style)
        measured = rows.dropna(subset=["token_entropy"])
        axes[0].plot(measured["step"], measured["token_entropy"], "o", color=colour, markersize=4)
        axes[1].plot(rows["step"], rows["grad_norm"].where(rows["grad_norm"] > 0), **style)
        silent = rows.loc[rows["grad_norm"] == 0, "step"]
        heights = np.full(len(silent), 0.02 if arm.endswith("PR-FKL") else 0.06)
        axes[1].plot(
            silent,
            heights,
            "|",
            color=colour,
            markersize=7,
            transform=axes[1].get_xaxis_transform(),
        )
        smooth = rows["reward"].rolling(10, min_periods=1, center=True).mean()
        axes[2].plot(rows["step"], smooth, **style)
    axes[0].set(
        title="Entropy: on the few prompts, dots on others",
        ylabel="mean token entropy (nats, T = 1)",
        ylim=(0, None),
    )
    ticks = " (ticks: none, all groups agree)" if (dynamics["grad_norm"] == 0).any() else ""
    axes[1].set(title=f"Gradient norm{ticks}", ylabel="before clipping", yscale="log")
    axes[2].set(title="Training reward", ylabel="mean score, 10-step mean")
    for axis in axes:
        axis.set_xlabel("RL step")
    axes[0].legend(fontsize=8)
    return figure
