"""The program of a worker process: compares what models wrote under limits of time and memory.

It is two processes: one imports and waits, the other is its fork and compares, until a limit ends
it and the next fork takes over. A fork takes milliseconds, the imports a second or two. An audit
hook refuses the fork whatever would evaluate a text, write, or start something.
"""

import json
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from companion.tasks.grading.comparison import Leaf, same

MEMORY = 2 * 1024**3
"""Address space of the process that compares, in bytes."""


def serve(pipe: Connection) -> None:
    """Answers requests until the other end is closed, in JSON; null where a limit ended the fork.

    The first message is "ready", or what went wrong. To each request (number, gold, answer,
    seconds) the reply is (number, true, false or null).
    """
    try:
        same_formula = prepare()
    except Exception as error:
        _send(pipe, f"{type(error).__name__}: {error}")
        return
    _send(pipe, "ready")
    while True:
        fork = os.fork()
        if fork == 0:
            confine()
            _compare(pipe, same_formula)
            os._exit(0)
        _, status = os.waitpid(fork, 0)
        if status == 0:
            return
        _send(pipe, None)


def prepare() -> Leaf:
    """Imports all that formulas need and lets the parser fill its tables; returns the rule."""
    from companion.tasks.grading.formulas import same_formula

    logging.disable()
    same_formula(r"\frac{\sqrt{2}x^{2}}{3}-2\pi(x+1)", r"\cos x")
    return same_formula


def confine() -> None:
    """Limits this process to MEMORY and takes its means to evaluate, to write and to start."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)  # a cluster may allow less
    memory = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_refuse)


_REFUSED = ("os.", "pty.", "shutil.", "socket.", "subprocess.")
_IMPORTS = ("os.listdir", "os.scandir")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if (
        (event.startswith(_REFUSED) and event not in _IMPORTS)
        or (event == "compile" and arguments[1] == "<string>")  # eval and exec of a text
        or (event == "open" and arguments[2] & _WRITES)
    ):
        raise PermissionError(f"{event} is refused to a process that reads model text")


def _compare(pipe: Connection, same_formula: Leaf) -> None:
    while True:
        try:
            number, gold, answer, seconds = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, seconds)  # SIGPROF ends a process, in C code as well
        try:
            equal = same(gold, answer, same_formula)
        except MemoryError:
            equal = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(pipe, [number, equal])


def _send(pipe: Connection, message: object) -> None:
    pipe.send_bytes(json.dumps(message).encode())


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # nobody is left to be told
        serve(Connection(int(sys.argv[1])))
