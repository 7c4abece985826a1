"""Notebook 02: one reheating, step by step."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.exhibits import files
from companion.exhibits.exhibit import Shown
from companion.exhibits.style import COLOURS, canvas, legend_below, level
from companion.runs import Run
from companion.schema import Profile

ARMS = {"forward": "PR-FKL", "reverse": "PR-RKL"}
"""What a reheating by this direction of the KL is called."""


def show(profile: Profile, run: Run) -> Shown:
    """Its entropy, KL and gradient norm over steps, kept as "reheat-<direction>"."""
    direction = run.identity["settings"]["direction"]
    figure = draw(
        run.metrics,
        ARMS[direction],
        profile.rl.collapse.entropy,
        profile.reheat.recovery_entropy,
    )
    return files.keep(profile, f"reheat-{direction}", Shown(figure=figure, data=run.metrics))


def draw(metrics: pd.DataFrame, arm: str, threshold: float, target: float | None) -> Figure:
    """Reheating step by step: the measured entropy, then what swift logs beside it.

    Args:
        arm: "PR-FKL" or "PR-RKL", which decides the colour.
        metrics: columns step, token_entropy with entropy_low and entropy_high (nats, of each
            checkpoint), rollout_entropy and kl (nats, logged before the update), grad_norm.
        threshold, target: nats, the collapse threshold (gate) and the recovery entropy (stop).
    """
    figure, axes = canvas(1, 3, figsize=(10, 3.8))
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
    level(axes[0], threshold, "gate: collapsed below", under=True)
    if target:
        level(axes[0], target, "stop: recovered above", at=0.01)
    axes[0].set(title="Entropy", ylabel="mean token entropy (nats, T = 1)", ylim=(0, None))
    legend_below(figure, [axes[0]], 3)
    axes[1].plot(steps, 1000 * metrics["kl"], color=colour)
    axes[1].set(title="KL to the self-teacher", ylabel="mean token KL (millinats)", ylim=(0, None))
    axes[2].plot(steps, metrics["grad_norm"], color=colour)
    axes[2].set(title="Gradient norm", ylabel="before clipping", ylim=(0, None))
    for axis in axes:
        axis.set_xlabel("reheating step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
