"""Runs, live or published, as tidy DataFrames."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import pandas as pd
from pyarrow import parquet

from companion.params import ROOT
from companion.runs import Run, read_run

INDEX = "index.csv"
"""Which part each published run plays: columns seed, role, key, run."""


def published(profile: str) -> pd.DataFrame:
    """The runs in results/<profile>: columns seed, role, key, run (a Run); ValueError if none."""
    folder = ROOT / "results" / profile
    if not (folder / INDEX).exists():
        raise ValueError(
            f"profile '{profile}' has no published runs; make some with: make reproduce "
            f"PROFILE={profile} && make publish PROFILE={profile}"
        )
    index = pd.read_csv(folder / INDEX, keep_default_na=False)
    return index.assign(run=[read_run(folder / "runs" / name) for name in index["run"]])


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


def dynamics(training: Iterable[Run]) -> pd.DataFrame:
    """RL steps of all arms on one axis: columns arm, seed, step, reward, token_entropy.

    Steps count from the base policy: an arm's go on from where its seed collapsed.
    """
    frames = []
    for run in training:
        settings = run.identity["settings"]
        frame = run.metrics[["step", "reward", "token_entropy"]].copy()
        collapsing = settings["stop_entropy"] is not None
        frame.insert(0, "arm", "Collapsed" if collapsing else run.record["arm"])
        frame.insert(1, "seed", settings["seed"])
        frames.append(frame)
    everything = pd.concat(frames, ignore_index=True)
    until = everything[everything["arm"] == "Collapsed"].groupby("seed")["step"].max()
    later = everything["arm"] != "Collapsed"
    everything.loc[later, "step"] += everything.loc[later, "seed"].map(until).astype(int)
    return everything


def paths(reheated: Mapping[Hashable, Run]) -> pd.DataFrame:
    """The steps of several reheating runs, under each other: metrics.jsonl, after the column run."""
    frames = [run.metrics.assign(run=name) for name, run in reheated.items()]
    return pd.concat(frames, ignore_index=True)


def scarce(runs: Mapping[str, Run]) -> pd.DataFrame:
    """`experiments.scarce` as Fig. 13 wants it: columns arm, step, entropies, grad_norm, reward."""
    columns = ["step", "rollout_entropy", "token_entropy", "grad_norm", "reward"]
    frames = [
        runs[arm].metrics.reindex(columns=columns).assign(arm=arm)
        for arm in ("Collapsed", "+DAPO", "+DAPO w/ PR-FKL")
    ]
    parted = frames[0]["step"].max()
    for frame in frames[1:]:
        frame["step"] += parted
    return pd.concat(frames, ignore_index=True)
