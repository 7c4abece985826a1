"""What this machine has: facts for `companion.doctor`, each looked up within seconds."""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import psutil

from companion.machine.memory import GIB
from companion.params import ROOT

T = TypeVar("T")

PATIENCE = 4.0
"""Seconds that a network may take."""


def gpus() -> list[tuple[float, float]]:
    """Of every GPU that CUDA_VISIBLE_DEVICES leaves, its memory and what is free of it, in GiB."""
    words = ["nvidia-smi", "--query-gpu=memory.total,memory.free", "--format=csv,noheader,nounits"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return []
    try:
        text = subprocess.run(
            words + ([f"--id={visible}"] if visible else []),
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = (line.split(",") for line in text.splitlines())
    return [(int(total) / 1024, int(free) / 1024) for total, free in rows]


def cuda() -> tuple[bool, str]:
    """Whether torch can use a GPU here, and the CUDA it was built for; in a process of its own."""
    ask = "import torch; print(torch.cuda.is_available(), torch.version.cuda)"
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ask], capture_output=True, text=True, check=True
    ).stdout
    usable, version = said.split()[-2:]
    return usable == "True", version


def driver() -> str | None:
    """NVIDIA's driver, by its version."""
    words = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def headers() -> str | None:
    """Where Python.h lies, if it does."""
    path = Path(sysconfig.get_path("include"), "Python.h")
    return str(path) if path.exists() else None


def temporary() -> tuple[str, float]:
    """The folder for temporary files, and what is free there, in GiB."""
    folder = tempfile.gettempdir()
    return folder, shutil.disk_usage(folder).free / GIB


def available_gib() -> float:
    """Host memory that programs can still get."""
    return psutil.virtual_memory().available / GIB


def free_disk_gib() -> float:
    """Where runs/ is, or will be."""
    runs = ROOT / "runs"
    return shutil.disk_usage(runs if runs.exists() else ROOT).free / GIB


def shared_gib() -> float:
    """All of /dev/shm."""
    return shutil.disk_usage("/dev/shm").total / GIB


def open_files() -> tuple[int, int]:
    """Files that a process may open: the limit it has, and the one it can ask for."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def compilers() -> list[str]:
    """C compilers, that in CC first."""
    names = (os.environ.get("CC"), "cc", "gcc", "clang")
    return [name for name in names if name and shutil.which(name)]


def packages() -> dict[str, str]:
    """Versions of what is installed."""
    found = importlib.metadata.distributions()
    return {_plain(package.metadata["Name"]): package.version for package in found}


def pins(platform: str) -> dict[str, str]:
    """Versions that requirements/<platform>.txt names; the hashes after each are pip's business."""
    text = (ROOT / "requirements" / f"{platform}.txt").read_text()
    return {_plain(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==(\S+)", text)}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def answers(address: str) -> bool:
    """Whether anything listens at host:port or a URL; without a port, at Ray's dashboard's."""
    url = urlsplit(address if "//" in address else f"//{address}")

    def connect() -> bool:
        try:
            socket.create_connection((url.hostname, url.port or 8265), timeout=PATIENCE).close()
        except OSError:
            return False
        return True

    return bool(together({address: connect}).get(address))


def together(questions: Mapping[str, Callable[[], T]], patience: float = PATIENCE) -> dict[str, T]:
    """What each question says within `patience` seconds, all asked at once; late ones are left out.

    Their threads are left behind: looking up a host's name has no time limit of its own.
    """
    said: dict[str, T] = {}
    threads = [
        threading.Thread(target=lambda n=name, ask=ask: said.update({n: ask()}), daemon=True)
        for name, ask in questions.items()
    ]
    until = time.monotonic() + patience
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(said)
