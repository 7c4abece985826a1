"""A run: one call's folder, named by what went into it, with all that is needed to repeat it.

    runs/<profile>/<stage>-<slug>-<fingerprint>/
        run.json         command, settings, inputs, data hashes, hardware, tries, outputs
        metrics.jsonl    one line a step
        policy/          the Hugging Face folder that the run made, if it made one

The fingerprint covers the stage, its settings and the content of its inputs. Among the settings
are the hashes of data and the versions that the code gives its own meaning (`VERSION`,
tests/test_versions.py). A finished run is reused, an interrupted one is resumed by its stage, and
a changed setting is another run. run.json keeps size and hash of whatever a finished run made, and
a hash of itself: `Run.finished` looks before anybody relies on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from companion import metrics, outputs
from companion.hashes import content_hash
from companion.params import ROOT
from companion.provenance import portable, provenance
from companion.schema import Profile

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
        """The content of run.json; empty before the run starts. ValueError if it was changed."""
        path = self.folder / "run.json"
        return _read(path) if path.exists() else {}

    @property
    def finished(self) -> bool:
        """Whether it ended well.

        Raises:
            ValueError: it did, but not all that it made is there as it was, or run.json was changed.
        """
        record = self.record
        if record.get("status") != "finished":
            return False
        if wrong := self.shortfalls():
            raise ValueError(
                f"run {self.name} was finished, but {wrong[0]}; restore that, or remove the folder "
                f"{portable(str(self.folder))} to make the run again"
            )
        return True

    def shortfalls(self, *, wholly: bool = False, among: Container[str] | None = None) -> list[str]:
        """What is not as the finished run left it, such as "its samples.parquet is missing".

        Args:
            wholly: read and hash every file, not only look at its size and its frame.
            among: look at these outputs alone.
        """
        made = self.record.get("outputs", {})
        found = {
            name: outputs.shortfall(self.folder / name, entry, wholly=wholly)
            for name, entry in made.items()
            if among is None or name in among
        }
        return [f"its {name} {wrong}" for name, wrong in found.items() if wrong]

    @property
    def policy(self) -> Path:
        """The Hugging Face folder that this run made."""
        return self.folder / "policy"

    @property
    def metrics(self) -> pd.DataFrame:
        """metrics.jsonl, one row a line; ValueError if its steps do not increase."""
        return pd.read_json(
            StringIO("".join(metrics.lines(self.folder / "metrics.jsonl"))), lines=True
        )

    @property
    def seconds(self) -> float:
        """Of all its tries; NaN where one was killed, whose own nobody wrote."""
        record = self.record
        killed = any(one["status"] == "killed" for one in record.get("tries", []))
        return math.nan if killed else float(record["seconds"])

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
        next call. `tries` lists all of them, each with the revision and the versions it ran;
        `seconds` adds them up, but for what passed before a kill that left no time to write.

        Raises:
            RuntimeError: another process is making this run, or has just finished it.
            NotFinished: within `finished_only`.
        """
        self.check_may_be_made()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # A trainer holds it, too, so that none begins beside one that this process left behind.
            lock = FileLock(
                self.folder / ".lock", on_acquired=lambda fd: os.set_inheritable(fd, True)
            ).acquire(timeout=0)
        except Timeout:
            raise RuntimeError(
                f"run {self.name} is being made by another process; wait for it, or stop it first"
            ) from None
        except OSError as error:
            raise ValueError(
                f"'{portable(str(self.folder))}' cannot be written ({error.strerror}); allow it, or "
                "let runs/ be a link to a folder of yours"
            ) from None
        with lock:
            if self.finished:
                raise RuntimeError(
                    f"run {self.name} was finished by another process meanwhile; call again to use it"
                )
            before = self.record
            earlier = before.get("seconds", 0.0)
            started, began = datetime.now(UTC), time.monotonic()  # the clock may be set meanwhile
            here = provenance()
            this = {
                **here["git"],
                "versions": here["versions"],
                "started": started.isoformat(timespec="seconds"),
                "status": "running",
            }
            result: dict[str, Any] = {}
            self._write(
                {
                    "run": self.name,
                    "status": "running",
                    **self.identity,
                    "inputs_from": {k: portable(str(p)) for k, p in self.inputs.items()},
                    **notes,
                    **here,
                    "started": this["started"],
                    "seconds": earlier,
                    "tries": [*map(_over, before.get("tries", [])), this],
                }
            )
            status, made = "failed", {}
            try:
                yield result
                made = outputs.made(self.folder)
                status = "finished"
            except KeyboardInterrupt:
                status = "interrupted"
                raise
            finally:
                ended = datetime.now(UTC)
                end = {"status": status, "ended": ended.isoformat(timespec="seconds")}
                record = self.record
                *others, last = record["tries"]
                self._write(
                    record
                    | end
                    | {
                        "result": result,
                        "outputs": made,
                        "seconds": round(earlier + time.monotonic() - began, 1),
                        "tries": [*others, last | end],
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
        partial.write_text(json.dumps(_sealed(record), indent=1) + "\n")
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
    name = f"{stage}-{slug}-{fingerprint(identity)}"
    return Run(ROOT / "runs" / profile.name / name, identity, inputs)


def fingerprint(identity: dict[str, Any]) -> str:
    """The end of a run's name."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_run(folder: Path) -> Run:
    """The run recorded in `folder` (working state or published); its inputs may be elsewhere.

    Raises:
        ValueError: there is no record, or it was changed.
    """
    path = folder / "run.json"
    record = _read(path)
    if missing := [key for key in ("stage", "settings", "inputs") if key not in record]:
        raise _no_record(path, f"has no '{missing[0]}'")
    return Run(folder, {key: record[key] for key in ("stage", "settings", "inputs")}, {})


def _read(path: Path) -> dict[str, Any]:
    """A run.json; ValueError if it is none, or not as it was written."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _no_record(path, error) from None
    if not isinstance(record, dict):
        raise _no_record(path, f"holds {type(record).__name__}")
    # Those published with 0.1.0 have no seal.
    if "seal" in record and record != _sealed(record):
        raise ValueError(
            f"'{portable(str(path))}' was changed after it was written; restore it, or remove its "
            "folder if the run can be made again"
        )
    return record


def _no_record(path: Path, why: object) -> ValueError:
    return ValueError(
        f"'{portable(str(path))}' is no record of a run ({why}); restore it, or remove its "
        "folder if the run can be made again"
    )


def _sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a hash of all else in it under `seal`, by which a later change is noticed."""
    rest = {key: value for key, value in record.items() if key != "seal"}
    as_read = json.loads(json.dumps(rest))
    text = json.dumps(as_read, sort_keys=True)
    return rest | {"seal": hashlib.sha256(text.encode()).hexdigest()}


def _over(earlier: dict[str, Any]) -> dict[str, Any]:
    """A try before this one: killed, if it had no time to say how it ended (it held the lock)."""
    return earlier | {"status": "killed"} if earlier["status"] == "running" else earlier


def slug(label: str) -> str:
    """A label as part of a folder's name: "+DAPO w/ PR-scale*" -> "dapo-w-pr-scale-star"."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("*", "-star")).strip("-")
