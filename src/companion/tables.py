"""One function a table of the paper: tidy measurements in, a DataFrame to show and to save out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd

from companion import paper, tasks
from companion.analysis.statistics import (
    Estimate,
    avg_at_k,
    largest_jump,
    macro_average,
    paired_difference,
    pass_at_k,
)
from companion.params import Profile
from companion.runs import Run

METRICS = {"avg@{k}": avg_at_k, "pass@{k}": pass_at_k}


def scores(samples: pd.DataFrame, label: str, suites: list[str]) -> dict[str, np.ndarray]:
    """Correctness of one policy: for each suite a bool [seeds, problems, samples].

    Args:
        samples: columns label, seed, suite, problem, sample, correct (`collect.samples`).
    """
    rows = samples[samples["label"] == label].sort_values(["seed", "problem", "sample"])
    k, seeds = rows["sample"].nunique(), rows["seed"].nunique()
    return {
        suite: rows.loc[rows["suite"] == suite, "correct"].to_numpy().reshape(seeds, -1, k)
        for suite in suites
    }


def table1(samples: pd.DataFrame, suites: list[str], resamples: int = 2000) -> pd.DataFrame:
    """Table 1: avg@k and pass@k in percent, a row a policy, with the macro-average last.

    Each cell is an Estimate with its 95% interval over seeds and problems.
    """
    k = samples["sample"].nunique()
    rows = {}
    for label in samples["label"].unique():
        correct = scores(samples, label, suites)
        row: dict[tuple[str, str], Estimate] = {}
        for name, score in METRICS.items():
            each = {suite: score(values) for suite, values in correct.items()}
            for suite, values in each.items():
                row[suite, name.format(k=k)] = macro_average({suite: values}, resamples)
            row["Avg", name.format(k=k)] = macro_average(each, resamples)
        rows[label] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table[[*suites, "Avg"]]


def ood(samples: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """avg@k and pass@k of the out-of-distribution suite, as Estimates; empty if it is left out."""
    suite = tasks.ood(profile)
    if suite is None:
        return pd.DataFrame()
    return table1(samples, [suite], profile.evaluation.bootstrap)["Avg"]


def avg_by_seed(samples: pd.DataFrame, suites: list[str]) -> pd.DataFrame:
    """Macro-average of avg@k in percent: a row a policy, a column a seed."""
    return pd.DataFrame(
        {
            seed: {
                label: 100
                * np.mean([avg_at_k(c).mean() for c in scores(rows, label, suites).values()])
                for label in rows["label"].unique()
            }
            for seed, rows in samples.groupby("seed")
        }
    )


def reheating(
    samples: pd.DataFrame, evaluations: Iterable[Run], suites: list[str], resamples: int = 2000
) -> pd.DataFrame:
    """What reheating gives and costs, before any further RL: a row a policy.

    Entropy (nats, T = 1), macro-averages in percent, and their differences from the first
    policy in points, paired by problem.
    """
    entropies = {
        run.identity["settings"]["label"]: Estimate(**run.result["token_entropy"])
        for run in evaluations
    }
    labels = list(entropies)
    rows = samples[samples["label"].isin(labels)]
    table = table1(rows, suites, resamples)["Avg"]
    difference = gains(rows, suites, against=labels[0], resamples=resamples)
    difference.columns = [f"Δ {metric}" for metric in difference.columns]
    table = table.join(difference).loc[labels]
    table.insert(0, "entropy (nats)", list(entropies.values()))
    return table


def along_path(
    samples: pd.DataFrame,
    evaluations: Mapping[int, Run],
    suites: list[str],
    ood: str | None,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Accuracy over reheating checkpoints (Fig. 4), in percent.

    Args:
        evaluations: by reheating step; their samples are in `samples`.
        ood: the out-of-distribution suite; None if it is left out.

    Columns step, suites ("in-domain", the macro-average, or "out of distribution"), metric,
    value, low, high.
    """
    steps = {run.identity["settings"]["label"]: step for step, run in evaluations.items()}
    rows = []
    for name, group in _groups(suites, ood).items():
        average = table1(samples[samples["label"].isin(steps)], group, resamples)["Avg"]
        for label, row in average.iterrows():
            rows += [
                {"step": steps[label], "suites": name, "metric": metric, **asdict(cell)}
                for metric, cell in row.items()
            ]
    return pd.DataFrame(rows).sort_values(["suites", "metric", "step"], ignore_index=True)


