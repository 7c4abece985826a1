"""Fig. 10: reheating far past the stop."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion import paper
from companion.analysis import collect
from companion.exhibits import style
from companion.exhibits.exhibit import Claim, Exhibit, Shown, Verdict
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
from companion.exhibits.wording import on_seeds, seeds, span, unanimous
from companion.paired import over_seeds
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
    path, recovery = evidence.paths("long"), profile.reheat.recovery_entropy
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
        path: `Evidence.paths` of the long-horizon runs.
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


def _seeds(path: pd.DataFrame) -> list[pd.Series]:
    """Of each seed the measured entropies (nats) by step."""
    each = collect.measured(path, path["run"].iloc[0])
    return [rows.set_index("step")["token_entropy"] for rows in each.values()]


def _fastest(nats: pd.Series) -> float:
    """How many times larger entropy gets at most, within as many steps as the paper's turn takes."""
    window = PAPER["end"][0] - PAPER["turn"][0]
    return max(nats.loc[start : start + window].iloc[-1] / nats[start] for start in nats.index)


def _end(path: pd.DataFrame) -> tuple[Estimate, str]:
    """Over seeds the entropy (nats) at the end, and the step."""
    last = over_seeds(collect.entropies(path, path["run"].iloc[0], -1), 0)
    return last, span(nats.index[-1] for nats in _seeds(path))


def _explodes(nats: pd.Series) -> bool:
    """Half of the paper's growth would still be an explosion."""
    return _fastest(nats) >= FOLD / 2


def _verdict(path: pd.DataFrame) -> Verdict:
    return unanimous("agrees" if _explodes(nats) else "differs" for nats in _seeds(path))


def finding(path: pd.DataFrame) -> str:
    grow = [_explodes(nats) for nats in _seeds(path)]
    does = on_seeds(grow, "explodes", "does not explode")
    (last, at), (step, nats) = _end(path), PAPER["end"]
    return (
        f"Past the stop entropy {does}: {last.value:.2f} nats at step {at} "
        f"(the paper: {nats:g} at step {step:g})"
    )


def claims(path: pd.DataFrame) -> tuple[Claim, ...]:
    (start, low), (stop, high) = PAPER["turn"], PAPER["end"]
    last, at = _end(path)
    fastest = max(map(_fastest, _seeds(path)))
    return (
        Claim(
            "Left on past the stop, reheating makes entropy explode within a few steps",
            "entropy explodes past the stop",
            f"{low:g} to about {high:g} nats in {stop - start:g} steps ({FOLD:.0f}-fold)",
            f"at most {fastest:.1f}-fold in as many steps; {last:.2f} nats at step {at}",
            _verdict(path),
        ),
    )


def sentence(path: pd.DataFrame, recovery: float | None) -> str:
    each, (last, at) = _seeds(path), _end(path)
    crossed = [nats.index[nats >= (recovery or np.inf)].min() for nats in each]
    reached = [bool(np.isfinite(step)) for step in crossed]
    passes = f"Entropy {on_seeds(reached, 'passes', 'does not reach')} the recovery value"
    if all(reached):
        passes += f" at step {span(crossed)}"
        after = [_sooner(nats, step) for nats, step in zip(each, crossed, strict=True)]
        if np.isfinite(after).all():
            passes += f", grows {span(after, '.1f')} times as fast after it as before"
    return (
        f"{passes}, and is {last.value:.2f} nats at step {at}{seeds(len(each))}; the paper sees a "
        "change of regime near step 16, from at most 0.15 nats to about 2.5 by step 31."
    )


def _sooner(nats: pd.Series, crossed: float) -> float:
    """How many times as fast entropy grows after a step as before it."""
    steps = nats.diff()
    return float(steps[nats.index > crossed].mean() / steps[nats.index <= crossed].mean())


EXHIBIT = Exhibit(
    name="fig10",
    title="Fig. 10: past the stop",
    notebook="06_dynamics",
    roles=("long",),
    make=make,
    alt="Entropy over many reheating steps on a logarithmic scale, the paper's rise beside it, and a "
    "zoom on the first ones.",
    every_seed=True,
)
