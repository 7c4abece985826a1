"""Fig. 9: reheating a policy that is not collapsed."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import paper
from companion.analysis import collect
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import FKL, canvas, entropy_line
from companion.schema import Profile
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 9", "step from which the gradient norm grows")


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths(evidence.by_key("base"))
    return Shown(figure=draw(paths), data=paths, sentence=sentence(paths))


def draw(paths: pd.DataFrame) -> Figure:
    """Fig. 9: reheating a base policy and a collapsed one: entropy and gradient norm.

    Args:
        paths: `collect.paths`, with the runs "base" and "collapsed".
    """
    figure, axes = canvas(1, 2, figsize=(9, 3.3))
    for name, colour in (("base", "#D55E00"), ("collapsed", FKL)):
        rows = paths[paths["run"] == name]
        entropy_line(axes[0], rows, colour, f"{name} policy")
        axes[1].plot(rows["step"], rows["grad_norm"], color=colour, label=f"{name} policy")
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set(title="Entropy (the gate forced open)", xlabel="reheating step")
    axes[1].set(
        title="Gradient norm",
        xlabel="reheating step",
        ylabel="gradient norm, unclipped",
        ylim=(0, None),
    )
    axes[0].legend(fontsize=8)
    return figure


def sentence(paths: pd.DataFrame) -> str:
    base = paths[paths["run"] == "base"].sort_values("step")
    entropy, norm = base["token_entropy"].dropna(), base["grad_norm"].dropna()
    return (
        f"Forced upon the base policy, {base['step'].max()} steps take entropy from "
        f"{entropy.iloc[0]:.3f} to {entropy.iloc[-1]:.3f} nats and the gradient norm from "
        f"{norm.iloc[0]:.3f} to {norm.iloc[-1]:.3f} ({entropy.iloc[-1] / entropy.iloc[0]:.2f} and "
        f"{norm.iloc[-1] / norm.iloc[0]:.2f} times). The paper sees entropy grow without bound and the "
        f"gradient sharply from step {PAPER:.0f} on."
    )


EXHIBIT = Exhibit(
    name="fig09",
    title="Fig. 9: reheating a policy that is not collapsed",
    notebook="07_objectives",
    roles=("base",),
    make=make,
    alt="Entropy and gradient norm over steps, from the base policy and from the collapsed one.",
)
