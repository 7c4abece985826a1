"""The shared memory of a keeper's processes: a file in /dev/shm that outlives whoever was killed.

vLLM's queues between its processes take 400 MiB, which Python gives back where a process ends in
order. Ray ends its actors by SIGKILL.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

SHM = Path("/dev/shm")


class SharedMemory:
    """The files of shared memory that processes below this one have made, since it looks."""

    def __init__(self) -> None:
        self.known, self.new = _files(), set[Path]()
        self.made_below = set[Path]()

    def look(self) -> None:
        """Whose are the files that are new? Asked twice: one may be there before it is mapped.

        Cheap where there are none, which is nearly always.
        """
        found = _files() - self.known
        if found:
            mapped = _mapped_below()
            self.made_below |= {file for file in found if _inode(file) in mapped}
        self.known |= found & self.new
        self.new = found

    def remove(self) -> None:
        """What is left of them, once the processes have ended."""
        for file in self.made_below:
            file.unlink(missing_ok=True)


def _files() -> set[Path]:
    with contextlib.suppress(FileNotFoundError):  # no such place, no such files
        return set(SHM.iterdir())
    return set()


def _inode(file: Path) -> int | None:
    with contextlib.suppress(FileNotFoundError):  # it is gone by itself
        return file.stat().st_ino
    return None


def _mapped_below() -> set[int]:
    """By inode: glibc makes a semaphore under another name than it gets (sem_open)."""
    mapped = set[int]()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(OSError):  # it has ended
            lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
            mapped |= {int(line.split()[4]) for line in lines if f"{SHM}/" in line}
    return mapped
