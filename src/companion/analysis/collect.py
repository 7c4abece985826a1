"""Runs, live or published, as tidy DataFrames."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd
from pyarrow import parquet

from companion.runs import Run
from companion.statistics import Estimate


def samples(evaluations: Iterable[Run]) -> pd.DataFrame:
    """Every sample of the given evaluation runs, with the columns label and seed before it.

    Without token_ids, which would fill the memory at the paper's scale.
    """
    frames = []
    for run in evaluations:
        path = run.folder / "samples.parquet"
        columns = [name for name in parquet.read_schema(path).names if name != "token_ids"]
        frame = pd.read_parquet(path, columns=columns)
        frame.insert(0, "label", run.identity["settings"]["label"])
        frame.insert(1, "seed", run.identity["settings"]["seed"])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def arm_of(label: str) -> str:
    """What a policy is a checkpoint of: "+DAPO, checkpoint 1 of 3" -> "+DAPO"."""
    return re.sub(r", checkpoint \d+ of \d+$", "", label)


def in_order(samples: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """The samples of these policies and of their earlier checkpoints, if any, in this order."""
    of = samples["label"].map({label: arm_of(label) for label in samples["label"].unique()})
    every = [samples[of == label] for label in labels]
    return pd.concat(every, ignore_index=True)


def measured(paths: pd.DataFrame, run: str) -> dict[int, pd.DataFrame]:
    """By seed the steps of one reheating at which its entropy was measured, in order.

    Args:
        paths: columns seed, run, step, token_entropy and more (`roles.Evidence.paths`).
    """
    rows = paths[paths["run"] == run].dropna(subset=["token_entropy"]).sort_values("step")
    return {int(seed): one for seed, one in rows.groupby("seed")}


def entropies(paths: pd.DataFrame, run: str, at: int) -> list[Estimate]:
    """Of each seed the entropy (nats) at the first (0) or the last (-1) of `measured`."""
    ends = [rows.iloc[at] for rows in measured(paths, run).values()]
    return [Estimate(e["token_entropy"], e["entropy_low"], e["entropy_high"]) for e in ends]
