"""Fig. 13: RL on few prompts, plain and reheated."""

from __future__ import annotations

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
from companion.exhibits.wording import on_seeds, span, unanimous
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence

PAPER = paper.number("App. F", "mean token entropy under DAPO")
"""Nats."""
SPIKES = paper.number("App. F", "step of the gradient-norm spikes")
ORDER = ("Collapsed", arms.DAPO, HEADLINE)
LOSS = 0.05
"""Of reward: more is no wobbling of ten steps' mean."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    steps = dynamics(evidence)
    found = finding(steps, profile.analysis.scarce_problems)
    return Shown(
        figure=titled(draw(steps), found),
        finding=found,
        data=steps,
        sentence=sentence(steps),
        claims=claims(steps),
    )


def dynamics(evidence: Evidence) -> pd.DataFrame:
    """`experiments.scarce` on one axis: columns seed, arm, step, entropies, grad_norm, reward."""
    columns = ["seed", "run", "step", "rollout_entropy", "token_entropy", "grad_norm", "reward"]
    found = evidence.paths("scarce", *ORDER).reindex(columns=columns)
    found = found.rename(columns={"run": "arm"})
    before = found[found["arm"] == "Collapsed"].groupby("seed")["step"].max()
    later = found["arm"] != "Collapsed"
    found.loc[later, "step"] += found.loc[later, "seed"].map(before)
    return found


def draw(dynamics: pd.DataFrame) -> Figure:
    """Fig. 13: RL on few prompts, plain and reheated: entropy, gradient norm and reward; a line a seed.

    A step whose groups all agree has no gradient: a tick at the lower edge.

    Args:
        dynamics: columns seed, arm ("Collapsed" before the arms part), step, rollout_entropy and
            token_entropy (nats), grad_norm, reward.
    """
    figure, axes = canvas(1, 3, figsize=(10, 4))
    width = 1.5 if dynamics["seed"].nunique() == 1 else 0.8
    for (arm, _), rows in dynamics.groupby(["arm", "seed"], sort=False):
        colour, label = COLOURS[str(arm)], "until the arms part" if arm == "Collapsed" else arm
        look = {
            "color": colour, "linestyle": "--" if arm == "Collapsed" else "-", "linewidth": width,
        }  # fmt: skip
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
    before, after = _around(dynamics)
    axes[2].annotate(
        f"reheating:\n{before:.2f} to {after:.2f}",
        (parted, after), xytext=(-6, -4), textcoords="offset points",
        ha="right", va="top", fontsize=SMALL, color=COLOURS[HEADLINE],
    )  # fmt: skip
    # One tick says it; where no step is without a gradient, none is explained.
    explained = axes[:2] if (dynamics["grad_norm"] == 0).any() else axes[:1]
    legend_below(figure, explained, 4)
    return figure


def _rewards(dynamics: pd.DataFrame, arm: str) -> dict[int, pd.Series]:
    """By seed, in the order of steps."""
    rows = dynamics[dynamics["arm"] == arm].dropna(subset=["reward"])
    return {int(seed): one["reward"] for seed, one in rows.groupby("seed")}


def _around(dynamics: pd.DataFrame) -> tuple[float, float]:
    """The reward before reheating and after it, mean of seeds."""
    before, after = (_rewards(dynamics, arm).values() for arm in ("Collapsed", HEADLINE))
    last, first = [r.iloc[-1] for r in before], [r.iloc[0] for r in after]
    return float(np.mean(last)), float(np.mean(first))


def _lost(dynamics: pd.DataFrame, arm: str, last: int = 10) -> pd.DataFrame:
    """Of an arm, a row a seed: the mean of its last rewards, and of as many the highest."""
    each = _rewards(dynamics, arm)
    means = [r.rolling(min(last, len(r))).mean() for r in each.values()]
    ends = {"end": [mean.iloc[-1] for mean in means], "best": [mean.max() for mean in means]}
    return pd.DataFrame(ends, index=list(each))


def _fell(dynamics: pd.DataFrame, arm: str) -> pd.Series:
    """By seed, whether the arm lost reward."""
    ends = _lost(dynamics, arm)
    return ends["best"] - ends["end"] > LOSS


def _regained(dynamics: pd.DataFrame) -> str:
    """For how many steps the reheated arm earns less than before it was reheated."""
    before, after = (_rewards(dynamics, arm) for arm in ("Collapsed", HEADLINE))
    steps = [(after[seed] < before[seed].iloc[-1]).cumprod().sum() for seed in after]
    never = [n == len(r) for n, r in zip(steps, after.values(), strict=True)]
    return on_seeds(never, "not regained", f"regained in {span(steps)} steps")


def finding(dynamics: pd.DataFrame, prompts: int) -> str:
    """Args: as `draw`; on how many prompts."""
    fell = _fell(dynamics, arms.DAPO)
    does = "loses its reward" if fell.all() else "stays stable"
    if fell.any() and not fell.all():
        does = f"loses its reward on {fell.sum()} of {len(fell)} seeds"
    _, first = _around(dynamics)
    return (
        f"On {prompts} prompts plain RL {does}; reheating takes reward to {first:.2f}, "
        f"{_regained(dynamics)}"
    )


def claims(dynamics: pd.DataFrame) -> tuple[Claim, ...]:
    """Fewer steps than the paper's plain RL took to fail cannot tell that it would not."""
    plain, hot = (_lost(dynamics, arm).mean() for arm in (arms.DAPO, HEADLINE))
    falls, hot_falls = (_fell(dynamics, arm) for arm in (arms.DAPO, HEADLINE))
    steps, count = int(dynamics["step"].max()), len(falls)
    of = "one seed" if count == 1 else f"means of {count} seeds"
    return (
        Claim(
            "On few prompts plain RL becomes unstable and loses what it learned",
            "plain RL breaks on few prompts",
            f"gradients spike near step {SPIKES:.0f}, then the reward falls",
            f"reward {plain['end']:.2f} at the end, {plain['best']:.2f} at best, in {steps} steps "
            f"({of})",
            unanimous(
                "agrees" if fell else "differs" if steps >= SPIKES else "open" for fell in falls
            ),
        ),
        Claim(
            "Reheating keeps RL on few prompts stable",
            "reheating keeps RL stable there",
            "the reward does not fall (without a number)",
            f"reward {hot['end']:.2f} at the end, {hot['best']:.2f} at best ({of})",
            unanimous(
                "differs" if hot_fell else "agrees" if fell else "open"
                for fell, hot_fell in zip(falls, hot_falls, strict=True)
            ),
        ),
    )


