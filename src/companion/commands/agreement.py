"""What must hold between a seed that is to be published and those that are: one sentence each."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from companion.runs import Run
from companion.schema import Profile
from companion.study import roles
from companion.study.roles import PROFILE, Evidence

NO_SETTING = (
    "seed",
    "about",
    "task.data",
    "hardware",
    "analysis.rivals",
    "analysis.entropy_bonuses",
)
"""Of a profile: in what published seeds may differ, the platform apart. Rivals say what is made,
not how."""
OF_THE_SEED = (
    "seed",
    "tau",
    "strength",
    "steps",
    "max_steps",
    "recovery_entropy",
    "ceiling_entropy",
    "label",
)
"""Of a run's settings: those that some runs take from others of their seed, such as the tau of
PR-scale*, the strength of merge*, the steps of +DAPO, equal tokens, the label of a step that is one
seed's last. Where they are the profile's own, the profiles are compared."""
KEPT = ("words",)
"""Of a run's settings: those that say what is kept of its answers, not how they are measured."""
SHARED = (("evaluations", "Base"), ("training", "Collapsed"))
"""The parts that start from the same policy whatever the seed."""


def check_outputs(evidence: Evidence, kept: Container[str]) -> None:
    """ValueError unless all that is to be published is what its run made."""
    for run in evidence.index["run"]:
        if wrong := run.shortfalls(wholly=True, among=kept):
            raise ValueError(
                f"run {run.name} cannot be published: {wrong[0]}; restore that, or remove its folder "
                "to make the run again"
            )


def check_unchanged(evidence: Evidence, published: Path, kept: Iterable[str]) -> None:
    """ValueError if a run is published with another content than it has here."""
    for run in evidence.index["run"]:
        folder = published / run.name
        for name in kept if folder.exists() else ():
            if _bytes(folder / name) != _bytes(run.folder / name):
                raise ValueError(
                    f"results hold another {name} of {run.name} than is here; restore the one that "
                    "is wrong, or remove the published run and its rows of index.csv by hand"
                )


def check_settings(profile: Profile, evidence: Evidence) -> None:
    """ValueError unless this seed was measured as the published ones were (`differences`)."""
    for difference in differences(profile, evidence):
        raise ValueError(
            f"this seed was measured otherwise than the published ones: {difference}; publish the seeds "
            "of one study, or remove the published ones first"
        )


def differences(profile: Profile, evidence: Evidence) -> Iterator[str]:
    """In what this seed was measured otherwise than the published ones, a clause each.

    Compared are the profiles but for NO_SETTING, and run by run what else is part of an identity:
    the stage, the hashes of data, the versions of the code, the policy that all seeds start from.
    """
    kept, here = (_settings(p) for p in (roles.settings(profile.name), profile))
    for name in here:
        if kept.get(name) != here[name]:
            yield f"{name} is {here[name]!r} here and {kept.get(name)!r} in {PROFILE}"
    earlier = roles.published(profile.name).index
    for row in evidence.index.itertuples():
        same = (earlier["role"] == row.role) & (earlier["key"] == row.key)
        others = earlier.loc[same & (earlier["seed"] != row.seed), "run"]
        if others.empty:
            continue
        shared = (row.role, row.key) in SHARED
        kept, here = (_identity(run, shared=shared) for run in (others.iloc[0], row.run))
        for name in dict.fromkeys([*here, *kept]):
            if kept.get(name) != here.get(name):
                yield (
                    f"{name} of {row.run.name} is {here.get(name)!r}, and of {others.iloc[0].name} "
                    f"{kept.get(name)!r}"
                )


def _settings(profile: Profile) -> dict[str, Any]:
    """What a profile sets, by dotted field."""
    [flat] = pd.json_normalize(profile.model_dump(mode="json")).to_dict("records")
    return {
        str(name): value
        for name, value in flat.items()
        if name == "hardware.platform" or not str(name).startswith(NO_SETTING)
    }


def _identity(run: Run, *, shared: bool) -> dict[str, Any]:
    """What seeds have in common of a run's identity."""
    of_one = (*OF_THE_SEED, *KEPT)
    settings = {k: v for k, v in run.identity["settings"].items() if k not in of_one}
    return {"stage": run.identity["stage"], **settings} | (
        {"policy": run.identity["inputs"]["policy"]} if shared else {}
    )


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
