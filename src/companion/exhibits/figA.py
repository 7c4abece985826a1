"""Fig. A, ours: what every arm gains over plain DAPO, seed by seed, and what could have been seen."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import decided
from companion.exhibits import headline
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.headline import HEADLINE, IN
from companion.exhibits.style import COLOURS, SMALL, canvas, paper_mark, titled
from companion.exhibits.wording import holds
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown | None:
    rows = headline.samples(evidence)
    if rows["seed"].nunique() < 2:  # one seed has no spread to compare with
        return None
    rows = rows[~rows["label"].isin(["Base", "Collapsed"])]
    table, each = decided.against(rows, headline.places(profile), arms.DAPO)
    found = finding(table, each["seed"].nunique())
    return Shown(
        figure=titled(draw(table, each), found),
        finding=found,
        data=each.round(4),
        sentence=sentence(table, each),
        more={"gains_by_seed": numbers(table)},
    )


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """`decided.against`'s table in plain numbers: each gain as gain, low and high."""
    parts = {"gain": "value", "low": "low", "high": "high"}
    values = {name: [getattr(gain, part) for gain in table["gain"]] for name, part in parts.items()}
    return table.assign(**values).set_index("policy").round(4)


def draw(table: pd.DataFrame, each: pd.DataFrame) -> Figure:
    """Fig. A: a panel a metric and place, an arm a row: its seeds, their mean and its interval.

    Args:
        table, each: of `decided.against`, in points.
    """
    panels = list(table.groupby(["metric", "place"], sort=False))
    policies = list(dict.fromkeys(table["policy"]))
    places = table["place"].nunique()
    figure, axes = canvas(
        len(panels) // places,
        places,
        figsize=(10, 1.8 + 0.42 * len(policies) * len(panels) / places),
        squeeze=False,
        sharey=True,
    )
    for axis, ((metric, place), rows) in zip(
        axes.T.ravel(), sorted(panels, key=_order), strict=True
    ):
        seeds = each[(each["metric"] == metric) & (each["place"] == place)]
        for row in rows.itertuples():
            at, colour = policies.index(row.policy), COLOURS.get(row.policy, "#555555")
            axis.barh(at, 2 * row.detectable, 0.8, -row.detectable, color="0.93", zorder=0)
            gains = seeds.loc[seeds["policy"] == row.policy, "gain"]
            axis.plot(gains, [at - 0.22] * len(gains), "|", color=colour, markersize=7, alpha=0.8)
            axis.plot([row.gain.low, row.gain.high], [at, at], color=colour, linewidth=2.5)
            axis.plot(row.gain.value, at, "o", color=colour, markersize=6)
        axis.axvline(0, color="0.5", linewidth=1, zorder=1)
        for at, policy in enumerate(policies if place == IN else []):
            if theirs := headline.in_the_paper(metric, policy, arms.DAPO).values():
                paper_mark(axis, list(theirs), [at] * len(theirs))
        axis.set(title=f"{metric}, {place}", xlabel="points over plain DAPO")
        axis.set_xlim(np.clip(axis.get_xlim(), -100, 100))  # no accuracy differs by more
        axis.set_yticks(
            range(len(policies)),
            [short(name) for name in policies],
        )
    axes[0, 0].invert_yaxis()
    figure.supxlabel(
        "dot and line: mean of the seeds with its 95% interval; ticks: single seeds; grey: smaller than "
        "what so many seeds detect (power 0.8); diamonds: the paper's gains",
        fontsize=SMALL,
        color="0.3",
    )
    return figure


def short(arm: str) -> str:
    """An arm's name without what all have in common."""
    return re.sub(r"^\+?DAPO( w/|,) ", "", arm)


def _order(panel: tuple[tuple[str, str], pd.DataFrame]) -> bool:
    """In distribution first, so that a column of panels is a place."""
    return panel[0][1] != IN


def can_tell(arms: int, seeds: int) -> bool:
    """Whether exact sign flips of so many seeds, adjusted over so many arms, can get below 0.05."""
    return bool(arms * 2 / 2**seeds < 0.05)


def finding(table: pd.DataFrame, seeds: int) -> str:
    """Args: of `decided.against`, of so many seeds; what the first metric says in distribution."""
    rows = table[(table["place"] == IN) & (table["metric"] == table["metric"].iloc[0])]
    gain = decided.of(table, HEADLINE, IN, rows["metric"].iloc[0])[0]
    told = int((rows["holm"] < 0.05).sum())
    verb = "is" if told == 1 else "are"
    said = f"{told} of {len(rows)} arms {verb}" if told else "No arm is"
    said += " told from plain DAPO"
    if not can_tell(len(rows), seeds):
        said = f"{seeds} seeds can tell no arm apart"
    theirs = headline.in_the_paper(rows["metric"].iloc[0], HEADLINE, arms.DAPO).values()
    beside = f" (the paper {', '.join(f'{value:+.1f}' for value in theirs)})" if theirs else ""
    return f"{said}; PR-FKL {gain:+.1f} points{beside}"


def sentence(table: pd.DataFrame, each: pd.DataFrame) -> str:
    """Args: of `decided.against`."""
    metric = table["metric"].iloc[0]
    said = []
    for place in dict.fromkeys(table["place"]):
        gain, least = decided.of(table, HEADLINE, place, metric)
        values = {"0": 0.0} | (headline.reported(metric) if place == IN else {})
        said.append(
            f"{place} {gain:+.1f} points of {metric}, an interval that {holds(gain, values)} "
            f"(smallest detectable difference: {least:.1f}, at a power of 0.8)"
        )
    clear = table[(table["metric"] == metric) & (table["holm"] < 0.05)]
    found = [f"{row.policy} {row.place} ({row.gain:+.1f})" for row in clear.itertuples()]
    told = f"from 0: {', '.join(found)}" if found else "no arm from 0"
    return (
        f"PR-FKL minus plain DAPO over {each['seed'].nunique()} seeds: {'; '.join(said)}. The exact "
        f"sign-flip test, adjusted over the arms, tells {told}."
    )


EXHIBIT = Exhibit(
    name="figA",
    title="Fig. A: what each arm gains over plain DAPO, by seed",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    alt="For each arm its gain over plain DAPO in and out of distribution: every seed, the mean, its "
    "interval, and the smallest gain that so many seeds detect.",
    every_seed=True,
)
