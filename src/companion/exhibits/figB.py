"""Fig. B, ours: the paper's teacher, which moves along, beside one that stands still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import tasks
from companion.analysis import collect, decided, leak
from companion.exhibits import wording
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
from companion.paired import over_seeds
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
    paths, scaled = evidence.paths("teacher"), fixed_points(evidence)
    seeds = [tokens for _, tokens in evidence.measured("leak").groupby("seed")]
    bins = [leak.by_confidence(rows) for rows in seeds]
    moved = {way: over_seeds([leak.mean(rows, way) for rows in seeds], 0) for way in LOOKS}
    table, found = costs(profile, evidence), finding(paths, scaled)
    return Shown(
        figure=titled(draw(paths, scaled, bins), found),
        finding=found,
        data=paths,
        sentence=sentence(paths, scaled, table, leak.over_seeds(bins), moved),
        more={
            "cost": table,
            "by_confidence": leak.over_seeds(bins).reset_index().round(5),
            "by_kind": leak.over_seeds(map(leak.by_kind, seeds)).round(5),
        },
    )


def _ends(evidence: Evidence, key: str) -> list[Run]:
    """What all seeds ended with, or started from, on the held-out suites."""
    rows = evidence.index[evidence.index["role"] == "teacher_ends"]
    return list(rows.loc[rows["key"] == key, "run"])


def fixed_points(evidence: Evidence) -> dict[str, float]:
    """By start the entropy (nats) of the policy scaled by the frozen teacher's τ, mean of seeds."""
    ends = {name: _ends(evidence, f"{name} scaled") for name in STARTS}
    return {
        name: float(np.mean([run.result["token_entropy"]["value"] for run in runs]))
        for name, runs in ends.items()
    }


def costs(profile: Profile, evidence: Evidence) -> pd.DataFrame:
    """Points of each end against where it started; a row an end, a column a metric."""
    rows = []
    for name, called in STARTS.items():
        samples = pd.concat(
            [
                collect.samples(_ends(evidence, f"{name} {end}")).assign(label=end)
                for end in ("start", "scaled", *LOOKS)
            ],
            ignore_index=True,
        )
        suites = tasks.suites(profile)
        found = decided.gains(samples, suites, "start", profile.evaluation.bootstrap)
        found.index = [f"{called}, {end}" for end in found.index]
        rows.append(found)
    return pd.concat(rows)


def draw(paths: pd.DataFrame, scaled: Mapping[str, float], bins: Sequence[pd.DataFrame]) -> Figure:
    """Fig. B: entropy past the limits, by teacher, and where each reheating moved the policy.

    Args:
        paths: `Evidence.paths` of `study.teacher.runs`.
        scaled: nats of the frozen teacher's fixed point, by the name of the start.
        bins: `leak.by_confidence` of each seed.
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
    _moved(axes[2], bins)
    return figure


def _moved(axis: Axes, bins: Sequence[pd.DataFrame]) -> None:
    """A bar a bin of confidence and teacher, the mean of seeds; of several a dot each."""
    places = np.arange(len(bins[0]))
    for shift, (teacher, (label, colour)) in zip((-0.2, 0.2), LOOKS.items(), strict=True):
        parts = [1000 * each[f"kl {teacher}"] * each["share"] for each in bins]
        axis.bar(places + shift, np.mean(parts, axis=0), 0.4, color=colour, label=label)
        for part in parts if len(parts) > 1 else ():
            axis.plot(
                places + shift, part, "o", color="white", markeredgecolor="black", markersize=4
            )
    names = [f"{low:g}–{high:g}" for low, high in bins[0].index]
    axis.set_xticks(places, names, rotation=45, ha="right", fontsize=SMALL)
    axis.set(
        title="Where the stopped policies moved",
        xlabel="probability of the likeliest\ntoken before"
        + (" (dots: seeds)" if len(bins) > 1 else ""),
        ylabel="these tokens' part of the KL\n(millinats a token)",
    )


def _last(paths: pd.DataFrame, name: str) -> dict[str, Estimate]:
    """By teacher the entropy (nats) at the end of the runs from one start, over seeds."""
    return {
        teacher: over_seeds(collect.entropies(paths, f"{name} {teacher}", -1), 0)
        for teacher in LOOKS
    }


def finding(paths: pd.DataFrame, scaled: Mapping[str, float]) -> str:
    """Args: as `draw`; of the collapsed policy."""
    last = _last(paths, "past")
    bound, live = 1.1 * scaled["past"], last["live"]
    does = "runs past" if live.low > bound else "may run past"
    if live.high <= bound:
        does = "does not run past"
    return (
        f"A live teacher {does} the frozen one's fixed point: {last['live'].value:.3f} nats beside "
        f"{last['frozen'].value:.3f}"
    )


def sentence(
    paths: pd.DataFrame,
    scaled: Mapping[str, float],
    costs: pd.DataFrame,
    bins: pd.DataFrame,
    moved: Mapping[str, Estimate],
) -> str:
    """Args: as `draw`; `costs`; by teacher the mean KL (nats a token) to the collapsed policy."""
    said = []
    for name, called in STARTS.items():
        last = _last(paths, name)
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
    sure = bins[bins.index.get_level_values("low") >= 0.99]
    parts = {teacher: 100 * sure[f"part {teacher}"].sum() for teacher in LOOKS}
    return (
        f"{'; '.join(said)}{wording.seeds(paths['seed'].nunique())}. Stopped as in the study the live "
        f"teacher's policy is {moved['live']:.4f} nats a token from the collapsed one and the frozen's "
        f"{moved['frozen']:.4f} (the paper: about 0.002); of that {parts['live']:.0f}% and "
        f"{parts['frozen']:.0f}% lie on tokens of which the collapsed policy was at least 99% sure, "
        f"which are {100 * sure['share'].sum():.0f}% of all."
    )


EXHIBIT = Exhibit(
    name="figB",
    title="Fig. B: a teacher that moves along, and one that stands still",
    notebook="11_teacher",
    roles=("teacher", "teacher_ends", "leak"),
    make=make,
    alt="Entropy over steps without a stop, by the live and the frozen teacher, from the base policy "
    "and from the collapsed one; then the stopped policies' KL by the collapsed policy's confidence.",
    every_seed=True,
)
