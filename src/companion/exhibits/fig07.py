"""Fig. 7: forward and reverse KL, by AdamW and by plain SGD."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import collect
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import FKL, RKL, canvas, entropy_line
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths(evidence.by_key("objectives"))
    return Shown(
        figure=draw(paths),
        data=paths,
        sentence=sentence(paths, profile.reheat.recovery_entropy),
    )


def draw(paths: pd.DataFrame) -> Figure:
    """Fig. 7: forward and reverse KL, by AdamW and by plain SGD: entropy and gradient norm.

    Args:
        paths: `collect.paths`, with runs named "FKL, AdamW" and so on.
    """
    figure, axes = canvas(2, 2, figsize=(9, 5.6), sharex="col")
    for column, optimizer in enumerate(("AdamW", "SGD")):
        for direction, colour in (("FKL", FKL), ("RKL", RKL)):
            rows = paths[paths["run"] == f"{direction}, {optimizer}"]
            entropy_line(axes[0, column], rows, colour, direction)
            axes[1, column].plot(rows["step"], rows["grad_norm"], color=colour, label=direction)
        axes[0, column].set(title=f"{optimizer}, the same learning rate for both")
        axes[1, column].set(
            xlabel="reheating step", ylabel="gradient norm, unclipped", ylim=(0, None)
        )
    axes[0, 0].legend(fontsize=8)
    return figure


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
