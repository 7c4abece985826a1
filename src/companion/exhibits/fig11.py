"""Fig. 11: cooling a reheated policy."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import collect
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import RKL, canvas, entropy_line, legend_below, level, titled
from companion.exhibits.wording import directed, seeds, span
from companion.paired import over_seeds
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = evidence.paths("cooling")
    found, taus = finding(paths), (profile.reheat.tau, profile.analysis.cooling_tau)
    return Shown(
        figure=titled(draw(paths, profile.rl.collapse.entropy, taus), found),
        finding=found,
        data=paths,
        sentence=sentence(paths),
        claims=claims(paths),
    )


def draw(paths: pd.DataFrame, threshold: float, taus: tuple[float, float]) -> Figure:
    """Fig. 11: entropy while a policy is reheated and then cooled by reverse KL.

    Args:
        paths: `Evidence.paths`, with the runs "reheated" and "cooled".
        threshold: nats, the collapse threshold, at which cooling stops.
        taus: the teacher's temperatures, high and low.
    """
    figure, (axis,) = canvas(figsize=(8, 4))
    high, low = taus
    heated, cooled = (paths[paths["run"] == run] for run in ("reheated", "cooled"))
    entropy_line(axis, heated, RKL, f"reheating, τ = {high:.2g}")
    after = cooled["seed"].map(heated.groupby("seed")["step"].max())
    entropy_line(
        axis, cooled.assign(step=cooled["step"] + after), RKL, f"cooling, τ = {low:.2g}",
        markerfacecolor="white", linestyle="--",
    )  # fmt: skip
    level(axis, threshold, "collapse threshold: cooling stops", at=0.01, under=True)
    axis.set(xlabel="step (reheating, then cooling)", title="Reverse KL, there and back")
    legend_below(figure, [axis], 2)
    return figure


def _cooled(paths: pd.DataFrame) -> tuple[Estimate, Estimate, Estimate, str]:
    """Over seeds the entropy (nats) before cooling and after it, its change, and the steps between."""
    before, after = (collect.entropies(paths, "cooled", at) for at in (0, -1))
    falls = [_fall(*ends) for ends in zip(before, after, strict=True)]
    steps = [rows["step"].iloc[-1] for rows in collect.measured(paths, "cooled").values()]
    return over_seeds(before, 0), over_seeds(after, 0), over_seeds(falls), span(steps)


def _fall(before: Estimate, after: Estimate) -> Estimate:
    """The change of entropy in nats, as far as either interval allows."""
    return Estimate(after.value - before.value, after.low - before.high, after.high - before.low)


def finding(paths: pd.DataFrame) -> str:
    before, after, fall, steps = _cooled(paths)
    does = {
        "agrees": "cools the policy",
        "differs": "does not cool it",
        "open": "may cool the policy",
    }
    return f"A low τ {does[directed(fall, -1)]}: {before.value:.3f} to {after:.3f} nats in {steps} steps"


def claims(paths: pd.DataFrame) -> tuple[Claim, ...]:
    before, after, fall, steps = _cooled(paths)
    return (
        Claim(
            "A low temperature, distilled the same way, takes entropy down again",
            "a low τ cools",
            "down again (drawn, without a number)",
            f"{before.value:.3f} to {after:.3f} nats in {steps} steps",
            directed(fall, side=-1),
        ),
    )


def sentence(paths: pd.DataFrame) -> str:
    before, after, fall, steps = _cooled(paths)
    each = collect.measured(paths, "cooled").values()
    sharpest = max(-rows["token_entropy"].diff().min() for rows in each)
    falls = {"agrees": "a fall as", "differs": "no fall as", "open": "maybe a fall as"}
    return (
        f"Low-temperature reverse KL takes entropy from {before.value:.3f} to {after:.3f} nats in "
        f"{steps} steps{seeds(len(each))}, {falls[directed(fall, -1)]} in the "
        f"paper; it sees one sharp drop on the way, and here no step takes more than "
        f"{max(sharpest, 0):.4f} nats."
    )


EXHIBIT = Exhibit(
    name="fig11",
    title="Fig. 11: cooling a reheated policy",
    notebook="08_reversibility",
    roles=("cooling",),
    make=make,
    alt="Entropy rising while reheated, then falling while cooled.",
    every_seed=True,
)
