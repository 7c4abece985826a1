"""The paper's data sets: DAPO-Math-17K to train on, and the benchmarks of Table 1 and Fig. 4.

They come from the Hugging Face hub, or from a local folder laid out as sources.py says. What
was loaded first is what stays: revision and content are written to a lock file beside the cache
and every later load is checked against them.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from filelock import FileLock

from companion import hashes
from companion.params import place
from companion.policies import as_text
from companion.provenance import first_line
from companion.tasks import Question, questions
from companion.tasks.sources import BENCHMARKS, TRAINING, Source

if TYPE_CHECKING:
    from companion import schema

FORMATS = {".parquet": "parquet", ".jsonl": "json"}
LOCK = "companion-lock.json"


def load(
    name: str, folder: Path | None = None, cache: Path | None = None
) -> tuple[list[Question], dict[str, Any]]:
    """The problems of a data set in its own order, and where they came from, for run.json.

    Repeated rows count once. Training problems that differ in whitespace alone count once too,
    and not at all where they state different answers: nothing could be learned from them.

    Args:
        name: of BENCHMARKS.
        folder: holds the files (.parquet or .jsonl, with the hub's fields or verl's); None: the
            hub, or what an earlier download left in the cache.
        cache: of `datasets`, with the lock file in it; None: its own default.

    Raises:
        ValueError: no such data set or file, or one with the wrong fields or number of problems,
            or other content than at first load.
        RuntimeError: the hub cannot be reached, or does not give access.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"name is '{name}' and must be one of {', '.join(BENCHMARKS)}")
    source = BENCHMARKS[name]
    cache = cache or default_cache()
    lock = _Lock(cache / LOCK, f"{name} from {folder.resolve() if folder else source.hub}")

    if folder:
        tables, revision = _from_folder(source, folder), None
    else:
        tables, revision = _from_hub(source, source.revision or lock.revision, cache)
    rows = questions.distinct(
        pa.concat_tables([questions.plain(name, source, table) for table in tables])
    )
    content = hashes.text_hash(json.dumps(row, sort_keys=True) for row in rows)
    problems = [questions.problem(name, row) for row in rows]
    kept = questions.without_repeats(problems) if name == TRAINING else problems
    _check(name, source, kept)
    lock.check(revision, content)
    return kept, {
        "data": name,
        "from": "a local folder" if folder else source.hub,
        "revision": revision,
        "sha256": content,
        "rows": sum(table.num_rows for table in tables),
        "problems": len(kept),
    }


def ordered(problems: list[Question]) -> list[Question]:
    """By the SHA-256 of their prompts: a random order that does not depend on the file's.

    The paper does not say how it chose the 2048 prompts of Fig. 13; ours are the first of these.
    """
    return sorted(problems, key=lambda p: hashlib.sha256(as_text(p.prompt).encode()).digest())


def folder_of(settings: schema.Task) -> Path | None:
    """Where a task's files are: `task.data`, else $COMPANION_DATA_DIR; None: on the hub."""
    folder = settings.data or os.environ.get("COMPANION_DATA_DIR")
    return place(folder) if folder else None


def default_cache() -> Path:
    """That of `datasets`, as its config has it; to import it takes seconds."""
    from huggingface_hub.constants import HF_HOME

    return Path(os.environ.get("HF_DATASETS_CACHE") or Path(HF_HOME) / "datasets")


# --- Getting the rows -----------------------------------------------------------------------


def _from_folder(source: Source, folder: Path) -> list[pa.Table]:
    """The tables of all parts, read past the cache: a file may change behind its time stamp."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    tables = []
    for part in source.parts:
        found = [path for suffix in FORMATS if (path := folder / f"{part}{suffix}").is_file()]
        if not found:
            raise ValueError(
                f"folder is '{folder}' and has no {part}.parquet or .jsonl; put the file "
                f"there, or give no folder to download {source.hub}"
            )
        try:
            data = load_dataset(
                FORMATS[found[0].suffix], data_files=str(found[0]), split="train", streaming=True
            )
            batches = list(data.with_format("arrow").iter(10_000))
            tables.append(pa.concat_tables(batches, promote_options="permissive"))
        except (DatasetsError, ValueError, StopIteration) as error:  # the last: an empty file
            raise ValueError(
                f"'{found[0]}' cannot be read ({first_line(error)}); restore it"
            ) from None
    return tables


def _from_hub(
    source: Source, revision: str | None, cache: Path
) -> tuple[list[pa.Table], str | None]:
    """The tables of all parts, and the commit they are of."""
    import datasets
    import httpx

    tables = []
    try:
        for config in source.parts.values():
            builder = datasets.load_dataset_builder(
                source.hub,
                config,
                revision=revision,
                cache_dir=str(cache),
                **({"keep_default_na": False} if source.csv else {}),
            )
            builder.download_and_prepare()
            tables.append(builder.as_dataset(source.split).with_format("arrow")[:])
            revision = builder.hash  # of all parts, and of the cached copy where there is no hub
    except (OSError, httpx.HTTPError, datasets.exceptions.DatasetsError, ValueError) as error:
        if "gated" in str(error):
            raise RuntimeError(
                f"{source.hub} is gated: accept its terms on its page of the Hugging Face hub, "
                "log in with `hf auth login` and load it again, or name it in task.leave_out"
            ) from None
        raise RuntimeError(
            f"{source.hub} cannot be loaded from the Hugging Face hub ({first_line(error)}); "
            f"check the network, or give a folder that holds {', '.join(source.parts)}"
        ) from None
    return tables, revision


def _check(name: str, source: Source, problems: list[Question]) -> None:
    if abs(len(problems) - source.problems) > source.spread:
        raise ValueError(
            f"{name} has {len(problems)} problems and must have {source.problems}"
            f"{f' ± {source.spread}' if source.spread else ''}; restore the file, or load it from "
            f"{source.hub}"
        )
    seen: set[str] = set()
    for problem in problems:
        if problem.key in seen:
            raise ValueError(f"{name} has two problems with the key '{problem.key}'; restore it")
        seen.add(problem.key)


@dataclass(frozen=True)
class _Lock:
    """What an entry of the lock file says a data set is."""

    path: Path
    entry: str

    @property
    def revision(self) -> str | None:
        found: str | None = self._read().get(self.entry, {}).get("revision")
        return found

    def check(self, revision: str | None, content: str) -> None:
        """Write the entry at first, ValueError where the content is another one later."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(f"{self.path}.lock").acquire()
        except OSError as error:
            raise ValueError(
                f"the cache of data sets, '{self.path.parent}', cannot be written "
                f"({error.strerror}); name another in HF_DATASETS_CACHE"
            ) from None
        with held:
            entries = self._read()
            known = entries.setdefault(self.entry, {"revision": revision, "sha256": content})
            if known["sha256"] != content:
                raise ValueError(
                    f"{self.entry} has changed: SHA-256 {content[:12]}… and at first load "
                    f"{known['sha256'][:12]}…; restore it, or delete the entry in '{self.path}' "
                    "to accept the new content"
                )
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(entries, indent=1) + "\n")
            partial.replace(self.path)

    def _read(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.path.read_text() if self.path.exists() else "{}")
        except ValueError:
            entries = None
        if not isinstance(entries, dict):
            raise ValueError(
                f"'{self.path}' cannot be read; restore it, or remove it to accept what is loaded next"
            )
        return entries
