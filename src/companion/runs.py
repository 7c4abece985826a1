"""A run: one call's folder, named by what went into it, with all that is needed to repeat it.

    runs/<profile>/<stage>-<slug>-<fingerprint>/
        run.json         command, settings, inputs, data hashes, versions, git, hardware, times
        metrics.jsonl    one line a step
        policy/          the Hugging Face folder that the run made, if it made one

The fingerprint covers the stage, its settings and the content of its inputs: a finished run is
reused, an interrupted one is resumed by its stage, and a changed setting is another run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from companion.params import ROOT
from companion.provenance import portable, provenance
from companion.schema import Profile

RECORDS = ("run.json", "metrics.jsonl")
"""What tells how a run was made, beside what it made."""

_only_finished = ContextVar("only_finished", default=False)


class NotFinished(ValueError):
    """A run that would have to be made, within `finished_only`."""


@contextmanager
def finished_only() -> Iterator[None]:
    """Within this context a run that is not finished is NotFinished, and nothing is made."""
    token = _only_finished.set(True)
    try:
        yield
    finally:
        _only_finished.reset(token)


@dataclass(frozen=True)
class Run:
    folder: Path
    identity: dict[str, Any]
    """What the fingerprint covers: stage, settings, hashes of the inputs."""
    inputs: dict[str, Path]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def record(self) -> dict[str, Any]:
        """The content of run.json; empty before the run starts."""
        path = self.folder / "run.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    @property
    def finished(self) -> bool:
        """Whether it ended well and what it made is still there, its policy included."""
        record = self.record
        return record.get("status") == "finished" and (
            not record.get("made_policy") or self.policy.is_dir()
        )

    @property
    def policy(self) -> Path:
        """The Hugging Face folder that this run made."""
        return self.folder / "policy"

    @property
    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl, one row a line."""
        return pd.read_json(self.folder / "metrics.jsonl", lines=True)

    @property
    def result(self) -> dict[str, Any]:
        """What the stage reports about itself, kept in run.json."""
        return dict(self.record.get("result", {}))

    def check_may_be_made(self) -> None:
        """NotFinished within `finished_only`: for stages that work before they record."""
        if _only_finished.get():
            raise NotFinished(
                f"run {self.name} is not finished here; finish it first: make reproduce"
            )

    @contextmanager
    def recording(self, **notes: Any) -> Iterator[dict[str, Any]]:
        """Hold the run's lock while it is made, and write run.json at its start and its end.

        Nothing in the run's folder may change outside of it, but that what a finished run no
        longer needs is deleted. Yields a dict for the stage's results, saved under `result`. An
        interrupted or failed run keeps its folder and says so in `status`; it is continued by the
        next call. `seconds` adds up all tries, but for what passed before a kill that left no time
        to write.

        Raises:
            RuntimeError: another process is making this run, or has just finished it.
            NotFinished: within `finished_only`.
        """
        self.check_may_be_made()
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(self.folder / ".lock").acquire(timeout=0)
        except Timeout:
            raise RuntimeError(
                f"run {self.name} is being made by another process; wait for it, or stop it first"
            ) from None
        with lock:
            if self.finished:
                raise RuntimeError(
                    f"run {self.name} was finished by another process meanwhile; call again to use it"
                )
            earlier = self.record.get("seconds", 0.0)
            started = datetime.now(UTC)
            result: dict[str, Any] = {}
            self._write(
                {
                    "run": self.name,
                    "status": "running",
                    **self.identity,
                    "inputs_from": {k: portable(str(p)) for k, p in self.inputs.items()},
                    **notes,
                    **provenance(),
                    "started": started.isoformat(timespec="seconds"),
                    "seconds": earlier,
                }
            )
            status = "failed"
            try:
                yield result
                status = "finished"
            except KeyboardInterrupt:
                status = "interrupted"
                raise
            finally:
                ended = datetime.now(UTC)
                self._write(
                    self.record
                    | {
                        "status": status,
                        "result": result,
                        "made_policy": self.policy.is_dir(),
                        "ended": ended.isoformat(timespec="seconds"),
                        "seconds": round(earlier + (ended - started).total_seconds(), 1),
                    }
                )

    def note_command(
        self, words: list[str], environment: Mapping[str, str], resumed_at: int | None
    ) -> None:
        """Say in run.json how the run is made from nothing, and after which step it resumed."""
        self._write(
            self.record
            | {
                "command": [portable(word) for word in words],
                "environment": {k: portable(v) for k, v in environment.items()},
                "resumed_at": resumed_at,
            }
        )

    def _write(self, record: dict[str, Any]) -> None:
        partial = self.folder / "run.json.partial"
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(self.folder / "run.json")


def open_run(
    profile: Profile, stage: str, slug: str, settings: dict[str, Any], inputs: dict[str, Path]
) -> Run:
    """The run that `stage` makes with these settings (JSON values) from these input folders."""
    identity = {
        "stage": stage,
        "settings": settings,
        "inputs": {name: content_hash(path) for name, path in inputs.items()},
    }
    text = json.dumps(identity, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:8]
    folder = ROOT / "runs" / profile.name / f"{stage}-{slug}-{fingerprint}"
    return Run(folder, identity, inputs)


def read_run(folder: Path) -> Run:
    """The run recorded in `folder` (working state or published); its inputs may be elsewhere."""
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text())
        return Run(folder, {key: record[key] for key in ("stage", "settings", "inputs")}, {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = "has no " + str(error) if isinstance(error, KeyError) else error
        raise ValueError(
            f"'{portable(str(path))}' is no record of a run ({why}); restore it, or name another folder"
        ) from None


def slug(label: str) -> str:
    """A label as part of a folder's name: "+DAPO w/ PR-scale*" -> "dapo-w-pr-scale-star"."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("*", "-star")).strip("-")


def content_hash(path: Path) -> str:
    """SHA-256 over the names and bytes of a file or of a folder's files.

    Left out are hidden files and what only tells how a shipped policy was made (RECORDS): it is
    the same policy as in the run that made it.
    """
    if not path.exists():
        raise ValueError(f"'{portable(str(path))}' does not exist; make it first or name another")
    files = (
        [path]
        if path.is_file()
        else sorted(
            file
            for file in path.rglob("*")
            if file.is_file() and not file.name.startswith(".") and file.name not in RECORDS
        )
    )
    stamp = tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    return _hash_files(stamp, str(path))


@cache
def _hash_files(stamp: tuple[tuple[str, int, int], ...], root: str) -> str:
    """Cached by size and time of change, so that large checkpoints are read once."""
    digest = hashlib.sha256()
    for name, _, _ in stamp:
        digest.update(os.path.relpath(name, root).encode())
        with Path(name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def text_hash(texts: Iterable[str]) -> str:
    """SHA-256 over texts in order: what data, such as a list of prompts, is known by."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
