"""Fig. 2: reward and entropy, until collapse and in every arm after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import paper
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.headline import HEADLINE
from companion.exhibits.style import (
    COLOURS,
    canvas,
    legend_below,
    level,
    paper_line,
    smooth,
    titled,
)
from companion.exhibits.wording import directed, holds
from companion.paired import over_seeds
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate, ratio_of_sums
from companion.study import arms
from companion.study.roles import Evidence

LOOKS: dict[str, dict[str, Any]] = {
    "+DAPO w/ PR-RKL": {"linestyle": (0, (4, 2)), "zorder": 3},
    arms.EQUAL: {"zorder": 1.9},
}
"""Pale, and where PR-FKL is: dashed, over it. What plain DAPO becomes if it goes on: under it."""
THRESHOLDS = {
    "collapsed": paper.number("§4.1", "collapse threshold of mean token entropy"),
    "recovered": paper.number("§4.1", "recovery threshold of mean token entropy"),
}
"""Nats, of the paper's 4B and 8B."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    steps = dynamics(evidence.every("training"))
    collapse, recovery = profile.rl.collapse.entropy, profile.reheat.recovery_entropy
    found = finding(steps)
    return Shown(
        figure=titled(draw(steps, collapse, recovery), found),
        finding=found,
        data=steps,
        sentence=sentence(steps),
        claims=claims(steps, collapse),
    )


def dynamics(training: Iterable[Run]) -> pd.DataFrame:
    """RL steps of all arms on one axis: columns arm, seed, step, reward, token_entropy.

    Steps count from the base policy: an arm's go on from where its seed collapsed.
    """
    frames = []
    for run in training:
        settings = run.identity["settings"]
        frame = run.metrics[["step", "reward", "token_entropy"]].copy()
        collapsing = settings["stop_entropy"] is not None
        frame.insert(0, "arm", "Collapsed" if collapsing else run.record["arm"])
        frame.insert(1, "seed", settings["seed"])
        frames.append(frame)
    everything = pd.concat(frames, ignore_index=True)
    until = everything[everything["arm"] == "Collapsed"].groupby("seed")["step"].max()
    later = everything["arm"] != "Collapsed"
    everything.loc[later, "step"] += everything.loc[later, "seed"].map(until).astype(int)
    return everything


def draw(dynamics: pd.DataFrame, collapse_entropy: float, recovery_entropy: float | None) -> Figure:
    """Fig. 2: reward and entropy, above until collapse (a line a seed), below in every arm after.

    Below, steps count from where the arms part, lines are means over seeds and bands their range.

    Args:
        dynamics: columns arm, seed, step (RL steps since the base policy), reward (mean score
            of the step's rollouts), token_entropy (nats, the one measure; NaN between checks).
        collapse_entropy, recovery_entropy: nats, drawn as lines.
    """
    figure, axes = canvas(2, 2, figsize=(10, 7.2))
    before = dynamics[dynamics["arm"] == "Collapsed"]
    after = dynamics[dynamics["arm"] != "Collapsed"].copy()
    after["step"] -= after["seed"].map(before.groupby("seed")["step"].max())
    seeds = after["seed"].nunique()
    for column, measure in enumerate(("reward", "token_entropy")):
        for _, rows in before.groupby("seed"):
            _until(axes[0, column], rows, measure)
        for arm, rows in after.groupby("arm", sort=False):
            _resumed(axes[1, column], rows, measure, str(arm))
    for row, when in enumerate(("until collapse, a line a seed", "resumed")):
        axes[row, 0].set(title=f"Training reward, {when}", ylabel="mean score, mean of 10 steps")
        axes[row, 1].set(title=f"Entropy, {when}", ylabel="mean token entropy (nats, T = 1)")
        level(axes[row, 1], collapse_entropy, "collapsed", at=1.01)
        if recovery_entropy:
            level(axes[row, 1], recovery_entropy, "recovered", at=1.01)
        for axis in axes[row]:
            axis.set_xlabel(("RL step", "RL step since the arms parted")[row])
    for name, nats in THRESHOLDS.items():
        paper_line(axes[0, 1], nats, f"the paper: {name}")
    axes[0, 1].set_ylim(0, None)
    legend_below(figure, axes.ravel(), 4, f"mean and range of {seeds} seeds" if seeds > 1 else "")
    return figure


def _until(axis: Axes, rows: pd.DataFrame, measure: str) -> None:
    """One seed until its RL stops."""
    values = rows.dropna(subset=[measure]).set_index("step")[[measure]]
    if measure == "reward":
        axis.plot(values.index, values, color="0.8", linewidth=0.5, zorder=1)
        values = smooth(values)
    axis.plot(values.index, values, color="black", linewidth=1)
    axis.plot(
        values.index[-1:], values[-1:], "X", color="black", markeredgecolor="white", markersize=8,
        linestyle="none", label="a seed collapsed: its RL stops",
    )  # fmt: skip


def _resumed(axis: Axes, rows: pd.DataFrame, measure: str, arm: str) -> None:
    """One arm, over its seeds."""
    values = rows.dropna(subset=[measure]).pivot(index="step", columns="seed", values=measure)
    colour, look = COLOURS[arm], {"linewidth": 1.5} | LOOKS.get(arm, {})
    if measure == "reward":
        axis.plot(values.index, values.mean(axis=1), color=colour, linewidth=0.5, alpha=0.35)
        values = smooth(values)
    else:
        look |= {"marker": "o", "markersize": 4}
    values = values.dropna()  # where fewer seeds are left their mean is another's
    axis.plot(values.index, values.mean(axis=1), color=colour, label=arm, **look)
    if values.shape[1] > 1:
        edges = values.min(axis=1), values.max(axis=1)
        axis.fill_between(values.index, *edges, color=colour, alpha=0.12, linewidth=0)


