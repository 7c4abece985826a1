"""Fig. 11: cooling a reheated policy."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.analysis import collect
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import RKL, canvas
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths(evidence.by_key("cooling"))
    figure = draw(paths, profile.rl.collapse.entropy)
    return Shown(figure=figure, data=paths, sentence=sentence(paths))


def draw(paths: pd.DataFrame, threshold: float) -> Figure:
    """Fig. 11: entropy while a policy is reheated and then cooled by reverse KL.

    Args:
        paths: `collect.paths`, with the runs "reheated" and "cooled".
        threshold: nats, the collapse threshold, at which cooling stops.
    """
    figure, (axis,) = canvas(figsize=(6.5, 3.3))
    last = paths.loc[paths["run"] == "reheated", "step"].max()
    for name, colour, offset in (("reheated", RKL, 0), ("cooled", "#0072B2", last)):
        rows = paths[paths["run"] == name]
        axis.fill_between(
            rows["step"] + offset,
            rows["entropy_low"],
            rows["entropy_high"],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        axis.plot(
            rows["step"] + offset,
            rows["token_entropy"],
            "o-",
            color=colour,
            markersize=3,
            label={"reheated": "high τ", "cooled": "low τ"}[name],
        )
    axis.axhline(threshold, color="#D55E00", linestyle=":", label="collapse threshold")
    axis.set(
        xlabel="step (reheating, then cooling)",
        ylabel="mean token entropy (nats, T = 1)",
        ylim=(0, None),
        title="Reverse KL there and back, 95% over prompts",
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize=8)
    return figure


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
