"""Fig. 4: accuracy and entropy over reheating checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import tasks
from companion.analysis import accuracy, collect, decided
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.headline import OUT
from companion.exhibits.reheating import MARGIN
from companion.exhibits.style import FKL, canvas, entropy_line, paper_line, titled
from companion.exhibits.wording import holds, seeds, span, unchanged
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    groups = {"in-domain": tasks.suites(profile)}
    if ood := tasks.ood(profile):
        groups[OUT] = [ood]
    samples = collect.samples(evidence.every("along_path"))
    along = pd.concat(
        [
            along_path(
                samples[samples["seed"] == seed],
                {int(step): run for step, run in one.by_key("along_path").items()},
                groups,
                profile.evaluation.bootstrap,
            )
            for seed, one in evidence.each().items()
        ],
        ignore_index=True,
    )
    changes = change(samples, groups, profile.evaluation.bootstrap)
    found = finding(along, changes)
    return Shown(
        figure=titled(draw(along, evidence.paths("reheated", "PR-FKL")), found),
        finding=found,
        data=along,
        sentence=sentence(along, changes),
        claims=claims(along, changes),
    )


def along_path(
    samples: pd.DataFrame,
    evaluations: Mapping[int, Run],
    groups: Mapping[str, list[str]],
    resamples: int = 2000,
) -> pd.DataFrame:
    """Accuracy over one seed's reheating checkpoints, in percent.

    Args:
        evaluations: by reheating step; their samples are in `samples`.
        groups: suites to be averaged over, by what they are called together.

    Columns seed, step, suites (the group), metric, value, low, high, and the change against step 0 in
    points, paired by problem: change, change_low, change_high.
    """
    steps = {run.identity["settings"]["label"]: step for step, run in evaluations.items()}
    rows = []
    for name, group in groups.items():
        asked = samples[samples["label"].isin(steps)]
        average = accuracy.table(asked, group, resamples)["Avg"]
        changes = accuracy.gains(asked, group, "Collapsed", resamples)
        for label, row in average.iterrows():
            for metric, cell in row.items():
                moved = changes.at[label, metric] if label in changes.index else Estimate(0, 0, 0)
                rows.append(
                    {"step": steps[label], "suites": name, "metric": metric, **asdict(cell),
                     "change": moved.value, "change_low": moved.low, "change_high": moved.high}
                )  # fmt: skip
    table = pd.DataFrame(rows).sort_values(["suites", "metric", "step"], ignore_index=True)
    return table.assign(seed=samples["seed"].iloc[0])


def change(
    samples: pd.DataFrame, groups: Mapping[str, list[str]], resamples: int = 2000
) -> dict[str, Estimate]:
    """By group, what avg@k changes from the first policy to the last, in points, over seeds."""
    ends = collect.in_order(samples, ["Collapsed", "PR-FKL"])
    return {
        name: decided.gains(ends, group, "Collapsed", resamples).loc["PR-FKL"].iloc[0]
        for name, group in groups.items()
    }


def draw(along: pd.DataFrame, entropy: pd.DataFrame) -> Figure:
    """Fig. 4: what reheating changes in accuracy, and entropy, over its checkpoints; a line a seed.

    Args:
        along: `along_path` of every seed (percent, and points of change).
        entropy: `Evidence.paths` of the reheatings.
    """
    avg = along[along["metric"].str.startswith("avg")]
    each = list(avg.groupby("suites", sort=False))
    figure, axes = canvas(1, len(each) + 1, figsize=(10, 3.6))
    several = along["seed"].nunique() > 1
    for axis, (suites, rows) in zip(axes, each, strict=False):
        for _, one in rows.sort_values("step").groupby("seed"):
            if not several:
                between = one["change_low"], one["change_high"]
                axis.fill_between(one["step"], *between, color=FKL, alpha=0.2, linewidth=0)
            axis.plot(one["step"], one["change"], "o-", color=FKL, markersize=4, linewidth=1.2)
        paper_line(axis, 0, "the paper: no systematic loss", at=0.01)
        start = _start(rows)[suites]
        axis.set_title(f"{suites[0].upper()}{suites[1:]}: {start:.1f}% at step 0")
        axis.sharey(axes[0])
    shown = "a line a seed" if several else "95% over problems"
    axes[0].set_ylabel(f"change of {avg['metric'].iloc[0]} (points),\n{shown}")
    ends = [end for axis in axes[:-1] for end in axis.dataLim.intervaly]
    axes[0].set_ylim(min(*ends, -MARGIN) - 0.5, max(*ends, MARGIN) + 0.5)
    entropy_line(axes[-1], entropy, FKL, "PR-FKL")
    axes[-1].set_title("Entropy")
    for axis in axes:
        axis.set_xlabel("reheating step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def finding(along: pd.DataFrame, changes: Mapping[str, Estimate]) -> str:
    """Args: `along_path` and `change`; of the first suites."""
    suites, lost = next(iter(changes.items()))
    does = {"agrees": "leaves {} as it was", "open": "may cost {}"}.get(
        unchanged(lost, MARGIN), "costs {}" if lost.value < 0 else "adds to {}"
    )
    said = does.format(f"{suites} accuracy")
    last = along.groupby("seed")["step"].max()
    return f"Reheating {said}: {lost:+.1f} points by step {span(last)}"


def claims(along: pd.DataFrame, changes: Mapping[str, Estimate]) -> tuple[Claim, ...]:
    """On the suite out of distribution; the others' are `reheating`'s, over all seeds."""
    if OUT not in changes:
        return ()
    lost, start = changes[OUT], _start(along)[OUT]
    nothing = start < MARGIN  # a policy that can do nothing loses nothing
    return (
        Claim(
            "Reheating keeps what the policy can do on problems of another kind",
            "other kinds of problem stay solved",
            "no systematic loss (GPQA, without a number)",
            f"{lost:+.1f} points, of the {start:.1f}% that there were to lose",
            "open" if nothing else unchanged(lost, MARGIN),
        ),
    )


def _start(along: pd.DataFrame) -> pd.Series:
    """By suites, avg@k at step 0, in percent, over seeds."""
    avg = along[along["metric"].str.startswith("avg") & (along["step"] == 0)]
    return avg.groupby("suites")["value"].mean()


def sentence(along: pd.DataFrame, changes: Mapping[str, Estimate]) -> str:
    """Args: `along_path` and `change`."""
    start = _start(along)
    said = " and ".join(
        f"{suites} by {change:+.1f} points (which {holds(change, {'0': 0})}), from {start[suites]:.1f}%"
        for suites, change in changes.items()
    )
    return (
        f"From the collapsed to the reheated checkpoint avg@8 changes {said}"
        f"{seeds(along['seed'].nunique())}; the paper finds no systematic loss."
    )


EXHIBIT = Exhibit(
    name="fig04",
    title="Fig. 4: accuracy and entropy over reheating checkpoints",
    notebook="05_internals",
    roles=("along_path", "reheated"),
    make=make,
    alt="The change of avg@8 in-domain and out of distribution against step 0 with its interval, and "
    "entropy, over reheating steps.",
    every_seed=True,
)
