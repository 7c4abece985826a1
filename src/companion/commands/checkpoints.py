"""Collapsed policies in results/checkpoints: one goes in from a finished run, and can be one again.

Readers ask for checkpoints first, and reheating needs nothing but the collapsed policy. A clone
trains its own all the same, unless it is told to begin with a shipped one (`restore`).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from companion import runs
from companion.commands import manifest
from companion.params import ROOT
from companion.runs import Run
from companion.schema import Profile
from companion.stages import rl

KEPT = ("run.json", "metrics.jsonl")
"""Of the run, beside its policy's files."""


def ship(profile: Profile) -> Path:
    """Copy the collapsed policy of this profile and seed to results/checkpoints, with its run.

    Raises:
        ValueError: it is not finished here, or another one of this name was shipped.
    """
    run, target = rl.collapse_run(profile), _folder(profile)
    if not run.finished:
        raise ValueError(
            f"run {run.name} is not finished here; finish it first: companion reproduce --profile "
            f"{profile.name} --seed {profile.seed} --only 01_collapse"
        )
    if target.exists():
        if runs.read_run(target).record != run.record:
            raise ValueError(f"{target.name} was shipped before, from another run; remove it first")
        return target
    manifest.check_unchanged(target.parent)
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(run.policy, partial)
    for name in KEPT:
        shutil.copy2(run.folder / name, partial)
    partial.rename(target)
    manifest.write(target.parent, manifest.SHIPPED)
    return target


def restore(profile: Profile) -> Run:
    """The run to collapse of this profile and seed, from what was shipped of it: nothing is trained.

    Finished as it was, but without verl's checkpoint, which the arm that keeps its optimizer needs.

    Raises:
        ValueError: none was shipped of this seed, or one of other settings.
    """
    run, source = rl.collapse_run(profile), _folder(profile)
    if run.finished:
        return run
    if not source.exists():
        raise ValueError(
            f"no collapsed policy of profile '{profile.name}' and seed {profile.seed} is shipped in "
            "results/checkpoints; train it: companion reproduce --only 01_collapse"
        )
    shipped = runs.read_run(source)
    if shipped.record["run"] != run.name:
        raise ValueError(
            f"{source.name} comes from run {shipped.record['run']}, which other settings than today's "
            f"made (today: {run.name}); train it: companion reproduce --only 01_collapse"
        )
    if run.folder.exists():
        raise ValueError(
            f"run {run.name} was begun here and is not finished; finish it, or remove its folder first"
        )
    partial = run.folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in KEPT:
        shutil.copy2(source / name, partial)
    shutil.copytree(source, partial / "policy", ignore=shutil.ignore_patterns(*KEPT))
    if wrong := replace(run, folder=partial).shortfalls(wholly=True):
        shutil.rmtree(partial)
        raise ValueError(f"of {source.name} in results/checkpoints, {wrong[0]}; restore that first")
    partial.rename(run.folder)
    return run


def _folder(profile: Profile) -> Path:
    return ROOT / "results" / "checkpoints" / f"{profile.name}-collapsed-seed{profile.seed}"
