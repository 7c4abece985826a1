"""Processes that compare formulas, each started when first needed and replaced when it ends."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Pipe

WORKERS = min(8, os.cpu_count() or 1)
"""At most so many processes."""
_START_SECONDS = 120
_PATIENCE = 20
"""How much longer than its CPU time a comparison may last on a busy machine, as a factor."""


def ask(gold: str, answer: str, seconds: float) -> bool | None:
    """Whether two clean texts state the same, or None where a limit ended the comparison.

    Args:
        seconds: CPU time that the comparison may take.

    Raises:
        RuntimeError: the process does not start.
    """
    worker = _idle.get()
    try:
        if worker is None or worker.process.poll() is not None:
            worker = _Worker()
        return worker.ask(gold, answer, seconds)
    finally:
        _idle.put(worker)


class _Worker:
    """A process that runs sandbox.py, and the pipe to it."""

    def __init__(self) -> None:
        self.pipe, end = Pipe()
        self.number = 0
        # Not multiprocessing: its children import the parent's __main__, and daemons have none.
        # A session of its own, so that both processes can be ended and no interrupt reaches them.
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.sandbox", str(end.fileno())],
            pass_fds=[end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        end.close()
        reply = f"it ended or took {_START_SECONDS} s"
        with suppress(EOFError, ConnectionError):
            if self.pipe.poll(_START_SECONDS):
                reply = json.loads(self.pipe.recv_bytes())
        if reply != "ready":
            self.end()
            raise RuntimeError(f"the grading process did not start ({reply}); run make setup")

    def ask(self, gold: str, answer: str, seconds: float) -> bool | None:
        self.number += 1
        with suppress(EOFError, ConnectionError):  # the process has ended
            while self.pipe.poll():  # of a fork that something else ended in between
                self.pipe.recv_bytes()
            self.pipe.send_bytes(json.dumps([self.number, gold, answer, seconds]).encode())
            while self.pipe.poll(_PATIENCE * seconds):
                reply = json.loads(self.pipe.recv_bytes())
                if reply is None:
                    return None
                number, equal = reply
                if number == self.number:  # and not of a request that was interrupted
                    return None if equal is None else bool(equal)
        self.end()
        return None

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()


def _new_pool() -> None:
    global _idle
    _idle = queue.LifoQueue()
    for _ in range(WORKERS):
        _idle.put(None)


_idle: queue.LifoQueue[_Worker | None]
_new_pool()
os.register_at_fork(after_in_child=_new_pool)  # two processes must not share a worker
