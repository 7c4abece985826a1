"""Fig. 2: reward and entropy, until collapse and in every arm after it."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.headline import HEADLINE
from companion.exhibits.style import COLOURS, canvas, smooth
from companion.exhibits.wording import holds
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate, macro_average
from companion.study import arms
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    steps = dynamics(evidence.every("training"))
    collapse, recovery = profile.rl.collapse.entropy, profile.reheat.recovery_entropy
    return Shown(figure=draw(steps, collapse, recovery), data=steps, sentence=sentence(steps))


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
    figure, axes = canvas(2, 2, figsize=(10, 6.4))
    before = dynamics[dynamics["arm"] == "Collapsed"]
    after = dynamics[dynamics["arm"] != "Collapsed"].copy()
    after["step"] -= after["seed"].map(before.groupby("seed")["step"].max())
    panels = {"reward": smooth, "token_entropy": lambda values: values}
    for column, (measure, drawn) in enumerate(panels.items()):
        for _, rows in before.groupby("seed"):
            values = drawn(rows.dropna(subset=[measure]).set_index("step")[[measure]])
            axes[0, column].plot(values.index, values, color="black", linewidth=1)
        for arm, rows in after.groupby("arm", sort=False):
            values = rows.dropna(subset=[measure]).pivot(
                index="step", columns="seed", values=measure
            )
            values = drawn(values)
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
        axes[row, 0].set(title=f"Training reward, {when}", ylabel="mean score, mean of 10 steps")
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


def sentence(dynamics: pd.DataFrame, last: int = 20) -> str:
    before = dynamics[dynamics["arm"] == "Collapsed"].dropna(subset=["token_entropy"])
    ends = before.sort_values("step").groupby("seed")["token_entropy"].agg(["first", "last"]).mean()
    measured = dynamics.dropna(subset=["token_entropy"]).sort_values("step")
    final = measured.groupby(["arm", "seed"])["token_entropy"].last().groupby("arm").mean()
    gap = _reward_gap(dynamics, last)
    return (
        f"DAPO takes entropy from {ends['first']:.3f} to {ends['last']:.3f} nats; after the same "
        f"further steps plain DAPO ends at {final[arms.DAPO]:.3f} and PR-FKL at "
        f"{final[HEADLINE]:.3f}. Over the last {last} steps PR-FKL's reward minus plain DAPO's is "
        f"{gap:+.3f} (seeds and steps resampled), an interval that {holds(gap, {'0': 0})}; the paper "
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
    """PR-FKL's reward minus DAPO's on the same prompts, resampling seeds and the last steps."""
    wide = dynamics.pivot_table(index=["seed", "step"], columns="arm", values="reward")
    gap = (wide[HEADLINE] - wide[arms.DAPO]).dropna().groupby("seed").tail(last)
    percent = macro_average(
        {"": gap.to_numpy().reshape(wide.index.get_level_values(0).nunique(), -1)}
    )
    return Estimate(percent.value / 100, percent.low / 100, percent.high / 100)


EXHIBIT = Exhibit(
    name="fig02",
    title="Fig. 2: reward and entropy during RL",
    notebook="03_continue",
    roles=("training",),
    make=make,
    alt="Reward and entropy over RL steps: one line to the collapse, then one line for each arm.",
    every_seed=True,
)
