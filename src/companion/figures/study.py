"""The study (notebooks 01 to 04): collapse, reheating, Fig. 1 and Fig. 2."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import objective
from companion.figures.style import COLOURS, canvas, estimates


def collapse(metrics: pd.DataFrame, threshold: float) -> Figure:
    """RL until collapse: entropy and reward over RL steps.

    Args:
        metrics: columns step, reward, rollout_entropy (nats, logged by verl before each update)
            and token_entropy (nats, of saved checkpoints; NaN between them).
        threshold: nats below which the policy counts as collapsed.
    """
    figure, axes = canvas(1, 2, figsize=(9, 3.2))
    measured = metrics.dropna(subset=["token_entropy"])
    axes[0].plot(
        metrics["step"],
        metrics["rollout_entropy"],
        color="0.6",
        linewidth=1,
        label="verl's log: training rollouts",
    )
    axes[0].plot(
        measured["step"],
        measured["token_entropy"],
        "o-",
        color="black",
        markersize=3,
        label="saved checkpoint, validation prompts",
    )
    axes[0].axhline(threshold, color="#D55E00", linestyle=":", label="collapse threshold")
    axes[0].set(
        title="Entropy", xlabel="RL step", ylabel="mean token entropy (nats, T = 1)", ylim=(0, None)
    )
    axes[0].legend(fontsize=8)
    axes[1].plot(metrics["step"], metrics["reward"], color="black", linewidth=1)
    axes[1].set(title="Training reward", xlabel="RL step", ylabel="mean score of a step's rollouts")
    return figure


def reheating(metrics: pd.DataFrame, arm: str, threshold: float, target: float) -> Figure:
    """Reheating step by step: the measured entropy, then what swift logs beside it.

    Args:
        arm: "PR-FKL" or "PR-RKL", which decides the colour.
        metrics: columns step, token_entropy with entropy_low and entropy_high (nats, of each
            checkpoint), rollout_entropy and kl (nats, logged before the update), grad_norm.
        threshold, target: nats, the collapse threshold (gate) and the recovery entropy (stop).
    """
    figure, axes = canvas(1, 3, figsize=(11, 3.2))
    colour = COLOURS[f"+DAPO w/ {arm}"]
    steps = metrics["step"]
    axes[0].fill_between(
        steps,
        metrics["entropy_low"],
        metrics["entropy_high"],
        color=colour,
        alpha=0.2,
        linewidth=0,
        label="95% interval over prompts",
    )
    axes[0].plot(
        steps,
        metrics["token_entropy"],
        "o-",
        color=colour,
        markersize=3,
        label="checkpoint, validation prompts",
    )
    axes[0].plot(
        steps,
        metrics["rollout_entropy"],
        color="0.6",
        linewidth=1,
        label="swift's log: training rollouts",
    )
    axes[0].axhline(threshold, color="#D55E00", linestyle=":", label="gate: collapsed below")
    if target:
        axes[0].axhline(target, color="#009E73", linestyle=":", label="stop: recovered above")
    axes[0].set(title="Entropy", ylabel="mean token entropy (nats, T = 1)", ylim=(0, None))
    axes[0].legend(fontsize=7, loc="lower right")
    axes[1].plot(steps, 1000 * metrics["kl"], color=colour)
    axes[1].set(title="KL to the self-teacher", ylabel="mean token KL (millinats)", ylim=(0, None))
    axes[2].plot(steps, metrics["grad_norm"], color=colour)
    axes[2].set(title="Gradient norm", ylabel="before clipping", ylim=(0, None))
    for axis in axes:
        axis.set_xlabel("reheating step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def fig01(gains: pd.DataFrame, tau: float) -> Figure:
    """Fig. 1: where rollout and policy reheating act (a sketch), and what each gains.

    Args:
        gains: `tables.gains` against continued plain DAPO (points, an Estimate a cell).
        tau: temperature of rollouts and teacher.
    """
    figure, axes = canvas(1, 4, figsize=(11, 3.1), width_ratios=[1, 1, 1.25, 1.25])
    z = torch.tensor([4.0, 2.2, 1.2, 0.4, -0.3], dtype=torch.float64)  # a sharp position
    collapsed, softened = objective.log_probs(z).exp(), objective.log_probs(z, tau).exp()
    places = np.arange(len(z))
    for axis, policy, title in (
        (axes[0], collapsed, "Rollout reheating (RR)"),
        (axes[1], softened, "Policy reheating (PR)"),
    ):
        axis.bar(places - 0.2, policy, 0.4, color="#0072B2", label="the policy that is trained")
        axis.bar(places + 0.2, softened, 0.4, color="#E69F00", label="what rollouts sample from")
        axis.set(
            title=title,
            xlabel="candidate token, by rank",
            ylim=(0, 1.1),
            xticks=places,
            xticklabels=places + 1,
        )
    axes[0].set_ylabel("probability (sketch)")
    axes[0].legend(fontsize=7.5, loc="upper right")
    for axis, metric in zip(axes[2:], gains.columns, strict=True):
        estimates(axis, gains[metric])
        axis.set(title=f"Gain in {metric} over +DAPO", xlabel="points, 95% interval")
    axes[3].set_yticklabels([])
    return figure


def fig02(dynamics: pd.DataFrame, collapse_entropy: float, recovery_entropy: float) -> Figure:
    """Fig. 2: reward and entropy, above until collapse (a line a seed), below in every arm after.

    Below, steps count from where the arms part, lines are means over seeds and bands their range.

    Args:
        dynamics: columns arm, seed, step (RL steps since the base policy), reward (mean score
            of the step's rollouts), token_entropy (nats, the one measure; NaN between checks).
        collapse_entropy, recovery_entropy: nats, drawn as lines.
    """
    figure, axes = canvas(2, 2, figsize=(10, 6.4))
    before = dynamics[dynamics["arm"] == "Collapsed"]
    after = dynamics[dynamics["arm"] != "Collapsed"].copy()
    after["step"] -= after["seed"].map(before.groupby("seed")["step"].max())
    panels = ("reward", "token_entropy")
    for column, measure in enumerate(panels):
        for _, rows in before.groupby("seed"):
            values = _smooth(rows.dropna(subset=[measure]).set_index("step")[[measure]], measure)
            axes[0, column].plot(values.index, values, color="black", linewidth=1)
        for arm, rows in after.groupby("arm", sort=False):
            values = rows.dropna(subset=[measure]).pivot(
                index="step", columns="seed", values=measure
            )
            values = _smooth(values, measure)
            marker = "o" if measure == "token_entropy" else None
            axes[1, column].plot(
                values.index,
                values.mean(axis=1),
                color=COLOURS[arm],
                label=arm,
                marker=marker,
                markersize=4,
            )
            if values.shape[1] > 1:
                axes[1, column].fill_between(
                    values.index,
                    values.min(axis=1),
                    values.max(axis=1),
                    color=COLOURS[arm],
                    alpha=0.12,
                    linewidth=0,
                )
    for row, when in enumerate(("until collapse", "resumed")):
        axes[row, 0].set(title=f"Training reward, {when}", ylabel="mean score, 10-step mean")
        axes[row, 1].set(title=f"Entropy, {when}", ylabel="mean token entropy (nats, T = 1)")
        levels = {"collapse": collapse_entropy, "recovery": recovery_entropy}
        for text, level in levels.items():
            if level is None:
                continue
            axes[row, 1].axhline(level, color="0.6", linewidth=1, linestyle=":", zorder=0)
            axes[row, 1].annotate(
                text,
                (1.01, level),
                xycoords=("axes fraction", "data"),
                fontsize=8,
                ha="left",
                va="center",
                color="0.4",
            )
        for axis in axes[row]:
            axis.set_xlabel(("RL step", "RL step since the arms parted")[row])
    axes[0, 1].set_ylim(0, None)
    seeds = after["seed"].nunique()
    figure.legend(
        *axes[1, 1].get_legend_handles_labels(),
        loc="outside right lower",
        fontsize=9,
        title=f"mean and range of {seeds} seeds" if seeds > 1 else None,
        title_fontsize=9,
    )
    return figure


def _smooth(values: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Rewards as a 10-step mean; entropies as they are."""
    return values.rolling(10, min_periods=1, center=True).mean() if measure == "reward" else values
