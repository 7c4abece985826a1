"""Fig. 10: reheating far past the stop."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion import paper
from companion.analysis import collect
from companion.exhibits import style
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import (
    FKL,
    SMALL,
    canvas,
    entropy_line,
    legend_below,
    level,
    paper_mark,
    plain_log,
    titled,
)
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

PAPER = {
    "turn": (
        paper.number("App. D", "step of the regime change"),
        paper.number("App. D", "entropy before the regime change"),
    ),
    "end": (
        paper.number("App. D", "step of that entropy"),
        paper.number("App. D", "entropy at step 31"),
    ),
}
"""Step and entropy (nats) where the paper's growth turns, and at its end."""
FOLD = PAPER["end"][1] / PAPER["turn"][1]
"""How many times larger entropy gets between them."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    path, recovery = collect.paths(evidence.by_key("long")), profile.reheat.recovery_entropy
    found = finding(path)
    return Shown(
        figure=titled(draw(path, recovery, profile.analysis.long_batch_size), found),
        finding=found,
        data=path,
        sentence=sentence(path, recovery),
        claims=claims(path),
    )


def draw(path: pd.DataFrame, recovery: float | None, batch: int) -> Figure:
    """Fig. 10: reheating far past the stop, and a zoom on its beginning.

    Args:
        path: `collect.paths` of the long-horizon run.
        recovery: nats at which the study stops; None: never.
        batch: answers a step.
    """
    figure, axes = canvas(1, 2, figsize=(10, 4))
    stopped = path.loc[path["token_entropy"] >= (recovery or np.inf), "step"].min()
    # The paper zooms on 16 steps; here at least those until the study would have stopped.
    near = path[path["step"] <= max(16, 1.5 * np.nan_to_num(stopped, nan=0))]
    for axis, rows, title in (
        (axes[0], path, f"Full run, {batch} answers a step (log scale)"),
        (axes[1], near, "Its beginning"),
    ):
        entropy_line(axis, rows, FKL, "here", markersize=2.5)
        if recovery:
            level(axis, recovery, "where the study stops", at=(0.99, 0.01)[axis is axes[1]])
        axis.set(title=title, xlabel="reheating step")
    places = {PAPER["turn"][0]: PAPER["turn"][1], PAPER["end"][0]: PAPER["end"][1]}
    axes[0].plot(list(places), list(places.values()), **style.PAPER)
    paper_mark(axes[0], list(places), list(places.values()), "the paper (8B, 256 answers a step)")
    plain_log(axes[0])
    axes[0].set_ylim(0.8 * path["token_entropy"].min(), 1.5 * PAPER["end"][1])
    paper_mark(axes[1], *PAPER["turn"], "")
    axes[1].set_ylim(0, 1.15 * max(PAPER["turn"][1], axes[1].dataLim.y1))
    axes[1].set_ylabel("")
    axes[1].annotate(
        "the paper:\nbelow this", PAPER["turn"], xytext=(7, -4), textcoords="offset points",
        fontsize=SMALL,
    )  # fmt: skip
    legend_below(figure, [axes[0]], 2)
    return figure


def _fastest(path: pd.DataFrame) -> float:
    """How many times larger entropy gets at most, within as many steps as the paper's turn takes."""
    nats = path.dropna(subset=["token_entropy"]).set_index("step")["token_entropy"]
    window = PAPER["end"][0] - PAPER["turn"][0]
    return max(nats.loc[start : start + window].iloc[-1] / nats[start] for start in nats.index)


def finding(path: pd.DataFrame) -> str:
    last = path.dropna(subset=["token_entropy"]).iloc[-1]
    does = "explodes" if _fastest(path) >= FOLD / 2 else "does not explode"
    step, nats = PAPER["end"]
    return (
        f"Past the stop entropy {does}: {last['token_entropy']:.2f} nats at step {last['step']:.0f} "
        f"(the paper: {nats:g} at step {step:g})"
    )


def claims(path: pd.DataFrame) -> tuple[Claim, ...]:
    last = path.dropna(subset=["token_entropy"]).iloc[-1]
    end = Estimate(last["token_entropy"], last["entropy_low"], last["entropy_high"])
    (start, low), (stop, high) = PAPER["turn"], PAPER["end"]
    fastest = _fastest(path)
    return (
        Claim(
            "Left on past the stop, reheating makes entropy explode within a few steps",
            "entropy explodes past the stop",
            f"{low:g} to about {high:g} nats in {stop - start:g} steps ({FOLD:.0f}-fold)",
            f"at most {fastest:.1f}-fold in as many steps; {end:.2f} nats at step {last['step']:.0f}",
            "agrees" if fastest >= FOLD / 2 else "differs",
        ),
    )


def sentence(path: pd.DataFrame, recovery: float | None) -> str:
    entropy = path.dropna(subset=["token_entropy"])
    crossed = entropy.loc[entropy["token_entropy"] >= (recovery or np.inf), "step"].min()
    passes = "Entropy does not reach the recovery value"
    if np.isfinite(crossed):
        steps = entropy["token_entropy"].diff()
        after = steps[entropy["step"] > crossed].mean() / steps[entropy["step"] <= crossed].mean()
        passes = f"Entropy passes the recovery value at step {crossed:.0f}"
        if np.isfinite(after):
            passes += f", grows {after:.1f} times as fast after it as before"
    return (
        f"{passes}, and is {entropy['token_entropy'].iloc[-1]:.2f} nats at step "
        f"{entropy['step'].iloc[-1]}; the paper sees a change of regime near step 16, from at most "
        "0.15 nats to about 2.5 by step 31."
    )


EXHIBIT = Exhibit(
    name="fig10",
    title="Fig. 10: past the stop",
    notebook="06_dynamics",
    roles=("long",),
    make=make,
    alt="Entropy over many reheating steps on a logarithmic scale, the paper's rise beside it, and a "
    "zoom on the first ones.",
)
