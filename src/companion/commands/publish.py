"""Copy what this machine measured to results/<profile>/, then redraw from there.

Training never touches results/. Nothing that is published changes: another measurement for the
same part of the same seed's study is refused, and so are another content of a published run, a
seed measured under other settings than the published ones, and notebooks that show something else.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pandas as pd
from filelock import FileLock, Timeout

from companion import exhibits
from companion.analysis.measure import MEASUREMENTS
from companion.commands import agreement, manifest
from companion.commands.reproduce import executed_folder
from companion.exhibits.registry import EXHIBITS
from companion.params import ROOT, change
from companion.provenance import portable
from companion.runs import NotFinished, Run, finished_only
from companion.schema import Profile
from companion.study import roles
from companion.study.roles import INDEX, PROFILE, Evidence

KEPT = ("run.json", "metrics.jsonl", "samples.parquet", MEASUREMENTS)
"""What is published of a run, as it is. Checkpoints are not (the base and one collapsed policy
apart)."""


def publish(profile: Profile) -> Path:
    """Publish one seed: its study, its analyses if they are made, and redrawn results.

    index.csv says which part each run plays, profile.json what the runs were made with, SHA256SUMS
    what all this is to be. Executed notebooks come along, those whose runs do.

    Raises:
        ValueError: the study of this seed is not finished here, another measurement of a part
            of it is published already, what is published was damaged or was measured under other
            settings, an executed notebook shows another table or figure than its runs give, or
            another process publishes. Nothing has been written then.
    """
    target, evidence = ROOT / "results" / profile.name, _finished(profile)
    try:
        lock = FileLock(ROOT / "runs" / profile.name / ".publishing").acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process is publishing to results/{profile.name}; wait for it, and call again"
        ) from None
    with lock:
        return _publish(profile, evidence, target)


def _publish(profile: Profile, evidence: Evidence, target: Path) -> Path:
    rows = evidence.index.assign(run=[run.name for run in evidence.index["run"]])
    agreement.check_outputs(evidence, KEPT)
    first = not (target / INDEX).exists()
    if not first:
        manifest.check_unchanged(target)  # or its hashes would be taken anew
        rows = _with_earlier(rows, target / INDEX)
        agreement.check_settings(profile, evidence)
        agreement.check_unchanged(evidence, target / "runs", KEPT)
    executed = executed_folder(profile)
    check_executed(profile, evidence, executed)
    for run in evidence.index["run"]:
        _copy(run, target / "runs" / run.name)
    _copy_notebooks(executed, target / "notebooks" / f"seed{profile.seed}", evidence)
    if first:
        # Where the data lies on this machine is no setting of the study.
        text = change(profile, {"task.data": None}).model_dump_json(indent=1)
        (target / PROFILE).write_text(text + "\n")
    rows.to_csv(index := target / f"{INDEX}.partial", index=False)
    manifest.write(target, manifest.PUBLISHED, {INDEX: index})
    return exhibits.redraw(profile.name)


def check_executed(profile: Profile, evidence: Evidence, executed: Path) -> None:
    """ValueError unless the executed notebooks show what is drawn from the same runs today."""
    for exhibit in EXHIBITS:
        path = executed / f"{exhibit.notebook}.ipynb"
        behind = evidence.of(exhibit.roles, every_seed=True)
        shown = behind and path.exists() and exhibit.make(profile, behind)
        if shown and not all(_said(bundle) in _displayed(path) for bundle in shown.displays()):
            raise ValueError(
                f"{path.name} was executed before the last change: it shows another {exhibit.name} "
                "than its runs give; execute it again with: companion reproduce --profile "
                f"{profile.name} --seed {profile.seed} --only {path.stem}"
            )


def _displayed(path: Path) -> list[dict[str, str]]:
    """What an executed notebook shows, by MIME type."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [_said(output["data"]) for output in outputs if output["output_type"] == "display_data"]


def _said(bundle: Mapping[str, str]) -> dict[str, str]:
    """Without pictures, which a kernel draws with other last pixels; their text names their data."""
    return {kind: text for kind, text in bundle.items() if kind != "image/png"}


def _finished(profile: Profile) -> Evidence:
    """The seed's study, and the analyses that are finished; nothing is made."""
    missing = []
    with finished_only():
        found = [roles.made(profile, roles.STUDY).index]
        for role in roles.ANALYSES:
            try:
                found.append(roles.made(profile, [role]).index)
            except NotFinished:
                missing.append(role)
    if missing:
        print(f"published without the analyses that are not finished here: {', '.join(missing)}")
    return Evidence(pd.concat(found, ignore_index=True))


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


def _copy_notebooks(executed: Path, folder: Path, evidence: Evidence) -> None:
    """The executed notebooks without this machine's paths, papermill's notes of them among those.

    Not those whose runs are not published: nobody could say whether they show them.
    """
    without = {e.notebook for e in EXHIBITS if not evidence.of(e.roles, every_seed=True)}
    folder.mkdir(parents=True, exist_ok=True)
    for path in executed.glob("*.ipynb"):
        if path.stem in without:
            continue
        notebook = nbformat.read(path, as_version=4)
        for place in ("input_path", "output_path"):
            notebook.metadata.get("papermill", {}).pop(place, None)
        (folder / path.name).write_text(portable(nbformat.writes(notebook)) + "\n")


def _with_earlier(rows: pd.DataFrame, index: Path) -> pd.DataFrame:
    """The rows and what the index holds already; ValueError if they name another run for a part."""
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
