"""What a framework's log says of its failure."""

from __future__ import annotations

import re

LINES = 15
PREFIX = re.compile(r"^(\(\w+ pid=\d+\) ?)?((ERROR|INFO|WARNING) [\d:. -]+\[[\w.]+:\d+\] ?)?")
"""Before a line of vLLM's, by its process and its logger, or of Ray's, by its process."""
ERROR = re.compile(r"^[\w.]*(Error|Exception|Exit|Interrupt)\b: ?\S")
"""How the last line of a traceback begins."""


def log_end(text: str) -> str:
    """The last lines of a log, and before them the first errors that it names further up.

    What ends a process is rarely what failed: vLLM's engine, a rank or a worker of Ray's says that,
    and whoever waited for it only that it is gone.
    """
    lines = [PREFIX.sub("", line).rstrip() for line in text.strip().splitlines()]
    before, last = lines[:-LINES], lines[-LINES:]
    errors = dict.fromkeys(line for line in before if ERROR.match(line) and line not in last)
    return "\n".join([*list(errors)[:3], *last])
