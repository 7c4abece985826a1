"""Fig. 13: RL on few prompts, plain and reheated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion import paper
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.headline import HEADLINE
from companion.exhibits.style import (
    COLOURS,
    SMALL,
    canvas,
    legend_below,
    level,
    paper_line,
    plain_log,
    titled,
)
from companion.runs import Run
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence

PAPER = paper.number("App. F", "mean token entropy under DAPO")
"""Nats."""
SPIKES = paper.number("App. F", "step of the gradient-norm spikes")
LOSS = 0.05
"""Of reward: more is no wobbling of ten steps' mean."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    steps = dynamics(evidence.by_key("scarce"))
    found = finding(steps, profile.analysis.scarce_problems)
    return Shown(
        figure=titled(draw(steps), found),
        finding=found,
        data=steps,
        sentence=sentence(steps),
        claims=claims(steps),
    )


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
    figure, axes = canvas(1, 3, figsize=(10, 4))
    for arm, rows in dynamics.groupby("arm", sort=False):
        colour, label = COLOURS[str(arm)], "until the arms part" if arm == "Collapsed" else arm
        look = {"color": colour, "linestyle": "--" if arm == "Collapsed" else "-"}
        axes[0].plot(rows["step"], rows["rollout_entropy"], label=label, **look)
        measured = rows.dropna(subset=["token_entropy"])
        axes[0].plot(measured["step"], measured["token_entropy"], "o", color=colour, markersize=4)
        axes[1].plot(rows["step"], rows["grad_norm"].where(rows["grad_norm"] > 0), **look)
        silent = rows.loc[rows["grad_norm"] == 0, "step"]
        heights = np.full(len(silent), 0.02 if arm == HEADLINE else 0.06)
        axes[1].plot(
            silent, heights, "|", color=colour, markersize=7,
            transform=axes[1].get_xaxis_transform(), label="no gradient: all groups agree",
        )  # fmt: skip
        axes[2].plot(rows["step"], rows["reward"], **look)
    parted = dynamics.loc[dynamics["arm"] == "Collapsed", "step"].max()
    for axis in axes:
        level(axis, parted, "arms part" if axis is axes[0] else "", upright=True, at=0.01)
        axis.set_xlabel("RL step")
    paper_line(axes[0], PAPER, f"the paper: plain RL falls below {PAPER:g}", at=0.99, under=True)
    axes[0].set(
        title="Entropy: lines on the few prompts,\ndots on validation prompts",
        ylabel="mean token entropy (nats, T = 1)",
        ylim=(0, None),
    )
    axes[1].set(title="Gradient norm", ylabel="before clipping (log scale)")
    plain_log(axes[1])
    axes[2].set(title="Training reward", ylabel="mean score of a step's rollouts")
    before, after = (_rewards(dynamics, arm) for arm in ("Collapsed", HEADLINE))
    axes[2].annotate(
        f"reheating:\n{before.iloc[-1]:.2f} to {after.iloc[0]:.2f}",
        (parted, after.iloc[0]), xytext=(-6, -4), textcoords="offset points",
        ha="right", va="top", fontsize=SMALL, color=COLOURS[HEADLINE],
    )  # fmt: skip
    # One tick says it; where no step is without a gradient, none is explained.
    explained = axes[:2] if (dynamics["grad_norm"] == 0).any() else axes[:1]
    legend_below(figure, explained, 4)
    return figure


def _rewards(dynamics: pd.DataFrame, arm: str) -> pd.Series:
    return dynamics.loc[dynamics["arm"] == arm, "reward"].dropna()


def _lost(dynamics: pd.DataFrame, arm: str, last: int = 10) -> tuple[float, float]:
    """Of an arm, the mean of its last rewards, and of as many the highest."""
    rewards = _rewards(dynamics, arm)
    mean = rewards.rolling(min(last, len(rewards))).mean()
    return float(mean.iloc[-1]), float(mean.max())


