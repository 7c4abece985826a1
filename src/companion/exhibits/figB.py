"""Fig. B, ours: the paper's teacher, which moves along, beside one that stands still."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from companion import tasks
from companion.analysis import accuracy, collect, leak
from companion.analysis.measure import table as measurements
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import (
    COLOURS,
    SMALL,
    canvas,
    entropy_line,
    legend_below,
    level,
    titled,
)
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

LOOKS = {
    "live": ("live teacher (the paper's)", COLOURS["+DAPO w/ PR-FKL"]),
    "frozen": ("frozen teacher", COLOURS["+DAPO w/ PR-FKL frozen"]),
}
STARTS = {"base": "base policy", "past": "collapsed policy"}


def make(profile: Profile, evidence: Evidence) -> Shown:
    paths = collect.paths(evidence.by_key("teacher"))
    ends = evidence.by_key("teacher_ends")
    scaled = {name: entropy(ends[f"{name} scaled"]) for name in STARTS}
    tokens = measurements(evidence.only("leak"))
    bins, table = leak.by_confidence(tokens), costs(profile, ends)
    found = finding(paths, scaled)
    return Shown(
        figure=titled(draw(paths, scaled, bins), found),
        finding=found,
        data=paths,
        sentence=sentence(paths, scaled, table, bins),
        more={
            "cost": table,
            "by_confidence": bins.round(5),
            "by_kind": leak.by_kind(tokens).round(5),
        },
    )


def entropy(evaluation: Run) -> float:
    """The policy's mean token entropy, in nats."""
    return float(evaluation.result["token_entropy"]["value"])


def costs(profile: Profile, ends: Mapping[str, Run]) -> pd.DataFrame:
    """Points of each end against where it started; a row an end, a column a metric."""
    rows = []
    for name, called in STARTS.items():
        keys = [f"{name} {end}" for end in ("start", "scaled", "live", "frozen")]
        samples = pd.concat(
            [collect.samples([ends[key]]).assign(label=key.split()[1]) for key in keys],
            ignore_index=True,
        )
        found = accuracy.gains(
            samples, tasks.suites(profile), "start", profile.evaluation.bootstrap
        )
        found.index = [f"{called}, {end}" for end in found.index]
        rows.append(found)
    return pd.concat(rows)


def draw(paths: pd.DataFrame, scaled: Mapping[str, float], bins: pd.DataFrame) -> Figure:
    """Fig. B: entropy past the limits, by teacher, and where each reheating moved the policy.

    Args:
        paths: `collect.paths` of `study.teacher.runs`.
        scaled: nats of the frozen teacher's fixed point, by the name of the start.
        bins: `leak.by_confidence`.
    """
    figure, axes = canvas(1, 3, figsize=(10, 4.2))
    for axis, (name, called) in zip(axes, STARTS.items(), strict=False):
        for teacher, (label, colour) in LOOKS.items():
            rows = paths[paths["run"] == f"{name} {teacher}"]
            entropy_line(axis, rows, colour, label)
        level(axis, scaled[name], "frozen: fixed point", at=0.01)
        top = max(scaled[name], axis.dataLim.y1)
        axis.set(title=f"From the {called}, no stop", xlabel="reheating step", ylim=(0, 1.05 * top))
    axes[1].set_ylabel("")
    legend_below(figure, [axes[0]], 2)
    places = range(len(bins))
    for shift, (teacher, (label, colour)) in zip((-0.2, 0.2), LOOKS.items(), strict=True):
        axes[2].bar(
            [place + shift for place in places],
            1000 * bins[f"kl {teacher}"] * bins["share"],
            0.4,
            color=colour,
            label=label,
        )
    names = [f"{row.low:g}–{row.high:g}" for row in bins.itertuples()]
    axes[2].set_xticks(places, names, rotation=45, ha="right", fontsize=SMALL)
    axes[2].set(
        title="Where the stopped policies moved",
        xlabel="probability of the likeliest\ntoken before",
        ylabel="these tokens' part of the KL\n(millinats a token)",
    )
    return figure


def finding(paths: pd.DataFrame, scaled: Mapping[str, float]) -> str:
    """Args: as `draw`; of the collapsed policy."""
    live, frozen = (
        paths[paths["run"] == f"past {teacher}"]["token_entropy"].dropna().iloc[-1]
        for teacher in LOOKS
    )
    does = "runs past" if live > 1.1 * scaled["past"] else "does not run past"
    return (
        f"A live teacher {does} the frozen one's fixed point: {live:.3f} nats beside {frozen:.3f}"
    )


def sentence(
    paths: pd.DataFrame, scaled: Mapping[str, float], costs: pd.DataFrame, bins: pd.DataFrame
) -> str:
    said = []
    for name, called in STARTS.items():
        last = {
            teacher: paths[paths["run"] == f"{name} {teacher}"]["token_entropy"].dropna().iloc[-1]
            for teacher in LOOKS
        }
        steps = paths.loc[paths["run"] == f"{name} frozen", "step"].max()
        cost: dict[str, Estimate] = {
            teacher: costs.loc[f"{called}, {teacher}"].iloc[0] for teacher in LOOKS
        }
        said.append(
            f"{steps} steps from the {called}, nothing stopping them, end at {last['live']:.3f} nats "
            f"with the live teacher and {last['frozen']:.3f} with the frozen one, whose fixed point has "
            f"{scaled[name]:.3f}, and change {costs.columns[0]} by {cost['live']:+.1f} and "
            f"{cost['frozen']:+.1f} points"
        )
    sure = bins[bins["low"] >= 0.99]
    parts = {teacher: 100 * sure[f"part {teacher}"].sum() for teacher in LOOKS}
    total = {teacher: (bins[f"kl {teacher}"] * bins["share"]).sum() for teacher in LOOKS}
    return (
        f"{'; '.join(said)}. Stopped as in the study the live teacher's policy is {total['live']:.4f} "
        f"nats a token from the collapsed one and the frozen's {total['frozen']:.4f} (the paper: about "
        f"0.002); of that {parts['live']:.0f}% and {parts['frozen']:.0f}% lie on tokens of which the "
        f"collapsed policy was at least 99% sure, which are {100 * sure['share'].sum():.0f}% of all."
    )


EXHIBIT = Exhibit(
    name="figB",
    title="Fig. B: a teacher that moves along, and one that stands still",
    notebook="11_teacher",
    roles=("teacher", "teacher_ends", "leak"),
    make=make,
    alt="Entropy over steps without a stop, by the live and the frozen teacher, from the base policy "
    "and from the collapsed one; then the stopped policies' KL by the collapsed policy's confidence.",
)
