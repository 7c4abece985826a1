"""SHA256SUMS: the hashes of files that nothing here can make again, as coreutils write them.

`(cd results/laptop && sha256sum -c SHA256SUMS)` checks them without Python.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from companion.hashes import file_hash

NAME = "SHA256SUMS"
PUBLISHED = ("index.csv", "profile.json", "runs/*/*", "notebooks/seed*/*.ipynb")
"""Of results/<profile>/: what was measured. Tables, figures and the page are drawn again instead."""
SHIPPED = ("*/*",)
"""Of results/checkpoints/."""


def write(folder: Path, patterns: Sequence[str], coming: Mapping[str, Path] | None = None) -> Path:
    """Write the hashes of a folder's files that match, a line a file.

    Args:
        coming: by their names, files that are put into their places with the list: where it cannot
            be written, they are not either.
    """
    coming = dict(coming or {})
    found = {name: folder / name for name in _files(folder, patterns)} | coming
    partial = folder / f"{NAME}.partial"
    partial.write_text("".join(f"{file_hash(found[name])}  {name}\n" for name in sorted(found)))
    for name, path in coming.items():
        path.replace(folder / name)
    return partial.replace(folder / NAME)


def check(folder: Path, patterns: Sequence[str]) -> list[str]:
    """What is missing, changed or not listed, a phrase each; nothing if all is as it was written."""
    listed = read(folder)
    added = [name for name in _files(folder, patterns) if name not in listed]
    return changed(folder) + [f"{name} is not listed in {NAME}" for name in added]


def check_unchanged(folder: Path) -> None:
    """ValueError if something was published and is not as it was."""
    if folder.exists() and (wrong := changed(folder)):
        raise ValueError(f"of the results in '{folder.name}', {wrong[0]}; restore it first")


def changed(folder: Path) -> list[str]:
    """What of the listed files is missing or changed, a phrase each."""
    wrong = []
    for name, digest in read(folder).items():
        if not (folder / name).is_file():
            wrong.append(f"{name} is missing")
        elif file_hash(folder / name) != digest:
            wrong.append(f"{name} has another content than {NAME} says")
    return wrong


def read(folder: Path) -> dict[str, str]:
    """Hashes by the files' names; ValueError without a readable list."""
    path = folder / NAME
    try:
        return {name: digest for digest, name in map(_entry, path.read_text().splitlines())}
    except (OSError, ValueError) as error:
        raise ValueError(f"'{folder.name}/{NAME}' cannot be read ({error}); restore it") from None


def _entry(line: str) -> tuple[str, str]:
    digest, _, name = line.partition("  ")
    if len(digest) != 64 or not name:
        raise ValueError(f"'{line}' is no hash and name")
    return digest, name


def _files(folder: Path, patterns: Sequence[str]) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file()
    )
