"""metrics.jsonl: what a training said about itself, one line a step, each after the one before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from companion.provenance import portable


def lines(path: Path) -> list[str]:
    """The file's whole lines; none if there is no file.

    What is behind the last line's end was being written when its writer was killed.

    Raises:
        ValueError: a line is no JSON object with a step, or its step is not after the one before.
    """
    text = path.read_text(errors="replace") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1].splitlines(keepends=True)
    last = None
    for number, line in enumerate(whole, 1):
        try:
            step = json.loads(line)["step"]
            wrong = None if last is None or step > last else f"goes from step {last} to {step}"
            last = step
        except (ValueError, KeyError, TypeError):
            wrong = f"is {line.strip()[:40]!r}, which is no JSON object with a step"
        if wrong:
            raise ValueError(
                f"line {number} of '{portable(str(path))}' {wrong}; restore the file, or remove its "
                "folder to make the run again"
            )
    return whole


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of `lines`."""
    return [json.loads(line) for line in lines(path)]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Put rows in the place of what there is, all of them or none; ValueError as `lines`."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines(partial)
    partial.replace(path)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add the next step's row; ValueError as `lines`."""
    write(path, [*read(path), row])