def _regained(dynamics: pd.DataFrame) -> int:
    """For how many steps the reheated arm earns less than before it was reheated."""
    before, after = _rewards(dynamics, "Collapsed").iloc[-1], _rewards(dynamics, HEADLINE)
    return int((after < before).cumprod().sum())


def finding(dynamics: pd.DataFrame, prompts: int) -> str:
    """Args: as `draw`; on how many prompts."""
    last, best = _lost(dynamics, arms.DAPO)
    does = "loses its reward" if best - last > LOSS else "stays stable"
    first, steps = _rewards(dynamics, HEADLINE), _regained(dynamics)
    back = f"regained in {steps} steps" if steps < len(first) else "not regained"
    return f"On {prompts} prompts plain RL {does}; reheating takes reward to {first.iloc[0]:.2f}, {back}"


def claims(dynamics: pd.DataFrame) -> tuple[Claim, ...]:
    """One seed, in fewer steps than the paper's plain RL took to fail, cannot tell that it would not."""
    (last, best), (hot, hottest) = (_lost(dynamics, arm) for arm in (arms.DAPO, HEADLINE))
    steps = int(dynamics["step"].max())
    falls, hot_falls = best - last > LOSS, hottest - hot > LOSS
    return (
        Claim(
            "On few prompts plain RL becomes unstable and loses what it learned",
            "plain RL breaks on few prompts",
            f"gradients spike near step {SPIKES:.0f}, then the reward falls",
            f"reward {last:.2f} at the end, {best:.2f} at best, in {steps} steps (one seed)",
            "agrees" if falls else "differs" if steps >= SPIKES else "open",
        ),
        Claim(
            "Reheating keeps RL on few prompts stable",
            "reheating keeps RL stable there",
            "the reward does not fall (without a number)",
            f"reward {hot:.2f} at the end, {hottest:.2f} at best (one seed)",
            "differs" if hot_falls else "agrees" if falls else "open",
        ),
    )


def sentence(dynamics: pd.DataFrame, last: int = 10) -> str:
    end = dynamics.groupby("arm").tail(last).groupby("arm").mean(numeric_only=True)
    plain, hot = end.loc["+DAPO"], end.loc[HEADLINE]
    each = dict(list(dynamics.groupby("arm")))
    norm = each["+DAPO"]["grad_norm"]
    silent, also = ((each[arm]["grad_norm"] == 0).mean() for arm in ("+DAPO", HEADLINE))
    final, best = _lost(dynamics, arms.DAPO, last)
    before, after = _rewards(dynamics, "Collapsed").iloc[-1], _rewards(dynamics, HEADLINE)
    regained = _regained(dynamics)
    back = f"regained after {regained}" if regained < len(after) else "not regained"
    return (
        f"On the few prompts plain RL ends at {plain['rollout_entropy']:.3f} nats and a reward of "
        f"{plain['reward']:.3f}, the reheated arm at {hot['rollout_entropy']:.3f} and "
        f"{hot['reward']:.3f} (means of {last} steps, one seed: no interval). Reheating itself "
        f"takes the reward on them from {before:.2f} to {after.iloc[0]:.2f}, {back} of "
        f"{len(after)} steps. Plain RL's gradient norm peaks at "
        f"{norm.max() / norm[norm > 0].median():.1f} times its median, and the mean of its last {last} "
        f"rewards is {final:.3f} where its highest was {best:.3f}; the paper sees spikes "
        f"and a falling reward. In {silent:.0%} of plain RL's steps, and {also:.0%} of the "
        "reheated arm's, all groups agree and nothing is learned."
    )


EXHIBIT = Exhibit(
    name="fig13",
    title="Fig. 13: RL on few prompts",
    notebook="09_data_scarce",
    roles=("scarce",),
    make=make,
    alt="Entropy, gradient norm and reward over RL steps, plain and reheated, and where the arms part.",
)
