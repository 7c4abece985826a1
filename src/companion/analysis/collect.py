"""Runs, live or published, as tidy DataFrames."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from companion.params import ROOT
from companion.runs import Run, read_run


def published(profile: str) -> list[Run]:
    """The runs in results/<profile>/runs; ValueError if there are none."""
    folder = ROOT / "results" / profile / "runs"
    found = [read_run(path.parent) for path in sorted(folder.glob("*/run.json"))]
    if not found:
        raise ValueError(
            f"profile '{profile}' has no published runs; make some with: make reproduce "
            f"PROFILE={profile} && make publish PROFILE={profile}"
        )
    return found


def samples(evaluations: Iterable[Run]) -> pd.DataFrame:
    """Every sample of the given evaluation runs, with the columns label and seed before it."""
    frames = []
    for run in evaluations:
        frame = pd.read_parquet(run.folder / "samples.parquet")
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
