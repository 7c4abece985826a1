"""Fig. C, ours: four ways to put entropy back, what each costs and what it brings back.

The paper compares reheating with RL that goes on, never with another way to the same entropy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.analysis import frontier
from companion.analysis.frontier import BASE, COLLAPSED, WAYS, Policy
from companion.exhibits import headline, limits
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.headline import IN, OUT
from companion.exhibits.style import COLOURS, canvas, legend_below, level, titled
from companion.exhibits.wording import holds, told
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

LOOKS = {
    "scaling": ("scaling the logits", COLOURS["+DAPO w/ PR-scale"], "s"),
    "frozen": ("distilling, teacher frozen", COLOURS["+DAPO w/ PR-FKL frozen"], "^"),
    "live": ("distilling, teacher live (PR-FKL)", COLOURS["+DAPO w/ PR-FKL"], "o"),
    "merge": ("merging with the base", COLOURS["+DAPO w/ merge"], "D"),
}
"""Of each way: what the legend calls it, the colour of its arm, a marker."""
SAID = {
    "scaling": "scaling",
    "frozen": "frozen teacher",
    "live": "live teacher",
    "merge": "merging",
}


def make(profile: Profile, evidence: Evidence) -> Shown:
    groups = headline.places(profile)
    suites, resamples = (
        [s for group in groups.values() for s in group],
        profile.evaluation.bootstrap,
    )
    rows = evidence.index[evidence.index["role"] == "frontier"].groupby("seed")
    read = [frontier.read(dict(zip(r["key"], r["run"], strict=True)), suites) for _, r in rows]
    seeds = [policies for policies, _ in read]
    whole = frontier.points(frontier.together(seeds), groups, resamples).assign(seed="all")
    each = [
        frontier.points(policies, groups, 1).assign(seed=str(seed), low=float("nan"), high=float("nan"))
        for (seed, _), policies in zip(rows, seeds, strict=True)
    ]  # fmt: skip
    points = pd.concat([whole, *(each if len(each) > 1 else [])], ignore_index=True)
    table = frontier.compared(seeds, groups, resamples)
    k = profile.analysis.frontier_samples
    cut = pd.concat([cut for _, cut in read]).groupby(level=0, sort=False).mean()
    found = finding(table, reached(seeds)[0], k)
    return Shown(
        figure=titled(draw(points, reached(seeds), k), found),
        finding=found,
        data=points.round(4),
        sentence=sentence(points, table, seeds, k),
        note=limits.note(profile, cut),
        more={"frontier": named(table, k)},
    )


def reached(seeds: Sequence[Sequence[Policy]]) -> tuple[float, float]:
    """Over seeds the mean entropy (nats) that all ways reach, and the mean that PR-FKL does."""
    ends = [frontier.way(policies, "live")[-1].entropy for policies in seeds]
    return sum(map(frontier.level, seeds)) / len(seeds), sum(ends) / len(seeds)


def named(table: pd.DataFrame, k: int) -> pd.DataFrame:
    """`frontier.compared` with its rows and columns as a reader knows them."""
    columns = [(place, f"{metric}@{k}") for place, metric in table.columns]
    rows = {"merge - scaling": "merging minus scaling"} | {w: LOOKS[w][0] for w in WAYS}
    return table.set_axis(pd.MultiIndex.from_tuples(columns), axis=1).rename(index=rows)


def draw(points: pd.DataFrame, levels: tuple[float, float], k: int) -> Figure:
    """Fig. C: accuracy over entropy, a line a way, base and collapsed policy marked.

    Args:
        points: `frontier.points` (percent over nats) and the column seed: "all", drawn with its
            intervals, and where there are several every seed by itself, drawn thin.
        levels: `reached`.
        k: samples a problem.
    """
    places, metrics = points["place"].unique(), points["metric"].unique()
    figure, axes = canvas(
        len(metrics), len(places), figsize=(4.6 * len(places), 6.4), sharex=True, squeeze=False
    )
    for row, metric in zip(axes, metrics, strict=True):
        for axis, place in zip(row, places, strict=True):
            _panel(axis, points[(points["metric"] == metric) & (points["place"] == place)])
            said = "compared\nhere" if axis is axes[0, 0] else ""
            level(axis, levels[0], said, upright=True, at=0.02)
            axis.set(ylabel=f"{metric}@{k} (%), 95% interval", ylim=(-3, 103))
    for axis, place in zip(axes[0], places, strict=True):
        axis.set_title(f"{place[0].upper()}{place[1:]}")
    for axis in axes[-1]:
        axis.set_xlabel("mean token entropy (nats, T = 1)")
    legend_below(figure, [axes[0, 0]], 3)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    """One metric of one place."""
    start = rows[rows["way"] == COLLAPSED].set_index("seed")
    for name, (label, colour, marker) in LOOKS.items():
        for seed, policies in rows[rows["way"] == name].groupby("seed", sort=False):
            line = pd.concat([start.loc[[seed]].reset_index(), policies])
            if seed != "all":
                axis.plot(line["entropy"], line["value"], color=colour, linewidth=0.7, alpha=0.4)
                continue
            axis.plot(line["entropy"], line["value"], color=colour, linewidth=1.8)
            _dots(axis, policies, colour, marker, label)
    whole = rows[rows["seed"] == "all"]
    for name, marker, label in ((COLLAPSED, "X", "collapsed policy"), (BASE, "*", "base policy")):
        colour = COLOURS[name] if name == COLLAPSED else "#666666"
        _dots(axis, whole[whole["way"] == name], colour, marker, label, size=9)


def _dots(
    axis: Axes, rows: pd.DataFrame, colour: str, marker: str, label: str, size: float = 4.5
) -> None:
    """Policies with their intervals."""
    off = [rows["value"] - rows["low"], rows["high"] - rows["value"]]
    axis.errorbar(
        rows["entropy"], rows["value"], off, fmt=marker, color=colour, markersize=size,
        elinewidth=0.8, label=label,
    )  # fmt: skip


def finding(table: pd.DataFrame, entropy: float, k: int) -> str:
    """Args: `frontier.compared`, and where it compares (nats)."""
    gain = table.loc["merge - scaling"][IN, "avg"]
    return f"At {entropy:.3f} nats merging {told(gain, 'scaling')}: {gain:+.1f} points of avg@{k}"


def sentence(
    points: pd.DataFrame, table: pd.DataFrame, seeds: Sequence[Sequence[Policy]], k: int
) -> str:
    """Args: `frontier.points` with the seed "all", `frontier.compared`, each seed's policies."""
    entropy, live = reached(seeds)
    where = (
        "which PR-FKL reached" if entropy == live else f"all that each reaches ({live:.3f}: PR-FKL)"
    )
    values = points[points["seed"] == "all"].set_index(["way", "place", "metric"])["value"]
    said = [
        f"{metric}@{k} {place} changes from {values[COLLAPSED, place, metric]:.1f}% by "
        f"{_each(table[place, metric])} points"
        + (f" (the base has {values[BASE, place, metric]:.1f}%)" if metric == "pass" else "")
        for place, metric in ((IN, "avg"), (IN, "pass"), (OUT, "pass"))
        if (place, metric) in table
    ]
    rival = table.loc["merge - scaling"]
    against = [
        f"{rival[place, metric]:+.1f} points of {metric}@{k} {place}, which "
        f"{holds(rival[place, metric], {'0': 0})}"
        for place, metric in ((IN, "avg"), (OUT, "pass"))
        if (place, metric) in table
    ]
    return (
        f"At {entropy:.3f} nats, {where}, {'; '.join(said)}. Against scaling, merging has "
        f"{', and '.join(against)}; the paper measures no such frontier."
    )


def _each(column: Mapping[str, Estimate]) -> str:
    """ "+1.0 [...] by scaling, …"."""
    return ", ".join(f"{column[name]:+.1f} ({SAID[name]})" for name in WAYS)


EXHIBIT = Exhibit(
    name="figC",
    title="Fig. C: four ways to put entropy back, and what each restores",
    notebook="12_restore",
    roles=("frontier",),
    make=make,
    alt="avg@k and pass@k, in distribution and out of it, over mean token entropy, with intervals: "
    "lines for scaling, a frozen and a live teacher and merging with the base, from the collapsed "
    "policy on; the base policy beside them.",
    every_seed=True,
)
