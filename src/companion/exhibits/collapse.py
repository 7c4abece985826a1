"""Notebook 01: RL until collapse, one run."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from companion.exhibits import files
from companion.exhibits.exhibit import Shown
from companion.exhibits.style import canvas, legend_below, level
from companion.runs import Run
from companion.schema import Profile


def show(profile: Profile, run: Run) -> Shown:
    """Its entropy and reward over RL steps, kept as "collapse"."""
    figure = draw(run.metrics, profile.rl.collapse.entropy)
    return files.keep(profile, "collapse", Shown(figure=figure, data=run.metrics))


def draw(metrics: pd.DataFrame, threshold: float) -> Figure:
    """RL until collapse: entropy and reward over RL steps.

    Args:
        metrics: columns step, reward, rollout_entropy (nats, logged by verl before each update)
            and token_entropy (nats, of saved checkpoints; NaN between them).
        threshold: nats below which the policy counts as collapsed.
    """
    figure, axes = canvas(1, 2, figsize=(10, 3.6))
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
    level(axes[0], threshold, "collapse threshold", at=0.01, under=True)
    axes[0].set(
        title="Entropy", xlabel="RL step", ylabel="mean token entropy (nats, T = 1)", ylim=(0, None)
    )
    legend_below(figure, [axes[0]], 2)
    axes[1].plot(metrics["step"], metrics["reward"], color="black", linewidth=1)
    axes[1].set(title="Training reward", xlabel="RL step", ylabel="mean score of a step's rollouts")
    return figure
