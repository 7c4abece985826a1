"""Fig. 7: forward and reverse KL, by AdamW and by plain SGD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import collect
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import FKL, RKL, canvas, entropy_line, legend_below, level, titled
from companion.exhibits.wording import directed
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

LOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "FKL": ("forward KL", {"color": FKL}),
    "RKL": ("reverse KL", {"color": RKL, "linestyle": "--"}),
}
"""Of each direction: what the legend calls it, how it is drawn."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths(evidence.by_key("objectives"))
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
        paths: `collect.paths`, with runs named "FKL, AdamW" and so on.
        rates: learning rates, by optimizer.
        recovery: nats at which the study stops.
    """
    figure, axes = canvas(2, 2, figsize=(10, 6.2), sharex=True, sharey="row")
    for column, (optimizer, rate) in enumerate(rates.items()):
        for direction, (label, look) in LOOKS.items():
            rows = paths[paths["run"] == f"{direction}, {optimizer}"]
            entropy_line(axes[0, column], rows, label=label, **look)
            axes[1, column].plot(rows["step"], rows["grad_norm"], linewidth=1.8, **look)
        if recovery:
            level(axes[0, column], recovery, "where the study stops", at=0.01)
        axes[0, column].set_title(f"{optimizer}, learning rate {rate:g} for both")
        axes[1, column].set_xlabel("reheating step")
    for row in axes:  # a shared axis keeps the limits of whichever panel set them last
        row[0].set_ylim(0, 1.05 * max(axis.dataLim.y1 for axis in row))
    axes[0, 1].set_ylabel("")
    axes[1, 0].set_ylabel("gradient norm, unclipped")
    legend_below(figure, [axes[0, 0]], 2)
    return figure


def _ratio(paths: pd.DataFrame) -> Estimate:
    """Forward KL's gradient norm over reverse KL's under AdamW: median and range of common steps."""
    forward, reverse = (
        paths[paths["run"] == f"{way}, AdamW"].set_index("step")["grad_norm"] for way in LOOKS
    )
    ratio = (forward / reverse).dropna()
    return Estimate(ratio.median(), ratio.min(), ratio.max())


def _ends(paths: pd.DataFrame) -> pd.DataFrame:
    """Of both directions under AdamW the last step and its entropy: columns step, token_entropy."""
    measured = paths.dropna(subset=["token_entropy"]).sort_values("step").groupby("run").last()
    return measured.loc[[f"{way}, AdamW" for way in LOOKS], ["step", "token_entropy"]]


def finding(paths: pd.DataFrame, recovery: float | None) -> str:
    """Args: as `sentence`."""
    ratio, ends = _ratio(paths), _ends(paths)["token_entropy"]
    back = "both recover" if recovery and ends.min() >= recovery else "not both recover"
    times = f"{ratio.low:.2f} to {ratio.high:.2f} times"
    return f"Forward KL's gradient is {times} reverse KL's; by AdamW {back}"


def claims(paths: pd.DataFrame, recovery: float | None) -> tuple[Claim, ...]:
    """Args: as `sentence`."""
    ratio, ends = _ratio(paths), _ends(paths)
    larger = Claim(
        "Forward KL has the larger gradients, throughout",
        "forward KL has the larger gradient",
        "larger (drawn, without a number)",
        f"{ratio:.2f} times reverse KL's (median and range of steps)",
        directed(ratio, null=1),
    )
    if not recovery:
        return (larger,)
    nats, steps = ends["token_entropy"], ends["step"]
    back = Claim(
        "Forward and reverse KL both bring entropy back",
        "both directions bring entropy back",
        "to a similar degree (without a number)",
        f"to {nats.iloc[0]:.3f} nats in {steps.iloc[0]} steps, {nats.iloc[1]:.3f} in {steps.iloc[1]}",
        "agrees" if nats.min() >= recovery else "differs",
    )
    return larger, back


def sentence(paths: pd.DataFrame, recovery: float | None) -> str:
    """Args: `collect.paths` of the four runs, and the entropy (nats) at which AdamW's stop."""
    runs = {name: rows.set_index("step") for name, rows in paths.groupby("run")}
    ratio = (runs["FKL, AdamW"]["grad_norm"] / runs["RKL, AdamW"]["grad_norm"]).dropna()
    rise = {
        name: rows["token_entropy"].dropna().iloc[-1] - rows["token_entropy"].iloc[0]
        for name, rows in runs.items()
    }
    steps = {name: rows.index.max() for name, rows in runs.items()}
    end = min(runs[f"{way}, AdamW"]["token_entropy"].dropna().iloc[-1] for way in ("FKL", "RKL"))
    both = "both recover" if recovery and end >= recovery else "not both recover"
    return (
        f"Under AdamW {both} ({steps['FKL, AdamW']} steps forward, {steps['RKL, AdamW']} "
        f"reverse) and forward KL's gradient norm is {ratio.min():.2f} to {ratio.max():.2f} times "
        f"reverse KL's over {len(ratio)} common steps; the paper says it is larger throughout. "
        f"Under plain SGD, where size counts, forward KL raises entropy by {rise['FKL, SGD']:+.3f} nats "
        f"and reverse KL by {rise['RKL, SGD']:+.3f} in equal steps."
    )


EXHIBIT = Exhibit(
    name="fig07",
    title="Fig. 7: forward and reverse KL",
    notebook="07_objectives",
    roles=("objectives",),
    make=make,
    alt="Entropy and gradient norm over steps for both directions, under AdamW and under plain SGD.",
)
