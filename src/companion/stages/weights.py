"""A policy's files, made from another's without loading a model. Knows nothing of runs, nor of why."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from companion import hashes


def place(file: Path, start: Path, folder: Path) -> Path:
    """Where a file of the policy `start` is to lie in `folder`, which has a place for it then."""
    path = folder / file.relative_to(start)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def index(start: Path) -> list[Path]:
    """The file that says which file of `start` has which tensor, if it has several."""
    return [] if (start / hashes.WEIGHTS).exists() else [start / hashes.SHARDS]


def link(file: Path, path: Path) -> None:
    """Have `file` under a second name, which takes no room; a copy where that cannot be.

    Whoever writes weights writes a new file and renames it, so that neither name changes the other's.
    """
    path.unlink(missing_ok=True)
    try:
        os.link(file.resolve(), path)  # a hub's cache holds links
    except OSError:  # another disk, or one that knows no second names
        shutil.copyfile(file, path)


def replace(file: Path, values: Mapping[str, np.ndarray], path: Path) -> None:
    """Write `file` (safetensors) to `path` with these tensors, by their names, in float32.

    All others keep their bytes, in order; `hashes.PIECE` bytes are in memory at a time. A `path` that
    was written so before only gets these tensors anew.
    """
    header, begin = hashes.tensors(file)
    anew = {name: tensor.astype("<f4").tobytes() for name, tensor in values.items()}
    with file.open("rb") as source:
        source.seek(8)
        text = json.loads(source.read(begin - 8))
        parts, at = [], 0
        for name in sorted(header, key=lambda name: header[name]["data_offsets"]):
            start, end = header[name]["data_offsets"]
            parts.append((name, start, end - start, at))
            size = len(anew.get(name, b"")) or end - start
            text[name]["data_offsets"] = [at, at + size]
            at += size
        for name in anew:
            text[name]["dtype"] = "F32"
        written = json.dumps(text, separators=(",", ":")).encode()
        head = len(written) + -len(written) % 8  # tensors begin at a multiple of 8
        if not (path.exists() and _begins(path, written, head, at)):
            path.unlink(missing_ok=True)  # which may be another's second name
            with path.open("wb") as target:
                target.write(head.to_bytes(8, "little") + written.ljust(head))
                for name, start, size, _ in parts:
                    if name in anew:
                        target.write(anew[name])
                    else:
                        _copy(source, begin + start, size, target)
            return
    with path.open("r+b") as target:
        for name, _, _, at in parts:
            if name in anew:
                target.seek(8 + head + at)
                target.write(anew[name])


def _begins(path: Path, text: bytes, head: int, size: int) -> bool:
    """Whether a file has this header, and `size` bytes of tensors."""
    with path.open("rb") as file:
        same = file.read(8 + head) == head.to_bytes(8, "little") + text.ljust(head)
    return same and path.stat().st_size == 8 + head + size


def _copy(source: IO[bytes], begin: int, size: int, target: IO[bytes]) -> None:
    source.seek(begin)
    for left in range(size, 0, -hashes.PIECE):
        target.write(source.read(min(left, hashes.PIECE)))
