"""The runs behind the exhibits, by the part they play: made here, or published before.

A role is a name, such as "temperatures", for runs that are told apart by a key, such as "1.2".
Exhibits ask for roles and never for runs; `results/<profile>/index.csv` keeps a published run's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from companion.analysis import (
    branching,
    browsed,
    displacement,
    distribution,
    gradients,
    measure,
    positions,
    representation,
)
from companion.params import ROOT
from companion.provenance import portable
from companion.runs import Run, read_run
from companion.schema import Profile
from companion.study import arms, experiments, teacher

Role = Callable[[Profile], dict[str, Run]]
"""Makes what is missing of a role's runs and reuses what is finished."""

INDEX = "index.csv"
"""Which part each published run plays: columns seed, role, key, run."""
PROFILE = "profile.json"
"""The settings that the published runs were made with, whatever params/ says today."""


def _hot(profile: Profile) -> Run:
    return arms.heated(profile, "PR-FKL")


def _cka(profile: Profile) -> dict[str, Run]:
    return {"": representation.cka(profile, arms.collapsed(profile), _hot(profile).policy)}


def _distribution(profile: Profile) -> dict[str, Run]:
    return {"": distribution.change(profile, arms.collapsed(profile), _hot(profile).policy)}


def _branching(profile: Profile) -> dict[str, Run]:
    return {"": branching.branch(profile, experiments.path(profile))}


def _gradients(profile: Profile) -> dict[str, Run]:
    taus = profile.analysis.taus
    return {"": gradients.at_start(profile, arms.collapsed(profile), taus)}


def _cooling(profile: Profile) -> dict[str, Run]:
    there, back = experiments.cooled(profile)
    return {"reheated": there, "cooled": back}


def _displacement(profile: Profile) -> dict[str, Run]:
    start, (there, back) = arms.collapsed(profile), experiments.cooled(profile)
    cooled = {"collapsed": start, "reheated": there.policy, "cooled": back.policy}
    again = {
        "again": experiments.again(profile).policy,
        "collapsed": start,
        "reheated": there.policy,
    }
    return {
        "": displacement.reversal(profile, cooled),
        "again": displacement.reversal(profile, again),
    }


def _positions(profile: Profile) -> dict[str, Run]:
    # Of a policy that is there before any is trained, since notebook 00 shows them first.
    return {"": positions.find(profile, arms.example(profile))}


def _browsed(profile: Profile) -> dict[str, Run]:
    return {"": browsed.answers(profile, experiments.worth_reading(profile))}


STUDY: dict[str, Role] = {
    "training": arms.training_runs,
    "reheated": arms.reheated,
    "evaluations": arms.evaluations,
}
"""Notebooks 01 to 04: every published seed has them."""

ANALYSES: dict[str, Role] = {
    "along_path": lambda profile: _keyed(experiments.along_path(profile)),
    "cka": _cka,
    "distribution": _distribution,
    "positions": _positions,
    "browsed": _browsed,
    "branching": _branching,
    "objectives": experiments.objectives,
    "temperatures": lambda profile: _keyed(experiments.temperatures(profile)),
    "gradients": _gradients,
    "base": lambda profile: {"base": experiments.on_base(profile), "collapsed": _hot(profile)},
    "long": lambda profile: {"": experiments.long_horizon(profile)},
    "cooling": _cooling,
    "displacement": _displacement,
    "scarce": experiments.scarce,
    "teacher": teacher.runs,
    "teacher_ends": teacher.evaluations,
    "leak": teacher.leaks,
    "frontier": experiments.frontier,
    "rivals": experiments.rivals,
    "rival_ends": experiments.rival_ends,
}
"""Notebooks 05 to 09, 11 and 12: some seeds have them."""


def _keyed(runs: dict[int, Run] | dict[float, Run]) -> dict[str, Run]:
    return {str(key): run for key, run in runs.items()}


