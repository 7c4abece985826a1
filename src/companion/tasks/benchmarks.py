"""The paper's data sets: DAPO-Math-17K to train on, and the benchmarks of Table 1 and Fig. 4.

They come from the Hugging Face hub, or from a local folder laid out as `Source.parts` says. What
was loaded first is what stays: revision and content are written to a lock file beside the cache
and every later load is checked against them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from companion import runs
from companion.tasks import Question

if TYPE_CHECKING:
    from companion import schema

INSTRUCTION = (
    "Solve the following math problem step by step. The last line of your response should be of "
    "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
REMINDER = '\n\nRemember to put your answer on its own line after "Answer:".'
"""DAPO's template: its training file holds the problems between these two (Yu et al. 2025)."""

LETTERS = "ABCD"
SHUFFLE = 0
"""Seed of the order of a multiple-choice problem's options."""
FORMATS = {".parquet": "parquet", ".jsonl": "json"}
LOCK = "companion-lock.json"


@dataclass(frozen=True)
class Source:
    """Where a data set is, and what it must hold."""

    hub: str
    parts: dict[str, str | None]
    """Local file, below the folder and without suffix -> the hub's config."""
    split: str
    """The hub's; a local file is one split."""
    problems: int
    spread: int = 0
    """How many problems more or fewer are accepted."""
    key: str = "unique_id"
    problem: str = "problem"
    answer: str = "answer"
    distractors: tuple[str, ...] = ()
    """Fields of the wrong options, where there are options."""
    csv: bool = False
    """Whether the hub's file is CSV, where an answer may read "None" or "NA" and is no gap."""
    revision: str | None = None
    """The hub's commit; None: the newest one at first load."""


TRAINING = "DAPO-Math-17K"
BENCHMARKS = {
    # By others' counts the file repeats 17,917 rows 100 times, with about 17,200 distinct problems
    # among them. It could not be counted here.
    TRAINING: Source(
        "BytedTsinghua-SIA/DAPO-Math-17k",
        {"dapo-math-17k/train": None},
        "train",
        17_200,
        300,
    ),
    "MATH-500": Source("HuggingFaceH4/MATH-500", {"math500/test": None}, "test", 500),
    "AIME24": Source("HuggingFaceH4/aime_2024", {"aime24/test": None}, "train", 30, key="id"),
    "AIME25": Source("math-ai/aime25", {"aime25/test": None}, "test", 30, key="id"),
    # The paper names no copy. This one could not be looked at here: id, split and fields are as
    # others use them.
    "AIME26": Source("MathArena/aime_2026", {"aime26/test": None}, "train", 30, key="problem_idx"),
    "OlymMATH": Source(
        "RUC-AIBOX/OlymMATH",
        {"olymmath/en-easy": "en-easy", "olymmath/en-hard": "en-hard"},
        "test",
        200,
    ),
    "GPQA Main": Source(
        "Idavidrein/gpqa",
        {"gpqa/gpqa_main": "gpqa_main"},
        "train",
        448,
        key="Record ID",
        problem="Question",
        answer="Correct Answer",
        distractors=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        csv=True,
    ),
}
"""Every data set by the paper's name. No revision is pinned: none could be checked here."""


def prompt(question: str) -> str:
    """The user message for a problem's text: one template for training and evaluation."""
    return f"{INSTRUCTION}{question}{REMINDER}"


def question(text: str) -> str:
    """A problem's text with DAPO's template, if it is there, and outer whitespace taken off."""
    return text.strip().removeprefix(INSTRUCTION).removesuffix(REMINDER).strip()


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
    cache.mkdir(parents=True, exist_ok=True)
    lock = _Lock(cache / LOCK, f"{name} from {folder.resolve() if folder else source.hub}")

    if folder:
        tables, revision = _from_folder(source, folder), None
    else:
        tables, revision = _from_hub(source, source.revision or lock.revision, cache)
    rows = _distinct(pa.concat_tables([_plain(name, source, table) for table in tables]))
    content = runs.text_hash(json.dumps(row, sort_keys=True) for row in rows)
    problems = [_problem(name, row) for row in rows]
    kept = _without_repeats(problems) if name == TRAINING else problems
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
    return sorted(problems, key=lambda p: hashlib.sha256(p.prompt.encode()).digest())


