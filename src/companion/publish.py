"""Copy what this machine measured to results/<profile>/, then redraw from there.

    companion publish --profile laptop [--seed 2]

Training never touches results/. A run that is already published is left as it is; another
measurement for the same part of the same seed's study is refused.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import nbformat
import pandas as pd

from companion import cli, experiments, params, redraw, study
from companion.analysis import collect
from companion.analysis.measure import MEASUREMENTS
from companion.params import ROOT, Profile
from companion.runs import NotFinished, Run, finished_only

KEPT = ("run.json", "metrics.jsonl", "samples.parquet", MEASUREMENTS)
"""What is published of a run. Checkpoints are not (the base and one collapsed policy apart)."""


def publish(profile: Profile) -> Path:
    """Publish one seed: its study, its analyses if they are made, and redrawn results.

    index.csv says which part each run plays. Executed notebooks come along.

    Raises:
        ValueError: the study of this seed is not finished here, or another measurement of a part
            of it is published already.
    """
    target = ROOT / "results" / profile.name
    roles = _finished(profile)
    rows = pd.DataFrame(
        [
            {"seed": profile.seed, "role": role, "key": key, "run": run.name}
            for role, runs in roles.items()
            for key, run in runs.items()
        ]
    )
    rows = _with_earlier(rows, target / collect.INDEX)
    for runs in roles.values():
        for run in runs.values():
            _copy(run, target / "runs" / run.name)
    rows.to_csv(target / collect.INDEX, index=False)
    executed = ROOT / "runs" / profile.name / f"notebooks-seed{profile.seed}"
    _copy_notebooks(executed, target / "notebooks" / f"seed{profile.seed}")
    redraw.redraw(profile.name)
    return target


def _finished(profile: Profile) -> dict[str, dict[str, Run]]:
    """The seed's runs by role; nothing is made."""
    with finished_only():
        roles = study.roles(profile)
        try:
            return roles | experiments.roles(profile)
        except NotFinished as error:
            print(f"only the study is published, without the analyses of notebooks 05 on: {error}")
            return roles


def _copy(run: Run, folder: Path) -> None:
    if folder.exists():
        return
    partial = folder.with_suffix(".partial")  # a half-copied run must not count as published
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in KEPT:
        if (run.folder / name).exists():
            shutil.copy2(run.folder / name, partial / name)
    partial.rename(folder)


def _copy_notebooks(executed: Path, folder: Path) -> None:
    """The executed notebooks without papermill's note of where on this machine they were."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in executed.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for place in ("input_path", "output_path"):
            notebook.metadata.get("papermill", {}).pop(place, None)
        nbformat.write(notebook, folder / path.name)


def _with_earlier(rows: pd.DataFrame, index: Path) -> pd.DataFrame:
    """The rows and what the index holds already; ValueError if they name another run for a part."""
    if not index.exists():
        return rows
    part = ["seed", "role", "key"]
    earlier = pd.read_csv(index, keep_default_na=False)
    both = earlier.merge(rows, on=part, suffixes=("", "_here"))
    if len(other := both[both["run"] != both["run_here"]]):
        first = other.iloc[0]
        raise ValueError(
            f"results hold {first['run']}, another measurement of {first['run_here']}; to replace "
            f"seed {first['seed']}, remove its rows from {index.name} and its runs by hand"
        )
    together = pd.concat([earlier, rows]).drop_duplicates(part)
    return together.sort_values("seed", kind="stable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=cli.profile, default="laptop")
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    target = publish(params.load(arguments.profile.name, {"seed": arguments.seed}))
    print(f"published to {target.relative_to(ROOT)}/")
