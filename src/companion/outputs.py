"""What a finished run made: size and SHA-256 of each file, for run.json, and whether it is there."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companion.hashes import file_hash, tensors

SHOWN = ("metrics.jsonl", "samples.parquet", "measurements.parquet")
"""Of MADE, what tables and figures are drawn from."""
MADE = (
    *SHOWN,
    "policy/**/*",
    "policies/step-*/**/*",  # an arm's policies before its last
    "swift/checkpoint-*/**/*",  # the path of a reheating, which analyses look at
)
"""What a stage leaves in its run's folder for others to use; the rest is a framework's, or a log."""


def made(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of everything in a run's folder that others use, by its path in there."""
    files = sorted({path for name in MADE for path in folder.glob(name) if path.is_file()})
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_hash(path),
        }
        for path in files
    }


def shortfall(path: Path, expected: Mapping[str, Any], *, wholly: bool = False) -> str | None:
    """What is wrong with an output, such as "is missing"; None if nothing is.

    Looks at its size and at how a table or a file of weights begins and ends.

    Args:
        expected: its entry of `made`.
        wholly: read and hash it, too.
    """
    if not path.is_file():
        return "is missing"
    if (size := path.stat().st_size) != expected["bytes"]:
        return f"has {size} of {expected['bytes']} bytes"
    if not opens(path):
        return "cannot be read"
    if wholly and file_hash(path) != expected["sha256"]:
        return "has another content than when it was made"
    return None


def whole(checkpoint: Path, *needed: str) -> bool:
    """Whether a trainer could go on from a checkpoint: it has what is `needed`, and no file was cut.

    Without its optimizer's file transformers 5.10 goes on with a new one, and says nothing.
    """
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    return all(any(checkpoint.glob(name)) for name in needed) and all(map(opens, files))


def opens(path: Path) -> bool:
    """Whether a parquet, safetensors or torch file has its frame; any other file does."""
    if path.suffix == ".parquet":
        if path.stat().st_size < 12:
            return False
        with path.open("rb") as file:
            begin = file.read(4)
            file.seek(-8, 2)
            end = file.read()
        return (
            begin == end[4:] == b"PAR1" and int.from_bytes(end[:4], "little") < path.stat().st_size
        )
    if path.suffix == ".safetensors":
        try:
            tensors(path)
        except ValueError:
            return False
    if path.suffix in (".pt", ".pth", ".bin"):
        return zipfile.is_zipfile(path)
    return True
