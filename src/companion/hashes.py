"""What a policy, a file or a list of texts is known by: SHA-256 of all that is read of it, no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from companion.provenance import portable

WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
READ_BESIDE_WEIGHTS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
"""What transformers 5.10 (tokenization_utils_base.py:1628) and vLLM read of a policy's folder."""
PIECE = 2**24
"""Bytes read at a time."""


def content_hash(path: Path) -> str:
    """SHA-256 of a policy's folder, or of a plain file's bytes.

    Of a policy it covers what loading reads and nothing else: configuration, tokenizer, chat
    template and generation settings byte by byte, and of every tensor its name, type, shape and
    bytes. Not how tensors are laid out in files, nor the files' metadata, nor whatever else lies
    in the folder: notes, caches, a trainer's state, how a shipped policy was made.

    Raises:
        ValueError: nothing is there, or no policy whose weights can be read.
    """
    if not path.exists():
        raise ValueError(f"'{portable(str(path))}' does not exist; make it first or name another")
    if path.is_file():
        return file_hash(path)
    return _policy_hash(path, stamp([*weights(path), *beside_weights(path)]))


def stamp(files: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """Names, bytes and times of change (nanoseconds): what is read of files is cached by it."""
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_hash(texts: Iterable[str]) -> str:
    """SHA-256 over texts in order: what data, such as a list of prompts, is known by."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def weights(policy: Path) -> dict[Path, set[str]]:
    """The files that hold a policy's tensors: the one, or else those that the index names.

    Each with the tensors that the index says it holds; without an index that is not said.

    That is transformers' order (5.10, modeling_utils.py:595).

    Raises:
        ValueError: none, or one that the index names is missing, or that is no index.
    """
    if (policy / WEIGHTS).exists():
        return {policy / WEIGHTS: set()}
    if not (policy / SHARDS).exists():
        raise ValueError(
            f"'{portable(str(policy))}' is no policy: it has neither {WEIGHTS} nor {SHARDS}; "
            "give a Hugging Face folder"
        )
    files: dict[Path, set[str]] = {}
    try:
        for tensor, name in json.loads((policy / SHARDS).read_text())["weight_map"].items():
            files.setdefault(policy / name, set()).add(tensor)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"'{portable(str(policy / SHARDS))}' does not say which file has which tensor; restore it"
        ) from None
    if missing := [file.name for file in sorted(files) if not file.exists()]:
        raise ValueError(
            f"'{portable(str(policy))}' has no {missing[0]}, which its {SHARDS} names; restore it"
        )
    return dict(sorted(files.items()))


def tensors(file: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """A safetensors file's header without its metadata, and where the tensors' bytes begin.

    Raises:
        ValueError: the header cannot be read, or the file is shorter or longer than it says.
    """
    broken = ValueError(f"'{portable(str(file))}' is no whole safetensors file; restore it")
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        text = opened.read(length) if length <= size else b""
    try:
        header: dict[str, dict[str, Any]] = json.loads(text)
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, AttributeError, KeyError, TypeError):
        raise broken from None
    if 8 + length + end != size:
        raise broken
    return header, 8 + length


def beside_weights(policy: Path) -> list[Path]:
    """The files of READ_BESIDE_WEIGHTS that a policy has."""
    return sorted(path for name in READ_BESIDE_WEIGHTS for path in policy.glob(name))


@cache
def _policy_hash(policy: Path, stamp: tuple[tuple[str, int, int], ...]) -> str:
    """Cached by the files' sizes and times of change, so that large policies are read once."""
    digest = hashlib.sha256()
    for path in beside_weights(policy):
        digest.update(f"{path.relative_to(policy)} {file_hash(path)}\n".encode())
    found: dict[str, tuple[str, Path, int, int]] = {}
    for file in weights(policy):
        header, start = tensors(file)
        for name, entry in header.items():
            kind = f"{entry['dtype']} {entry['shape']}"
            begin, end = entry["data_offsets"]
            found[name] = kind, file, start + begin, end - begin
    for name, (kind, file, begin, size) in sorted(found.items()):
        digest.update(f"{name} {kind} {_part_hash(file, begin, size)}\n".encode())
    return digest.hexdigest()


def _part_hash(file: Path, begin: int, size: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        opened.seek(begin)
        for left in range(size, 0, -PIECE):
            digest.update(opened.read(min(left, PIECE)))
    return digest.hexdigest()
