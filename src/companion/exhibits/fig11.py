"""Fig. 11: cooling a reheated policy."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import collect
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import RKL, canvas, entropy_line, legend_below, level, titled
from companion.exhibits.wording import directed
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths(evidence.by_key("cooling"))
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
        paths: `collect.paths`, with the runs "reheated" and "cooled".
        threshold: nats, the collapse threshold, at which cooling stops.
        taus: the teacher's temperatures, high and low.
    """
    figure, (axis,) = canvas(figsize=(8, 4))
    last = paths.loc[paths["run"] == "reheated", "step"].max()
    high, low = taus
    entropy_line(axis, paths[paths["run"] == "reheated"], RKL, f"reheating, τ = {high:.2g}")
    cooled = paths[paths["run"] == "cooled"]
    entropy_line(
        axis, cooled.assign(step=cooled["step"] + last), RKL, f"cooling, τ = {low:.2g}",
        markerfacecolor="white", linestyle="--",
    )  # fmt: skip
    level(axis, threshold, "collapse threshold: cooling stops", at=0.01, under=True)
    axis.set(xlabel="step (reheating, then cooling)", title="Reverse KL, there and back")
    legend_below(figure, [axis], 2)
    return figure


def _cooled(paths: pd.DataFrame) -> tuple[Estimate, Estimate, int]:
    """Entropy (nats) before cooling and after it, and the steps between."""
    rows = paths[paths["run"] == "cooled"].dropna(subset=["token_entropy"])
    ends = rows[["token_entropy", "entropy_low", "entropy_high"]].iloc[[0, -1]].to_numpy(float)
    return Estimate(*ends[0]), Estimate(*ends[1]), int(rows["step"].iloc[-1])


def _fall(before: Estimate, after: Estimate) -> Estimate:
    """The change of entropy in nats, as far as either interval allows."""
    return Estimate(after.value - before.value, after.low - before.high, after.high - before.low)


def finding(paths: pd.DataFrame) -> str:
    before, after, steps = _cooled(paths)
    does = (
        "cools the policy" if directed(_fall(before, after), -1) == "agrees" else "does not cool it"
    )
    return f"A low τ {does}: {before.value:.3f} to {after:.3f} nats in {steps} steps"


def claims(paths: pd.DataFrame) -> tuple[Claim, ...]:
    before, after, steps = _cooled(paths)
    return (
        Claim(
            "A low temperature, distilled the same way, takes entropy down again",
            "a low τ cools",
            "down again (drawn, without a number)",
            f"{before.value:.3f} to {after:.3f} nats in {steps} steps",
            directed(_fall(before, after), side=-1),
        ),
    )


def sentence(paths: pd.DataFrame) -> str:
    cooled = paths[paths["run"] == "cooled"].dropna(subset=["token_entropy"])
    first, last = cooled.iloc[0], cooled.iloc[-1]
    falls = last["entropy_high"] < first["entropy_low"]
    sharpest = -cooled["token_entropy"].diff().min()
    return (
        f"Low-temperature reverse KL takes entropy from {first['token_entropy']:.3f} to "
        f"{last['token_entropy']:.3f} nats ([{last['entropy_low']:.3f}, {last['entropy_high']:.3f}]) "
        f"in {last['step']:.0f} steps, {'a fall as' if falls else 'no fall as'} in the paper; it sees "
        f"one sharp drop on the way, and here no step takes more than {max(sharpest, 0):.4f} nats."
    )


EXHIBIT = Exhibit(
    name="fig11",
    title="Fig. 11: cooling a reheated policy",
    notebook="08_reversibility",
    roles=("cooling",),
    make=make,
    alt="Entropy rising while reheated, then falling while cooled.",
)