def folder_of(settings: schema.Task) -> Path | None:
    """Where a task's files are: `task.data`, else $COMPANION_DATA_DIR; None: on the hub."""
    folder = settings.data or os.environ.get("COMPANION_DATA_DIR")
    return Path(folder) if folder else None


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
                f"'{found[0]}' cannot be read ({_first_line(error)}); restore it"
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
            f"{source.hub} cannot be loaded from the Hugging Face hub ({_first_line(error)}); "
            f"check the network, or give a folder that holds {', '.join(source.parts)}"
        ) from None
    return tables, revision


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")


# --- From rows to problems ------------------------------------------------------------------


def _plain(name: str, source: Source, table: pa.Table) -> pa.Table:
    """The columns key, problem, answer and option 1..., as text, of the hub's fields or verl's."""
    if "reward_model" in table.column_names:
        columns = _verl_columns(name, table)
    else:
        fields = {"key": source.key, "problem": source.problem, "answer": source.answer}
        fields |= {f"option {i}": field for i, field in enumerate(source.distractors, 1)}
        missing = [field for field in fields.values() if field not in table.column_names]
        if missing:
            raise ValueError(
                f"{name} has no field '{missing[0]}' but {', '.join(table.column_names)}; use the "
                f"fields of {source.hub}, or verl's"
            )
        columns = {column: table[field] for column, field in fields.items()}
    return pa.table({column: pc.cast(values, pa.string()) for column, values in columns.items()})


def _verl_columns(name: str, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    try:
        prompts, extra = table["prompt"], table["extra_info"]
        ids = {field.name for field in extra.type}
        key = next(field for field in ("key", "index", "id") if field in ids)
        if pc.min_max(pc.list_value_length(prompts)).as_py() != {"min": 1, "max": 1}:
            raise ValueError("more than one message")
        return {
            "key": pc.struct_field(extra, key),
            "problem": pc.struct_field(pc.list_element(prompts, 0), "content"),
            "answer": pc.struct_field(table["reward_model"], "ground_truth"),
        }
    except (KeyError, StopIteration, TypeError, ValueError, NotImplementedError):
        raise ValueError(
            f"{name} has the field 'reward_model' and must then have verl's others: prompt with "
            "one message, reward_model.ground_truth, extra_info.index"
        ) from None


def _distinct(table: pa.Table) -> list[dict[str, Any]]:
    """The rows in order, without those that repeat an earlier one."""
    numbered = table.append_column("row", pa.array(range(table.num_rows)))
    first = numbered.group_by(table.column_names).aggregate([("row", "min")])["row_min"]
    return list(table.take(pa.array(sorted(first.to_pylist()))).to_pylist())


def _problem(name: str, row: dict[str, Any]) -> Question:
    fields = {field: (value or "").strip() for field, value in row.items()}
    fields["problem"] = question(fields["problem"])
    empty = [field for field, value in fields.items() if not value]
    if empty:
        raise ValueError(f"{name} has a row (key {row['key']!r}) without {empty[0]}; restore it")
    if "option 1" in fields:
        return _multiple_choice(name, fields)
    return Question(name, fields["key"], prompt(fields["problem"]), fields["answer"])


def _multiple_choice(name: str, fields: dict[str, str]) -> Question:
    """The options in an order that depends on SHUFFLE and the key alone."""
    options = [fields["answer"], *(fields[f] for f in fields if f.startswith("option"))]
    order = random.Random(f"{SHUFFLE}/{fields['key']}").sample(range(len(options)), len(options))
    shown = "\n".join(f"{letter}) {options[i]}" for letter, i in zip(LETTERS, order, strict=True))
    text = f"{fields['problem']}\n\n{shown}\n\nAnswer with the letter of the right option."
    return Question(name, fields["key"], prompt(text), LETTERS[order.index(0)])


def _without_repeats(problems: list[Question]) -> list[Question]:
    """The first of those that differ in whitespace alone; none where their answers differ."""
    groups: dict[str, list[Question]] = {}
    for problem in problems:
        groups.setdefault(" ".join(problem.prompt.split()), []).append(problem)
    return [group[0] for group in groups.values() if len({p.gold for p in group}) == 1]


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
        with FileLock(f"{self.path}.lock"):
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
        return json.loads(self.path.read_text()) if self.path.exists() else {}