def change_along_path(
    samples: pd.DataFrame, suites: list[str], ood: str | None, resamples: int = 2000
) -> dict[str, Estimate]:
    """By `along_path`'s suites, what avg@k changes from its first policy to its last, in points."""
    return {
        name: gains(samples, group, "Collapsed", resamples).loc["PR-FKL"].iloc[0]
        for name, group in _groups(suites, ood).items()
    }


def _groups(suites: list[str], ood: str | None) -> dict[str, list[str]]:
    return {"in-domain": suites} | ({"out of distribution": [ood]} if ood else {})


def jump(path: pd.DataFrame) -> pd.DataFrame:
    """Is there an entropy jump (§4.4)? The step of `path` that its neighbours explain least.

    Checkpoints are taken to be evenly spaced, as reheating measures them (`reheat.check_every`).
    One row: step (the checkpoint after it), its rise in entropy and what of it is beyond the
    trend of all steps (nats), and the p-value of `statistics.largest_jump`. No row if the path
    has fewer than eight checkpoints.
    """
    measured = path.dropna(subset=["token_entropy"]).sort_values("step")
    entropy, steps = measured["token_entropy"].to_numpy(), measured["step"].to_numpy()
    columns = ["step", "rise (nats)", "beyond the trend (nats)", "p-value"]
    if len(entropy) < 8:
        return pd.DataFrame(columns=columns)
    found = largest_jump(entropy)
    rise = entropy[found.step] - entropy[found.step - 1]
    return pd.DataFrame([(steps[found.step], rise, found.size, found.p_value)], columns=columns)


def hyperparameters(profile: Profile, table: int) -> pd.DataFrame:
    """Table 3 (RL), 4 (OPSD) or 5 (evaluation): the paper's settings beside the profile's.

    A row a hyperparameter: columns paper and here as text (empty where the paper's text lost the
    number), and differs, "≠" where both are given and are not equal.
    """
    reported = paper.hyperparameters().query("table == @table")
    ours = _settings(profile)[table]
    rows = {
        row.hyperparameter: (row.value, ours[row.hyperparameter])
        for row in reported.fillna("").itertuples()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["paper", "here"])
    unequal = [paper and not _equal(paper, here) for paper, here in rows.values()]
    return frame.assign(differs=["≠" if odd else "" for odd in unequal])


def _settings(profile: Profile) -> dict[int, dict[str, str]]:
    """What the profile says under the paper's names, by table."""
    rl, heat, asked = profile.rl, profile.reheat, profile.evaluation
    precision = "float32" if profile.hardware.platform == "cpu" else "bfloat16"
    steps = rl.collapse.max_steps + rl.continued_steps
    epochs = steps * rl.batch_size / profile.task.train_problems
    tables: dict[int, dict[str, object]] = {
        3: {
            "Framework": "verl",
            "Training data": tasks.of(profile.task.name).TRAINING,
            "Optimizer": "AdamW",
            "Learning rate": rl.learning_rate,
            "LR warmup steps": rl.warmup_steps,
            "Weight decay": rl.weight_decay,
            "Train batch size": rl.batch_size,
            "Responses per prompt": rl.responses_per_prompt,
            "PPO mini-batch size": rl.mini_batch_size,
            "Clip ratio low": rl.clip_low,
            "Clip ratio high": rl.clip_high,
            "Clip ratio c": rl.clip_c,
            "Gradient clip": rl.gradient_clip,
            "Loss aggregation": "token-mean",
            "KL loss": "disabled",
            "Entropy coefficient": 0.0,
            "Max response length": rl.max_response_tokens,
            "Rollout temperature": rl.rollout_temperature,
            "Rollout top-p": rl.rollout_top_p,
            "Overlong buffer": "enabled" if rl.overlong_buffer_tokens else "disabled",
            "Overlong buffer length": rl.overlong_buffer_tokens,
            "Total epochs": f"{epochs:.3g}",
            "Rollout temperature (RR)": rl.rr_temperature,
            "Overlong penalty factor": rl.overlong_penalty,
            "Dynamic sampling": "on" if rl.dynamic_sampling else "off",
        },
        4: {
            "Framework": "GKD (swift)",
            "Teacher temperature": heat.tau,
            "Logit coverage": "full vocabulary",
            "Learning rate": heat.learning_rate,
            "LR schedule": "constant",
            "Effective batch size": heat.batch_size,
            "Rollout sampling": "on-policy",
            "Rollout temperature": 1.0,
            "Precision": precision,
            "Max completion length": heat.max_completion_tokens,
        },
        5: {
            "Samples per prompt": asked.samples,
            "Sampling temperature": asked.temperature,
            "Top-p": asked.top_p,
            "Top-k": "disabled",
            "Max new tokens": asked.max_new_tokens,
            "Precision": precision,
        },
    }
    return {table: {k: str(v) for k, v in rows.items()} for table, rows in tables.items()}


