"""Fig. 4: accuracy and entropy over reheating checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import tasks
from companion.analysis import accuracy, collect
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import FKL, canvas
from companion.exhibits.wording import holds
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    path = {int(step): run for step, run in evidence.by_key("along_path").items()}
    samples = collect.samples(path.values())
    groups = {"in-domain": tasks.suites(profile)}
    if ood := tasks.ood(profile):
        groups["out of distribution"] = [ood]
    along = along_path(samples, path, groups, profile.evaluation.bootstrap)
    changes = change(samples, groups, profile.evaluation.bootstrap)
    return Shown(
        figure=draw(along, evidence.by_key("reheated")["PR-FKL"].metrics),
        data=along,
        sentence=sentence(along, changes),
    )


def along_path(
    samples: pd.DataFrame,
    evaluations: Mapping[int, Run],
    groups: Mapping[str, list[str]],
    resamples: int = 2000,
) -> pd.DataFrame:
    """Accuracy over reheating checkpoints, in percent.

    Args:
        evaluations: by reheating step; their samples are in `samples`.
        groups: suites to be averaged over, by what they are called together.

    Columns step, suites (the group), metric, value, low, high.
    """
    steps = {run.identity["settings"]["label"]: step for step, run in evaluations.items()}
    rows = []
    for name, group in groups.items():
        average = accuracy.table(samples[samples["label"].isin(steps)], group, resamples)["Avg"]
        for label, row in average.iterrows():
            rows += [
                {"step": steps[label], "suites": name, "metric": metric, **asdict(cell)}
                for metric, cell in row.items()
            ]
    return pd.DataFrame(rows).sort_values(["suites", "metric", "step"], ignore_index=True)


def change(
    samples: pd.DataFrame, groups: Mapping[str, list[str]], resamples: int = 2000
) -> dict[str, Estimate]:
    """By group, what avg@k changes from the first policy to the last, in points."""
    return {
        name: accuracy.gains(samples, group, "Collapsed", resamples).loc["PR-FKL"].iloc[0]
        for name, group in groups.items()
    }


def draw(along: pd.DataFrame, entropy: pd.DataFrame) -> Figure:
    """Fig. 4: accuracy and entropy over reheating checkpoints.

    Args:
        along: `along_path`: columns step, suites, metric, value, low, high (percent).
        entropy: metrics of the reheating run: step, token_entropy, entropy_low, entropy_high.
    """
    avg = along[along["metric"].str.startswith("avg")]
    each = list(avg.groupby("suites", sort=False))
    figure, axes = canvas(1, len(each) + 1, figsize=(11, 3.3))
    for axis, (suites, rows) in zip(
        axes, each, strict=False
    ):  # a scale each: levels may differ much
        axis.errorbar(
            rows["step"],
            rows["value"],
            [rows["value"] - rows["low"], rows["high"] - rows["value"]],
            fmt="o-",
            color=FKL,
            markersize=4,
            capsize=2,
        )
        axis.set(
            title=f"Accuracy, {suites}",
            ylim=(0, None),
            ylabel=f"{avg['metric'].iloc[0]} (%), 95% interval",
        )
    axes[-1].fill_between(
        entropy["step"],
        entropy["entropy_low"],
        entropy["entropy_high"],
        color=FKL,
        alpha=0.2,
        linewidth=0,
        label="95% interval over prompts",
    )
    axes[-1].plot(entropy["step"], entropy["token_entropy"], "o-", color=FKL, markersize=3)
    axes[-1].set(title="Entropy", ylabel="mean token entropy (nats, T = 1)", ylim=(0, None))
    axes[-1].legend(fontsize=8)
    for axis in axes:
        axis.set_xlabel("reheating step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def sentence(along: pd.DataFrame, changes: Mapping[str, Estimate]) -> str:
    """Args: `along_path` and `change`."""
    avg = along[along["metric"].str.startswith("avg")].sort_values("step")
    start = avg.groupby("suites")["value"].first()
    said = " and ".join(
        f"{suites} by {change:+.1f} points (which {holds(change, {'0': 0})}), from {start[suites]:.1f}%"
        for suites, change in changes.items()
    )
    return (
        f"From the collapsed to the reheated checkpoint avg@8 changes {said}; the paper "
        "finds no systematic loss."
    )


EXHIBIT = Exhibit(
    name="fig04",
    title="Fig. 4: accuracy and entropy over reheating checkpoints",
    notebook="05_internals",
    roles=("along_path", "reheated"),
    make=make,
    alt="avg@8 in-domain and out of distribution with intervals, and entropy, over reheating steps.",
)
