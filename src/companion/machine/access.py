"""Can the base model and the data sets be had? From a folder, a cache or the hub, within seconds.

Nothing is downloaded. Each answer is whether, and from where or why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from companion import policies, schema, tasks
from companion.machine.facts import together
from companion.params import place
from companion.tasks import benchmarks, own
from companion.tasks.sources import BENCHMARKS, Source

THERE = "on the hub"
SILENT = "the Hugging Face hub does not answer"
GATED = (
    "gated: accept its terms on its page of the hub, then `hf auth login`, or name it in "
    "task.leave_out"
)
UNKNOWN = "not on the hub by this name, or private"


def to_model(base: str) -> tuple[bool, str]:
    """A profile's task.base."""
    if base.startswith(policies.DRAWN):
        there = (place(base.removeprefix(policies.DRAWN)) / "config.json").is_file()
        return there, "a local folder, weights drawn" if there else "no config.json there"
    if place(base).is_dir():
        return _policy(place(base), "a local folder")
    name, _, revision = base.partition("@")
    cached = _in_cache(name, revision or None)
    if cached:
        return _policy(cached, "in the hub's cache")
    says = together({name: lambda: ask_hub(name, "model")}).get(name, SILENT)
    return says == THERE, says


def to_data(task: schema.Task) -> tuple[bool, str]:
    """The data sets of a profile's task."""
    if task.name == "countdown":
        return True, "made by rule"
    if task.name == "own":
        return _readable(task)
    module = tasks.of(task.name)
    names = {module.TRAINING, *module.suites(task, "test")} - set(task.leave_out)
    sources = {name: source for name, source in BENCHMARKS.items() if name in names}
    folder = benchmarks.folder_of(task)
    if folder:
        missing = missing_files(folder, sources)
        return not missing, f"no {', no '.join(missing)}" if missing else "a local folder"
    known = _loaded_before()
    asked = {
        name: source.hub
        for name, source in sources.items()
        if f"{name} from {source.hub}" not in known
    }
    says = together({name: partial(ask_hub, hub, "dataset") for name, hub in asked.items()})
    return summary(list(sources), {name: says.get(name, SILENT) for name in asked})


def _readable(task: schema.Task) -> tuple[bool, str]:
    try:
        return True, f"{len(own.training(task))} training prompts in a file"
    except ValueError as error:
        return False, str(error)


def missing_files(folder: Path, sources: Mapping[str, Source]) -> list[str]:
    """Files without suffix that a local folder of data sets lacks."""
    parts = [part for source in sources.values() for part in source.parts]
    return [
        part
        for part in parts
        if not any((folder / f"{part}{suffix}").is_file() for suffix in benchmarks.FORMATS)
    ]


def summary(names: list[str], says: Mapping[str, str]) -> tuple[bool, str]:
    """One answer for data sets of which the hub was asked about some, those never loaded here."""
    refused: dict[str, list[str]] = {}
    for name, answer in says.items():
        if answer != THERE:
            refused.setdefault(answer, []).append(name)
    if not refused:
        here = len(names) - len(says)
        return True, f"{here} of {len(names)} loaded before, the others on the hub"
    return False, "; ".join(f"{', '.join(which)}: {why}" for why, which in refused.items())


def ask_hub(repository: str, kind: str) -> str:
    """THERE, or why a "model" or "dataset" cannot be downloaded with this machine's login."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().auth_check(repository, repo_type=kind)
    except GatedRepoError:
        return GATED
    except RepositoryNotFoundError:
        return UNKNOWN
    except (HfHubHTTPError, httpx.HTTPError, OSError):
        return SILENT
    return THERE


def _policy(folder: Path, where: str) -> tuple[bool, str]:
    try:
        policies.check_policy(folder)
    except ValueError as error:
        return False, str(error)
    return True, where


def _in_cache(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=policies.FILES, local_files_only=True
            )
        )
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _loaded_before() -> str:
    """The lock file of `benchmarks.load`, which names what was loaded."""
    lock = benchmarks.default_cache() / benchmarks.LOCK
    return lock.read_text() if lock.exists() else ""