def finding(dynamics: pd.DataFrame, last: int = 20) -> str:
    """Args: as `sentence`."""
    final, gap = _final(dynamics), _reward_gap(dynamics, last)
    rewards = {"agrees": "its reward is higher", "differs": "its reward is lower"}
    return (
        f"When RL ends PR-FKL has {final[HEADLINE]:.3f} nats and plain DAPO {final[arms.DAPO]:.3f}; "
        f"{rewards.get(directed(gap), 'rewards are not told apart')}"
    )


def claims(dynamics: pd.DataFrame, collapse_entropy: float, last: int = 20) -> tuple[Claim, ...]:
    """Args: as `draw` and `sentence`."""
    ends, gap = _ends(dynamics), _reward_gap(dynamics, last)
    fell = ends["last"] < collapse_entropy
    lows, highs = ends.min(), ends.max()
    return (
        Claim(
            "RL makes entropy collapse: the policy stops exploring",
            "RL collapses entropy",
            f"below {THRESHOLDS['collapsed']:g} nats a token",
            f"from {ends['first'].mean():.3f} to {ends['last'].mean():.3f} [{lows['last']:.3f}, "
            f"{highs['last']:.3f}] nats a token (range of seeds)",
            "agrees" if fell.all() else "open" if fell.any() else "differs",
        ),
        Claim(
            "Resumed after reheating, RL earns a higher training reward",
            "more reward after reheating",
            "higher (drawn, without a number)",
            f"{gap:+.3f} of a score of at most 1, over the last {last} steps",
            directed(gap),
        ),
    )


def _ends(dynamics: pd.DataFrame) -> pd.DataFrame:
    """Entropy of the base policy and where RL stopped it: a row a seed, columns first and last, nats."""
    before = dynamics[dynamics["arm"] == "Collapsed"].dropna(subset=["token_entropy"])
    return before.sort_values("step").groupby("seed")["token_entropy"].agg(["first", "last"])


def _final(dynamics: pd.DataFrame) -> pd.Series:
    """Mean over seeds of each arm's last entropy, in nats."""
    measured = dynamics.dropna(subset=["token_entropy"]).sort_values("step")
    return measured.groupby(["arm", "seed"])["token_entropy"].last().groupby("arm").mean()


def sentence(dynamics: pd.DataFrame, last: int = 20) -> str:
    ends, final = _ends(dynamics).mean(), _final(dynamics)
    gap = _reward_gap(dynamics, last)
    return (
        f"DAPO takes entropy from {ends['first']:.3f} to {ends['last']:.3f} nats; after the same "
        f"further steps plain DAPO ends at {final[arms.DAPO]:.3f} and PR-FKL at "
        f"{final[HEADLINE]:.3f}. Over the last {last} steps PR-FKL's reward minus plain DAPO's is "
        f"{gap:+.3f}, an interval that {holds(gap, {'0': 0})}; the paper "
        f"shows a higher reward.{_one_optimisation(dynamics)}"
    )


def _one_optimisation(dynamics: pd.DataFrame) -> str:
    """That RR and PR-scale are, and for how many of their first steps their rewards are equal.

    verl 0.9.1 divides the trained logits by the rollout temperature, too (workers/engine/fsdp/
    transformer_impl.py): what RR samples and trains is PR-scale's policy, and they part where
    AdamW's step on the final norm's weight, which PR-scale divided, has another size beside it.
    """
    pair = ["+DAPO w/ RR", "+DAPO w/ PR-scale"]
    rows = dynamics[dynamics["arm"].isin(pair)].dropna(subset=["reward"])
    wide = rows.pivot(index=["seed", "step"], columns="arm", values="reward")
    if set(wide.columns) != set(pair):
        return ""
    same = (wide[pair[0]] == wide[pair[1]]).groupby("seed")
    equal = ", ".join(str(int(seed.cumprod().sum())) for _, seed in same)
    return (
        " RR and PR-scale are one optimisation, since verl divides what it trains by the rollouts' "
        f"temperature, too: their first {equal} rewards (by seed) are equal to the last digit."
    )


def _reward_gap(dynamics: pd.DataFrame, last: int) -> Estimate:
    """PR-FKL's reward minus DAPO's on the same prompts, of the last steps of each seed; over seeds, or
    of a single one resampling steps."""
    wide = dynamics.pivot_table(index=["seed", "step"], columns="arm", values="reward")
    gap = (wide[HEADLINE] - wide[arms.DAPO]).dropna().groupby("seed").tail(last)
    each = [ratio_of_sums(one.to_numpy(), np.ones(len(one))) for _, one in gap.groupby("seed")]
    return over_seeds(each)


EXHIBIT = Exhibit(
    name="fig02",
    title="Fig. 2: reward and entropy during RL",
    notebook="03_continue",
    roles=("training",),
    make=make,
    alt="Reward and entropy over RL steps: a line a seed to the collapse, then one line for each arm.",
    every_seed=True,
)
