"""Runs a command for as long as whoever asked for it lives, and ends all that the command started.

    python -m companion.stages.keeper COMMAND ...     its stdin a pipe that the asker holds open

The pipe closes when the asker closes it or dies, of whatever (kill -9, memory, a closed terminal).
The processes of a framework are not all the command's own children: those of Ray leave their
parents. As their subreaper (prctl(2)) this process becomes the parent of each that is left alone.
Shared memory of theirs that they could not give back is removed, and so is what they left in the
folder for temporary files, which is one of their own.
Should it be killed itself, the command is killed with it, and what notices that ends, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import tempfile

import psutil

from companion.stages.shared_memory import SharedMemory

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
PATIENCE = 20
"""Seconds that processes have to end by themselves."""


def command(words: list[str]) -> list[str]:
    """The words that run `words` under a keeper."""
    return [sys.executable, "-m", __name__, *words]


def end_with(parent: int) -> None:
    """Have this process killed as soon as the one that started it, `parent`, ends in whatever way."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def keep(words: list[str]) -> int:
    """Run `words` to its end, or to that of stdin; then nothing it started is left.

    Returns its exit status, as of a shell where a signal ended it.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)  # nothing can come in the midst of _end_all
    with tempfile.TemporaryDirectory(prefix="companion-", ignore_cleanup_errors=True) as folder:
        return _keep(words, os.environ | _temporary(folder))


def _keep(words: list[str], environment: dict[str, str]) -> int:
    memory = SharedMemory()
    process = subprocess.Popen(
        words,
        env=environment,
        stdin=subprocess.DEVNULL,
        close_fds=False,  # the lock of the run goes down, see runs.recording
        preexec_fn=_in_the_command,
    )
    try:
        ends = [sys.stdin, os.pidfd_open(process.pid)]
        while not (select.select(ends, [], [], 0.2)[0] or signal.sigpending()):
            memory.look()
        if (status := process.poll()) is None:
            return 128 + min(signal.sigpending(), default=signal.SIGTERM)
        return status if status >= 0 else 128 - status
    finally:
        memory.look()
        _end_all(process)
        memory.remove()


def _temporary(folder: str) -> dict[str, str]:
    """Where the command puts its temporary files: verl alone leaves a lock for each that it saves.

    But where they were for what others look for afterwards: Ray's logs, and what torch compiled.
    """
    usual = tempfile.gettempdir()
    lasting = {
        "RAY_TMPDIR": usual,
        "TORCHINDUCTOR_CACHE_DIR": f"{usual}/torchinductor-{os.getuid()}",
    }
    return {"TMPDIR": folder} | {name: os.environ.get(name, lasting[name]) for name in lasting}


def _in_the_command() -> None:
    """What the command inherits: it is killed with its keeper, and hears the signals itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)


def _end_all(process: subprocess.Popen) -> None:
    """End every process below this one: at first kindly, so that it removes its shared memory.

    `process`, the command itself, is asked first: it knows in which order its own have to end.
    """
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    for ending in (signal.SIGTERM, signal.SIGKILL):
        below = psutil.Process().children(recursive=True)
        for left in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.send_signal(ending)
        psutil.wait_procs(below, timeout=PATIENCE)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
