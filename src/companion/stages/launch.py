"""Run a framework's command to its end: in processes here, or as a job of a Ray cluster."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from companion.stages import keeper
from companion.stages.log_end import log_end

RAY = str(Path(sys.executable).with_name("ray"))
PASSED_ON = ("COMPANION_", "HF_", "HUGGING_FACE_")
"""Prefixes of the caller's variables that a job of a cluster gets: where data and models lie."""
SECRET = re.compile("TOKEN|KEY|SECRET|PASS|CREDENTIAL|AUTH")
"""Not what is called so: Ray's dashboard shows a job's environment, and its script is a file.
`hf auth login` keeps a token in HF_HOME."""


def launch(
    words: list[str],
    environment: Mapping[str, str],
    log: Path,
    report: Callable[[], None],
    *,
    on_cluster: bool = False,
) -> None:
    """Run `words` beside `log`, which gets its output, calling `report` twice a second meanwhile.

    Whatever ends this call early (Ctrl-C in a notebook, an error in `report`) ends the command
    and all it started, too; so does the end of this process, be it by kill -9. A job of a cluster
    outlives that, and the next call for the same log stops it first.

    Args:
        environment: added to this process's own.
        on_cluster: submit to the Ray cluster in $RAY_ADDRESS, which shares this file system.

    Raises:
        RuntimeError: the command failed; the message ends with the last lines of its log.
    """
    job = f"{_jobs(log)}{uuid.uuid4().hex[:6]}" if on_cluster else None
    own = dict(os.environ)
    if job:
        _end_earlier_jobs(log)
        environment = {**passed_on(own), **environment}
        script = write_script(words, environment, log.with_suffix(".sh"))
        words = submission(job, script, environment)
    else:
        own.pop("RAY_ADDRESS", None)  # verl starts a Ray of its own, and would ask this one instead
    with log.open("a") as file:
        process = subprocess.Popen(
            keeper.command(words),
            env=own | dict(environment),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            start_new_session=True,
            close_fds=False,  # the lock of the run goes down, see runs.recording
        )
        try:
            while process.poll() is None:
                time.sleep(0.5)
                report()
        finally:
            if process.poll() is None:
                if job:  # the process is only the one that waits for it
                    subprocess.run([RAY, "job", "stop", job], stdout=file, stderr=file)
                process.terminate()
                process.wait()
    if process.returncode:
        end = log_end(log.read_text(errors="replace"))
        raise RuntimeError(f"{log.stem} failed; the end of its log:\n{end}")


def _jobs(log: Path) -> str:
    """How the ids of all jobs that write this log begin, and no others of the cluster do."""
    return f"{log.parent.name}-{hashlib.sha256(str(log).encode()).hexdigest()[:8]}-"


def _end_earlier_jobs(log: Path) -> None:
    """Stop what an earlier call left on the cluster: a job outlives whoever waited for it."""
    from ray.job_submission import JobSubmissionClient

    client = JobSubmissionClient(os.environ["RAY_ADDRESS"])
    ids = [job.submission_id or "" for job in client.list_jobs() if not job.status.is_terminal()]
    for job in ids:
        if job.startswith(_jobs(log)):
            client.stop_job(job)
            while not client.get_job_status(job).is_terminal():
                time.sleep(0.5)


def passed_on(own: Mapping[str, str]) -> dict[str, str]:
    """Of a process's environment what its job on a cluster needs, too."""
    return {
        name: value
        for name, value in own.items()
        if name.startswith(PASSED_ON) and not SECRET.search(name.upper())
    }


def submission(job: str, script: Path, environment: Mapping[str, str]) -> list[str]:
    """The command that submits `script` to the cluster in $RAY_ADDRESS and waits for its end.

    The environment is for the job's processes on other nodes; the script says it for a reader.
    """
    # verl gives its processes variables of its own, which Ray would refuse to add to the job's.
    variables = {**environment, "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}
    return [
        RAY,
        "job",
        "submit",
        "--submission-id",
        job,
        "--runtime-env-json",
        json.dumps({"env_vars": variables}),
        "--",
        "bash",
        str(script),
    ]


def write_script(words: list[str], environment: Mapping[str, str], path: Path) -> Path:
    """The command as a shell script, which runs by hand as well."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    lines = ["#!/bin/bash", f"cd {shlex.quote(str(path.parent))}", *exports]
    path.write_text("\n".join([*lines, f"exec {shlex.join(words)}"]) + "\n")
    return path
