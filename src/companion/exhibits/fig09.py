"""Fig. 9: reheating a policy that is not collapsed."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import paper
from companion.analysis import collect
from companion.exhibits.exhibit import Claim, Exhibit, Shown, Verdict
from companion.exhibits.style import (
    FKL,
    canvas,
    entropy_line,
    legend_below,
    level,
    paper_line,
    titled,
)
from companion.exhibits.wording import seeds, unanimous
from companion.paired import over_seeds
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 9", "step from which the gradient norm grows")


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = evidence.paths("base")
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
        paths: `Evidence.paths`, with the runs "base" and "collapsed".
        gate: nats below which a policy counts as collapsed.
    """
    figure, axes = canvas(1, 2, figsize=(10, 3.9))
    for name, colour in (("base", "#8c564b"), ("collapsed", FKL)):
        rows = paths[paths["run"] == name]
        entropy_line(axes[0], rows, colour, f"from the {name} policy")
        for _, one in rows.groupby("seed"):
            axes[1].plot(one["step"], one["grad_norm"], color=colour, linewidth=1.5)
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


def _slower(base: pd.DataFrame, collapsed: pd.DataFrame) -> bool:
    """Whether entropy grows by fewer times from the base policy than from a collapsed one, of a seed."""
    nats = [rows.set_index("step")["token_entropy"] for rows in (base, collapsed)]
    first, last = nats[0].index.intersection(nats[1].index)[[0, -1]]
    grown, heated = (each[last] / each[first] for each in nats)
    return bool(grown < heated)


def _verdicts(paths: pd.DataFrame) -> Iterator[Verdict]:
    """A seed's: at least doubled is running away; growth that is slower than the controlled one from
    a collapsed policy is none."""
    base, collapsed = (collect.measured(paths, run) for run in ("base", "collapsed"))
    for seed, rows in base.items():
        nats = rows["token_entropy"]
        if nats.iloc[-1] >= 2 * nats.iloc[0]:
            yield "agrees"
        else:
            yield "differs" if _slower(rows, collapsed[seed]) else "open"


def _ends(paths: pd.DataFrame) -> tuple[Estimate, Estimate, int]:
    """Over seeds the base policy's entropy (nats) first and last, and the steps between."""
    first, last = (over_seeds(collect.entropies(paths, "base", at), 0) for at in (0, -1))
    return first, last, int(paths.loc[paths["run"] == "base", "step"].max())


def finding(paths: pd.DataFrame) -> str:
    first, last, steps = _ends(paths)
    does = {"agrees": "runs away", "differs": "does not run away", "open": "may run away"}
    return (
        f"From the base policy entropy {does[unanimous(_verdicts(paths))]}: {first.value:.3f} to "
        f"{last.value:.3f} nats in {steps} steps"
    )


def claims(paths: pd.DataFrame) -> tuple[Claim, ...]:
    first, last, steps = _ends(paths)
    return (
        Claim(
            "Reheating a policy that has not collapsed makes its entropy run away",
            "an uncollapsed policy runs away",
            f"without bound; gradients grow sharply from step {PAPER:.0f}",
            f"{first.value:.3f} to {last:.3f} nats in {steps} steps",
            unanimous(_verdicts(paths)),
        ),
    )


def sentence(paths: pd.DataFrame) -> str:
    first, last, steps = _ends(paths)
    base = paths[paths["run"] == "base"].sort_values("step").groupby("seed")["grad_norm"]
    norm, end = base.first().mean(), base.last().mean()
    return (
        f"Forced upon the base policy, {steps} steps take entropy from {first.value:.3f} to "
        f"{last.value:.3f} nats and the gradient norm from {norm:.3f} to {end:.3f} "
        f"({last.value / first.value:.2f} and {end / norm:.2f} times){seeds(base.ngroups)}. The paper "
        f"sees entropy grow without bound and the gradient sharply from step {PAPER:.0f} on."
    )


EXHIBIT = Exhibit(
    name="fig09",
    title="Fig. 9: reheating a policy that is not collapsed",
    notebook="07_objectives",
    roles=("base",),
    make=make,
    alt="Entropy and gradient norm over steps, from the base policy and from the collapsed one, the "
    "gate and the paper's step marked.",
    every_seed=True,
)