@dataclass(frozen=True)
class Evidence:
    """The runs behind an exhibit."""

    index: pd.DataFrame
    """Columns seed, role, key and run (a Run), a row a run."""

    def every(self, role: str) -> list[Run]:
        """The role's runs of all seeds, in the index's order."""
        return list(self.index.loc[self.index["role"] == role, "run"])

    def by_key(self, role: str) -> dict[str, Run]:
        """The role's runs by their keys; of one seed."""
        rows = self.index[self.index["role"] == role]
        return dict(zip(rows["key"], rows["run"], strict=True))

    def only(self, role: str) -> Run:
        """The one run of a role that has no keys; of one seed."""
        return self.by_key(role)[""]

    def paths(self, role: str, *keys: str) -> pd.DataFrame:
        """The steps of the role's reheatings, of these keys or of all, under each other: metrics.jsonl,
        with the columns seed and run (the key)."""
        found = self._together(role, lambda run: run.metrics, keys)
        return found.rename(columns={"key": "run"})

    def measured(self, role: str) -> pd.DataFrame:
        """What the role's analyses measured, under each other: their tables, with the seed and, where
        a seed has several, their key."""
        found = self._together(role, measure.table)
        return found if found["key"].any() else found.drop(columns="key")

    def _together(
        self, role: str, read: Callable[[Run], pd.DataFrame], keys: tuple[str, ...] = ()
    ) -> pd.DataFrame:
        rows = self.index[self.index["role"] == role]
        wanted = rows[rows["key"].isin(keys or rows["key"])]
        frames = [read(row.run).assign(seed=row.seed, key=row.key) for row in wanted.itertuples()]
        return pd.concat(frames, ignore_index=True)

    def each(self) -> dict[int, Evidence]:
        """By seed."""
        return {int(seed): Evidence(rows) for seed, rows in self.index.groupby("seed")}

    @property
    def seeds(self) -> list[int]:
        return sorted(self.index["seed"].unique().tolist())

    @property
    def names(self) -> list[str]:
        """Of all runs, each once."""
        return list(dict.fromkeys(run.name for run in self.index["run"]))

    def of(self, roles: Iterable[str], *, every_seed: bool) -> Evidence | None:
        """What plays these roles: in every seed, or in the first that has them all; None if none."""
        wanted = list(roles)
        rows = self.index[self.index["role"].isin(wanted)]
        complete = rows.groupby("seed")["role"].nunique() == len(set(wanted))
        seeds = list(complete.index[complete])
        if wanted and not seeds:
            return None
        return Evidence(rows[rows["seed"].isin(seeds if every_seed else seeds[:1])])


def made(profile: Profile, roles: Iterable[str]) -> Evidence:
    """The runs of this seed that play these roles, here; what is missing is made."""
    every = STUDY | ANALYSES
    rows = [
        (profile.seed, role, key, run)
        for role in roles
        for key, run in every[role](profile).items()
    ]
    return Evidence(pd.DataFrame(rows, columns=["seed", "role", "key", "run"]))


def settings(profile: str) -> Profile:
    """What the runs in results/<profile> were made with, of the first seed that was published.

    Raises:
        ValueError: there are none, or the file that says so is missing or cannot be read.
    """
    path = _results(profile) / PROFILE
    try:
        return Profile.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ValueError(
            f"'{portable(str(path))}' does not say what the published runs were made with ({why}); "
            "restore it"
        ) from None


def _results(profile: str) -> Path:
    folder = ROOT / "results" / profile
    if not (folder / INDEX).exists():
        raise ValueError(
            f"profile '{profile}' has no published runs; make some with: make reproduce "
            f"PROFILE={profile} && make publish PROFILE={profile}"
        )
    return folder


def published(profile: str) -> Evidence:
    """The runs in results/<profile>; ValueError if there are none."""
    folder = _results(profile)
    index = pd.read_csv(folder / INDEX, keep_default_na=False)
    return Evidence(index.assign(run=[read_run(folder / "runs" / name) for name in index["run"]]))