def _equal(paper: str, here: str) -> bool:
    try:
        return float(paper) == float(here)
    except ValueError:
        return paper.lower() == here.lower()


def cost(training: Mapping[str, Run], reheated: Run, profile: Profile) -> pd.DataFrame:
    """Table 6: what reheating costs beside RL, from the runs' own clocks.

    A row a stage. RL is the whole of the run to collapse and its plain continuation. Seconds a
    step are the median without starting up, saving and measuring, hours of steps their sum (the
    paper's hours) and hours in all the runs' own, with all of that. The paper divides reheating's
    seconds by 1024 / 64, answers by prompts; the last column is per answer on both sides, RL's
    being prompts x responses.
    """
    rl, heat = profile.rl, profile.reheat
    stages = {
        "RL": (
            [training["Collapsed"], training["+DAPO"]],
            rl.batch_size,
            rl.batch_size * rl.responses_per_prompt,
        ),
        "OPSD": ([reheated], heat.batch_size, heat.batch_size),
    }
    rows = {}
    for stage, (made, batch, answers) in stages.items():
        seconds = pd.concat([run.metrics["seconds"].dropna() for run in made])
        rows[stage] = {
            "batch size": batch,
            "steps": len(seconds),
            "s a step": seconds.median(),
            "hours of steps": seconds.sum() / 3600,
            "hours in all": sum(run.record["seconds"] for run in made) / 3600,
            "s a step at RL's batch size": seconds.median() * rl.batch_size / batch,
            "s per 1,000 answers": 1000 * seconds.median() / answers,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    share = 100 * table.loc["OPSD", "hours of steps"] / table.loc["RL", "hours of steps"]
    return table.assign(**{"share of RL (%)": [None, share]})


def gains(
    samples: pd.DataFrame, suites: list[str], against: str, resamples: int = 2000
) -> pd.DataFrame:
    """Macro-average of each policy minus that of `against`, in points, paired by problem.

    A row a policy, a column a metric, each cell an Estimate.
    """
    k = samples["sample"].nunique()
    other = scores(samples, against, suites)
    rows = {}
    for label in samples["label"].unique():
        if label != against:
            ours = scores(samples, label, suites)
            rows[label] = {
                name.format(k=k): paired_difference(
                    {s: score(ours[s]) for s in suites},
                    {s: score(other[s]) for s in suites},
                    resamples,
                )
                for name, score in METRICS.items()
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def show(table: pd.DataFrame, spec: str = ".1f") -> pd.DataFrame:
    """The table as text: each Estimate as `value [low, high]`, nats with three decimals."""
    text = table.map(lambda cell: format(cell, spec) if isinstance(cell, Estimate) else "")
    for column in table.columns:
        if "nats" in str(column):
            text[column] = [format(cell, ".3f") for cell in table[column]]
    return text


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """The table as numbers, to save as CSV: columns policy (its index: an arm, or a checkpoint's
    step), the column levels, value, low, high."""
    levels = ["suite", "metric"] if table.columns.nlevels == 2 else ["metric"]
    rows = [
        {"policy": policy, **dict(zip(levels, np.atleast_1d(column), strict=True)), **asdict(cell)}
        for policy, row in table.iterrows()
        for column, cell in row.items()
        if isinstance(cell, Estimate)
    ]
    return pd.DataFrame(rows).round(4)
