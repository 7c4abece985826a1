"""Fig. 9: reheating a policy that is not collapsed."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import paper
from companion.analysis import collect
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import (
    FKL,
    canvas,
    entropy_line,
    legend_below,
    level,
    paper_line,
    titled,
)
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 9", "step from which the gradient norm grows")


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths(evidence.by_key("base"))
    found = finding(paths)
    return Shown(
        figure=titled(draw(paths, profile.rl.collapse.entropy), found),
        finding=found,
        data=paths,
        sentence=sentence(paths),
        claims=claims(paths),
    )


def draw(paths: pd.DataFrame, gate: float | None = None) -> Figure:
    """Fig. 9: reheating a base policy and a collapsed one: entropy and gradient norm.

    Args:
        paths: `collect.paths`, with the runs "base" and "collapsed".
        gate: nats below which a policy counts as collapsed.
    """
    figure, axes = canvas(1, 2, figsize=(10, 3.9))
    for name, colour in (("base", "#8c564b"), ("collapsed", FKL)):
        rows = paths[paths["run"] == name]
        entropy_line(axes[0], rows, colour, f"from the {name} policy")
        axes[1].plot(rows["step"], rows["grad_norm"], color=colour, linewidth=1.8)
    if gate:
        level(axes[0], gate, "gate: the study reheats a policy below it", at=0.99, under=True)
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set(title="Entropy (the gate forced open)", xlabel="reheating step")
    axes[1].set(
        title="Gradient norm",
        xlabel="reheating step",
        ylabel="gradient norm, unclipped",
        ylim=(0, None),
    )
    paper_line(axes[1], PAPER, "the paper: grows\nsharply from here", upright=True, at=0.02)
    legend_below(figure, [axes[0]], 2)
    return figure


def _growth(paths: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The base policy's steps with their entropy, and whether a collapsed one's grows by more times."""
    each = {
        name: rows.dropna(subset=["token_entropy"]).set_index("step")
        for name, rows in paths.sort_values("step").groupby("run")
    }
    common = each["base"].index.intersection(each["collapsed"].index)[[0, -1]]
    (start, end), (cold, heated) = (
        each[name].loc[common, "token_entropy"] for name in ("base", "collapsed")
    )
    return each["base"], bool(end / start < heated / cold)


def finding(paths: pd.DataFrame) -> str:
    base, _ = _growth(paths)
    nats = base["token_entropy"]
    does = "runs away" if _runs_away(nats) else "does not run away"
    return (
        f"From the base policy entropy {does}: {nats.iloc[0]:.3f} to {nats.iloc[-1]:.3f} nats in "
        f"{base.index.max()} steps"
    )


def claims(paths: pd.DataFrame) -> tuple[Claim, ...]:
    base, slower = _growth(paths)
    nats = base["token_entropy"]
    last = Estimate(nats.iloc[-1], base["entropy_low"].iloc[-1], base["entropy_high"].iloc[-1])
    return (
        Claim(
            "Reheating a policy that has not collapsed makes its entropy run away",
            "an uncollapsed policy runs away",
            f"without bound; gradients grow sharply from step {PAPER:.0f}",
            f"{nats.iloc[0]:.3f} to {last:.3f} nats in {base.index.max()} steps",
            # Growth that is slower than the controlled one from a collapsed policy is no running away.
            "agrees" if _runs_away(nats) else "differs" if slower else "open",
        ),
    )


def _runs_away(nats: pd.Series) -> bool:
    """At least doubled."""
    return bool(nats.iloc[-1] >= 2 * nats.iloc[0])


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
    alt="Entropy and gradient norm over steps, from the base policy and from the collapsed one, the "
    "gate and the paper's step marked.",
)
