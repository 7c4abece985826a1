"""Fig. 7: forward and reverse KL, by AdamW and by plain SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import collect
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import (
    FKL,
    RKL,
    canvas,
    entropy_line,
    legend_below,
    level,
    plain_log,
    titled,
)
from companion.exhibits.wording import directed, on_seeds, seeds, span, unanimous
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "FKL": ("forward KL", {"color": FKL}),
    "RKL": ("reverse KL", {"color": RKL, "linestyle": "--"}),
}
"""Of each direction: what the legend calls it, how it is drawn."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = evidence.paths("objectives")
    recovery = profile.reheat.recovery_entropy
    rates = {"AdamW": profile.reheat.learning_rate, "SGD": profile.analysis.sgd_learning_rate}
    found = finding(paths, recovery)
    return Shown(
        figure=titled(draw(paths, rates, recovery), found),
        finding=found,
        data=paths,
        sentence=sentence(paths, recovery),
        claims=claims(paths, recovery),
    )


def draw(paths: pd.DataFrame, rates: Mapping[str, float], recovery: float | None = None) -> Figure:
    """Fig. 7: forward and reverse KL, by AdamW and by plain SGD: entropy and gradient norm.

    Args:
        paths: `Evidence.paths`, with runs named "FKL, AdamW" and so on.
        rates: learning rates, by optimizer.
        recovery: nats at which the study stops.
    """
    figure, axes = canvas(2, 2, figsize=(10, 6.2), sharex=True, sharey="row")
    for column, (optimizer, rate) in enumerate(rates.items()):
        for direction, (label, look) in LOOKS.items():
            rows = paths[paths["run"] == f"{direction}, {optimizer}"]
            entropy_line(axes[0, column], rows, label=label, **look)
            for _, one in rows.groupby("seed"):
                axes[1, column].plot(one["step"], one["grad_norm"], linewidth=1.5, **look)
        if recovery:
            level(axes[0, column], recovery, "where the study stops", at=0.01)
        axes[0, column].set_title(f"{optimizer}, learning rate {rate:g} for both")
        axes[1, column].set_xlabel("reheating step")
    for row in axes:  # logarithmic, since SGD's steps may take one pair far beyond the other
        plain_log(row[0])
        ends = [end for axis in row for end in axis.dataLim.intervaly]
        row[0].set_ylim(0.85 * min(ends), 1.15 * max(ends))
    axes[0, 1].set_ylabel("")
    axes[1, 0].set_ylabel("gradient norm, unclipped\n(log scale)")
    legend_below(figure, [axes[0, 0]], 2)
    return figure


def _ratios(paths: pd.DataFrame) -> pd.Series:
    """Forward KL's gradient norm over reverse KL's under AdamW, by seed and common step."""
    forward, reverse = (
        paths[paths["run"] == f"{way}, AdamW"].set_index(["seed", "step"])["grad_norm"]
        for way in LOOKS
    )
    return (forward / reverse).dropna()


def _ratio(paths: pd.DataFrame) -> Estimate:
    """Their median, and the range of all steps and seeds."""
    ratios = _ratios(paths)
    return Estimate(ratios.groupby("seed").median().mean(), ratios.min(), ratios.max())


def _ends(paths: pd.DataFrame, name: str) -> pd.DataFrame:
    """Of one run of every seed, a row each: its last step, entropy there (nats), and what it rose by."""
    each = collect.measured(paths, name).values()
    return pd.DataFrame(
        {
            "step": [rows["step"].iloc[-1] for rows in each],
            "nats": [rows["token_entropy"].iloc[-1] for rows in each],
            "rise": [
                rows["token_entropy"].iloc[-1] - rows["token_entropy"].iloc[0] for rows in each
            ],
        }
    )


def _recover(paths: pd.DataFrame, recovery: float | None) -> list[bool]:
    """By seed, whether both directions reach the recovery entropy under AdamW."""
    ends = [_ends(paths, f"{way}, AdamW")["nats"] for way in LOOKS]
    return [bool(recovery and min(both) >= recovery) for both in zip(*ends, strict=True)]


def finding(paths: pd.DataFrame, recovery: float | None) -> str:
    """Args: as `sentence`."""
    ratio = _ratio(paths)
    back = on_seeds(_recover(paths, recovery), "both recover", "not both recover")
    times = f"{ratio.low:.2f} to {ratio.high:.2f} times"
    return f"Forward KL's gradient is {times} reverse KL's; by AdamW {back}"


def claims(paths: pd.DataFrame, recovery: float | None) -> tuple[Claim, ...]:
    """Args: as `sentence`."""
    ratio = _ratio(paths)
    over = "steps and seeds" if paths["seed"].nunique() > 1 else "steps"
    larger = Claim(
        "Forward KL has the larger gradients, throughout",
        "forward KL has the larger gradient",
        "larger (drawn, without a number)",
        f"{ratio:.2f} times reverse KL's (median and range of {over})",
        directed(ratio, null=1),
    )
    if not recovery:
        return (larger,)
    forward, reverse = (_ends(paths, f"{way}, AdamW") for way in LOOKS)
    back = Claim(
        "Forward and reverse KL both bring entropy back",
        "both directions bring entropy back",
        "to a similar degree (without a number)",
        f"to {forward['nats'].mean():.3f} nats in {span(forward['step'])} steps, "
        f"{reverse['nats'].mean():.3f} in {span(reverse['step'])}",
        unanimous("agrees" if both else "differs" for both in _recover(paths, recovery)),
    )
    return larger, back


def sentence(paths: pd.DataFrame, recovery: float | None) -> str:
    """Args: `Evidence.paths` of the four runs, and the entropy (nats) at which AdamW's stop."""
    ratio, common = _ratio(paths), span(_ratios(paths).groupby("seed").size())
    both = on_seeds(_recover(paths, recovery), "both recover", "not both recover")
    ends = {name: _ends(paths, name) for name in paths["run"].unique()}
    forward, reverse = (ends[f"{way}, AdamW"] for way in LOOKS)
    rises = {way: ends[f"{way}, SGD"]["rise"].mean() for way in LOOKS}
    return (
        f"Under AdamW {both} ({span(forward['step'])} steps forward, {span(reverse['step'])} "
        f"reverse) and forward KL's gradient norm is {ratio.low:.2f} to {ratio.high:.2f} times "
        f"reverse KL's over {common} common steps; the paper says it is larger throughout. "
        f"Under plain SGD, where size counts, forward KL raises entropy by {rises['FKL']:+.3f} nats "
        f"and reverse KL by {rises['RKL']:+.3f} in equal steps{seeds(len(forward))}."
    )


EXHIBIT = Exhibit(
    name="fig07",
    title="Fig. 7: forward and reverse KL",
    notebook="07_objectives",
    roles=("objectives",),
    make=make,
    alt="Entropy and gradient norm over steps for both directions, under AdamW and under plain SGD.",
    every_seed=True,
)
