"""The paper's reported numbers held against one another. Tables come from `companion.paper`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

PROBLEMS = {"MATH-500": 500, "AIME24": 30, "AIME25": 30, "AIME26": 30, "OlymMATH": 200}
"""Problems in each suite of Table 1. OlymMATH is the English easy and hard splits, 100 each."""
SAMPLES = 8
"""Samples a problem: the 8 of avg@8 and pass@8 (Table 5)."""
ROUNDING = 0.005
"""Half a unit of the last decimal of Table 1, in points."""
EPSILON = 1e-9


def cells(table1: pd.DataFrame) -> pd.DataFrame:
    """Table 1 in long form: columns model, arm, benchmark, metric, value in percent."""
    keys = ["model", "arm", "benchmark"]
    return table1.melt(keys, ["avg@8", "pass@8"], var_name="metric", value_name="value")


def problems(benchmarks: pd.Series) -> pd.Series:
    """How many problems each of the benchmarks has.

    Raises:
        ValueError: a benchmark that Table 1 does not have.
    """
    if unknown := set(benchmarks) - set(PROBLEMS):
        raise ValueError(f"benchmark {sorted(unknown)} is unknown; use those of {list(PROBLEMS)}")
    return benchmarks.map(PROBLEMS)


def check_arms(table1: pd.DataFrame, *arms: str) -> None:
    """Raises ValueError for an arm that Table 1 does not have."""
    known = list(table1["arm"].unique())
    for arm in arms:
        if arm not in known:
            raise ValueError(f"arm {arm!r} is not in Table 1; choose one of {known}")


def averages(table1: pd.DataFrame) -> pd.DataFrame:
    """Each reported Avg beside the mean of its five suites, and their difference in points.

    They agree if rounding the suites and the Avg to two decimals can explain the difference.
    """
    keys, rows = ["model", "arm", "metric"], cells(table1)
    average = rows["benchmark"] == "Avg"
    table = rows[average].drop(columns="benchmark").rename(columns={"value": "reported"})
    means = rows[~average].groupby(keys)["value"].mean().rename("recomputed")
    table = table.merge(means, on=keys)
    table["difference"] = table["reported"] - table["recomputed"]
    table["agrees"] = table["difference"].abs() <= 2 * ROUNDING + EPSILON
    return table


def off_grid(table1: pd.DataFrame) -> pd.DataFrame:
    """Cells that no count of right answers gives, with the nearest value that one does.

    Over n problems avg@8 is a multiple of 100 / 8n and pass@8 of 100 / n, in percent, up to the
    rounding to two decimals.
    """
    rows = cells(table1).query("benchmark != 'Avg'")
    samples = np.where(rows["metric"] == "avg@8", SAMPLES, 1)
    step = 100 / (problems(rows["benchmark"]) * samples)
    rows = rows.assign(nearest=(rows["value"] / step).round() * step)
    return rows[(rows["value"] - rows["nearest"]).abs() > ROUNDING + EPSILON]


def exceptions(table1: pd.DataFrame, arm: str, other: str) -> pd.DataFrame:
    """Cells of Table 1, Avg among them, in which `arm` does not beat `other`; ties are at 0.

    Columns model, benchmark, metric, ours, theirs (percent) and difference (points). The paper
    says that PR-FKL consistently beats PR-RKL, and that reheating beats DAPO and PR-FKL beats
    RR nearly everywhere.

    Raises:
        ValueError: an arm that Table 1 does not have.
    """
    check_arms(table1, arm, other)
    rows, keys = cells(table1), ["model", "benchmark", "metric"]
    table = rows[rows["arm"] == arm].merge(rows[rows["arm"] == other], on=keys)
    table = table[[*keys, "value_x", "value_y"]].set_axis([*keys, "ours", "theirs"], axis=1)
    table["difference"] = (table["ours"] - table["theirs"]).round(2)
    return table[table["difference"] <= 0].reset_index(drop=True)


@dataclass(frozen=True)
class Geometry:
    """A low-temperature update against the high-temperature one, in lengths of the latter."""

    norm_ratio: float
    cosine: float
    along: float
    """What is left of the high update along its own direction, 1 - projection."""
    across: float
    """How far the low update led aside."""


def geometry(projection: float, residual: float) -> Geometry:
    """What App. E's two surviving numbers imply for those that the text lost.

    With h and l the high- and low-temperature updates, projection c = -<l, h> / |h|^2 and
    residual r = |h + l| / |h|: r^2 = 1 + s^2 - 2c gives the norm ratio s = |l| / |h|, and the
    cosine of l and h is -c / s. The text has c = 0.89 and r of about one half: s = 1.01, as its
    comparable magnitude, and cosine -0.88. It calls the end point about halfway between the
    collapsed and the reheated policy, but with these numbers 0.11 is left along the way back
    and 0.49 is aside: the end point is 0.5 from the one and 1.01 from the other.

    Raises:
        ValueError: no two vectors have these numbers, or the low update is zero.
    """
    along = 1 - projection
    across_squared = (residual - along) * (residual + along)
    moved = projection != 0 or across_squared > 0
    # A negative square would ask for |cosine| > 1 or even for a negative s^2.
    if not (math.isfinite(across_squared) and across_squared >= 0 <= residual and moved):
        raise ValueError(
            f"residual {residual} is impossible with projection {projection}; give a finite "
            "residual of at least |1 - projection|, of a low-temperature update that is not zero"
        )
    across = math.sqrt(across_squared)
    norm_ratio = math.hypot(projection, across)
    return Geometry(norm_ratio, -projection / norm_ratio, along, across)


def cost(table6: pd.DataFrame) -> pd.DataFrame:
    """Table 6 recomputed from its batch sizes, steps and seconds a step.

    Columns model, quantity, reported, recomputed. The overhead is recomputed from the reported
    hours.
    """
    rows = []
    for model, stages in table6.groupby("model", sort=False):
        opsd, rl = (stages.set_index("stage").loc[stage] for stage in ("OPSD", "RL"))
        normalized = opsd["seconds_per_step"] * rl["batch_size"] / opsd["batch_size"]
        rows += [
            (model, "OPSD hours", opsd["hours"], _hours(opsd["steps"], opsd["seconds_per_step"])),
            (model, "RL hours", rl["hours"], _hours(rl["steps"], rl["seconds_per_step"])),
            (model, "overhead (%)", opsd["overhead_percent"], 100 * opsd["hours"] / rl["hours"]),
            (
                model,
                "OPSD seconds a step at RL's batch size",
                opsd["normalized_seconds_per_step"],
                normalized,
            ),
        ]
    return pd.DataFrame(rows, columns=["model", "quantity", "reported", "recomputed"])


def _hours(steps: float, seconds: float) -> float:
    return steps * seconds / 3600


def used_cost(table6: pd.DataFrame, text: pd.DataFrame) -> pd.DataFrame:
    """Overhead of the reheated checkpoints that RL resumed from; Table 6 charges 15 steps to both.

    Columns model, charged_steps, used_steps (A.2), used_hours, used_overhead_percent (of the
    reported RL hours).
    """
    used = text[text["quantity"] == "step of the reheated checkpoint"].set_index("model")["value"]
    rl_hours = table6[table6["stage"] == "RL"].set_index("model")["hours"]
    table = table6[table6["stage"] == "OPSD"].set_index("model")
    hours = _hours(used, table["seconds_per_step"])
    return pd.DataFrame(
        {
            "charged_steps": table["steps"],
            "used_steps": used,
            "used_hours": hours,
            "used_overhead_percent": 100 * hours / rl_hours,
        }
    ).reset_index()


def seconds_per_response(table6: pd.DataFrame, responses_per_prompt: int) -> pd.DataFrame:
    """Seconds a sampled response: columns model, OPSD, RL.

    App. G divides the batches 1024 and 64 and finds OPSD cheaper for a sample. But RL's 64 are
    prompts with 8 responses each (Table 3), and swift's GKD samples one response a prompt. If
    OPSD's 1024 are such responses, the order is reversed, even though OPSD's are half as long.
    """
    responses = table6["batch_size"] * table6["stage"].map({"OPSD": 1, "RL": responses_per_prompt})
    table = table6.assign(seconds=table6["seconds_per_step"] / responses)
    return table.pivot(index="model", columns="stage", values="seconds").reset_index()


def epochs(table6: pd.DataFrame, text: pd.DataFrame) -> pd.DataFrame:
    """Passes over the prompts that the RL runs made; Table 3 allows 2.

    Columns run, prompts, steps, epochs. The data-scarce run is counted to its first unstable
    steps.
    """
    rl = table6[table6["stage"] == "RL"].iloc[0]
    numbers = text.set_index(["location", "quantity"])["value"]
    table = pd.DataFrame(
        [
            ("main", numbers["§4.1", "training prompts"], rl["steps"]),
            (
                "data-scarce",
                numbers["App. F", "training prompts"],
                numbers["App. F", "step of the gradient-norm spikes"],
            ),
        ],
        columns=["run", "prompts", "steps"],
    )
    return table.assign(epochs=table["steps"] * rl["batch_size"] / table["prompts"])


def changes(table2: pd.DataFrame) -> pd.DataFrame:
    """What each checkpoint of Table 2 changed from the row before, indexed by checkpoint.

    The text places a synchronized change at Ckpt-9. The edit distance grew as much from Base to
    Ckpt-6, and the fork position moved nearly as far.
    """
    return table2.set_index("checkpoint").diff().iloc[1:].round(4)
