"""Fig. 13: RL on few prompts, plain and reheated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.headline import HEADLINE
from companion.exhibits.style import COLOURS, canvas
from companion.runs import Run
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    steps = dynamics(evidence.by_key("scarce"))
    return Shown(figure=draw(steps), data=steps, sentence=sentence(steps))


def dynamics(runs: Mapping[str, Run]) -> pd.DataFrame:
    """`experiments.scarce` on one axis: columns arm, step, entropies, grad_norm, reward."""
    columns = ["step", "rollout_entropy", "token_entropy", "grad_norm", "reward"]
    frames = [
        runs[arm].metrics.reindex(columns=columns).assign(arm=arm)
        for arm in ("Collapsed", "+DAPO", "+DAPO w/ PR-FKL")
    ]
    parted = frames[0]["step"].max()
    for frame in frames[1:]:
        frame["step"] += parted
    return pd.concat(frames, ignore_index=True)


def draw(dynamics: pd.DataFrame) -> Figure:
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
        axes[2].plot(rows["step"], rows["reward"], **style)
    axes[0].set(
        title="Entropy: on the few prompts, dots on others",
        ylabel="mean token entropy (nats, T = 1)",
        ylim=(0, None),
    )
    ticks = " (ticks: none, all groups agree)" if (dynamics["grad_norm"] == 0).any() else ""
    axes[1].set(title=f"Gradient norm{ticks}", ylabel="before clipping", yscale="log")
    axes[2].set(title="Training reward", ylabel="mean score of a step's rollouts")
    for axis in axes:
        axis.set_xlabel("RL step")
    axes[0].legend(fontsize=8)
    return figure


def sentence(dynamics: pd.DataFrame, last: int = 10) -> str:
    end = dynamics.groupby("arm").tail(last).groupby("arm").mean(numeric_only=True)
    plain, hot = end.loc["+DAPO"], end.loc[HEADLINE]
    arms = dict(list(dynamics.groupby("arm")))
    norm = arms["+DAPO"]["grad_norm"]
    silent, also = ((arms[arm]["grad_norm"] == 0).mean() for arm in ("+DAPO", HEADLINE))
    reward = {arm: rows["reward"].dropna() for arm, rows in arms.items()}
    mean = reward["+DAPO"].rolling(last).mean()
    before, after = reward["Collapsed"].iloc[-1], reward[HEADLINE]
    regained = int((after < before).cumprod().sum())
    back = f"regained after {regained}" if regained < len(after) else "not regained"
    return (
        f"On the few prompts plain RL ends at {plain['rollout_entropy']:.3f} nats and a reward of "
        f"{plain['reward']:.3f}, the reheated arm at {hot['rollout_entropy']:.3f} and "
        f"{hot['reward']:.3f} (means of {last} steps, one seed: no interval). Reheating itself "
        f"takes the reward on them from {before:.2f} to {after.iloc[0]:.2f}, {back} of "
        f"{len(after)} steps. Plain RL's gradient norm peaks at "
        f"{norm.max() / norm[norm > 0].median():.1f} times its median, and the mean of its last {last} "
        f"rewards is {mean.iloc[-1]:.3f} where its highest was {mean.max():.3f}; the paper sees spikes "
        f"and a falling reward. In {silent:.0%} of plain RL's steps, and {also:.0%} of the "
        "reheated arm's, all groups agree and nothing is learned."
    )


EXHIBIT = Exhibit(
    name="fig13",
    title="Fig. 13: RL on few prompts",
    notebook="09_data_scarce",
    roles=("scarce",),
    make=make,
    alt="Entropy, gradient norm and reward over RL steps, plain and reheated.",
)