def sentence(dynamics: pd.DataFrame, last: int = 10) -> str:
    end = dynamics.groupby(["arm", "seed"]).tail(last).groupby("arm").mean(numeric_only=True)
    plain, hot = end.loc[arms.DAPO], end.loc[HEADLINE]
    norms = {arm: rows["grad_norm"] for arm, rows in dynamics.groupby("arm")}
    silent, also = ((norms[arm] == 0).mean() for arm in (arms.DAPO, HEADLINE))
    norm, ends = norms[arms.DAPO], _lost(dynamics, arms.DAPO, last).mean()
    before, after = _around(dynamics)
    count = dynamics["seed"].nunique()
    of = "one seed: no interval" if count == 1 else f"{count} seeds"
    return (
        f"On the few prompts plain RL ends at {plain['rollout_entropy']:.3f} nats and a reward of "
        f"{plain['reward']:.3f}, the reheated arm at {hot['rollout_entropy']:.3f} and "
        f"{hot['reward']:.3f} (means of {last} steps, {of}). Reheating itself "
        f"takes the reward on them from {before:.2f} to {after:.2f}, {_regained(dynamics)}. Plain "
        f"RL's gradient norm peaks at {norm.max() / norm[norm > 0].median():.1f} times its median, and "
        f"the mean of its last {last} rewards is {ends['end']:.3f} where its highest was "
        f"{ends['best']:.3f}; the paper sees spikes and a falling reward. In {silent:.0%} of plain "
        f"RL's steps, and {also:.0%} of the reheated arm's, all groups agree and nothing is learned."
    )


EXHIBIT = Exhibit(
    name="fig13",
    title="Fig. 13: RL on few prompts",
    notebook="09_data_scarce",
    roles=("scarce",),
    make=make,
    alt="Entropy, gradient norm and reward over RL steps, plain and reheated, and where the arms part.",
    every_seed=True,
)
