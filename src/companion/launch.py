"""Run a framework's command to its end, in a process group of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def launch(
    words: list[str], environment: Mapping[str, str], log: Path, report: Callable[[], None]
) -> None:
    """Run `words` beside `log`, which gets its output, calling `report` twice a second meanwhile.

    Whatever ends this call early (Ctrl-C in a notebook, an error in `report`) ends the command
    and all it started, too.

    Args:
        environment: added to this process's own.

    Raises:
        RuntimeError: the command failed; the message ends with the last lines of its log.
    """
    with open(log, "a") as file:
        process = subprocess.Popen(
            words, env=os.environ | dict(environment), stdout=file, stderr=subprocess.STDOUT,
            cwd=log.parent, start_new_session=True,
        )
        try:
            while process.poll() is None:
                time.sleep(0.5)
                report()
        finally:
            if process.poll() is None:
                _end(process)
    if process.returncode:
        tail = "\n".join(log.read_text(errors="replace").strip().splitlines()[-15:])
        raise RuntimeError(f"{log.stem} failed; the end of its log:\n{tail}")


def _end(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
