"""Whoever asks for a training may be killed: what it started ends with it, and nothing is lost."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing import shared_memory
from pathlib import Path

import psutil
import pytest
from conftest import save_policy

from companion import params, runs
from companion.stages.launch import launch
from companion.stages.shared_memory import SHM

NOTEBOOK = """
import signal, sys
from pathlib import Path
from companion import params, runs
from companion.stages.launch import launch

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup, around these tests, ignores
runs.ROOT = Path(sys.argv[1])
run = runs.open_run(params.load("smoke"), "train", "x", {}, {"policy": runs.ROOT / "policy"})
with run.recording():
    launch([sys.executable, "-c", sys.argv[2]], {}, run.folder / "log", lambda: None)
"""
TRAINER = """
import os, subprocess, sys, time
from pathlib import Path
# As a worker of Ray: a process group of its own, and a parent that leaves it alone.
worker = "import os, time; os.setpgrp(); open('worker', 'w').write(str(os.getpid())); time.sleep(60)"
subprocess.Popen(["sh", "-c", f'{sys.executable} -c "{worker}" &'])
Path("trainer").write_text(str(os.getpid()))
time.sleep(60)
"""
LEAVES = """
worker = Path("worker")  # the trainer ends once its worker is up
while not (worker.exists() and worker.read_text()):
    time.sleep(0.05)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    inputs = {"policy": save_policy(tmp_path / "policy")}
    return runs.open_run(params.load("smoke"), "train", "x", {}, inputs)


def until(true, seconds=20):
    for _ in range(seconds * 20):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("waited in vain")


def started(run, tmp_path):
    """A notebook that trains, with its trainer and a worker, once all of them are up."""
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK, str(tmp_path), TRAINER])
    files = [run.folder / name for name in ("trainer", "worker")]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    return notebook, [psutil.Process(int(file.read_text())) for file in files]


@pytest.mark.fault("the notebook is killed (KILL, TERM, HUP)")
@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_trainer_ends_with_the_notebook_and_holds_the_lock_until_then(run, tmp_path, signal_):
    notebook, trainers = started(run, tmp_path)
    session = os.getsid(trainers[0].pid)
    for process in trainers:
        process.suspend()  # it cannot end kindly: as one in the middle of a step
    notebook.send_signal(signal_)
    notebook.wait(20)
    for _ in range(10):
        with pytest.raises(RuntimeError, match="is being made by another process"):
            with run.recording():
                pass
        time.sleep(0.05)
    for process in trainers:
        with contextlib.suppress(psutil.NoSuchProcess):  # the first takes the other along
            process.resume()
    until(lambda: not any(p.is_running() for p in trainers))
    until(lambda: session not in map(session_of, psutil.pids()))
    with run.recording():
        pass
    assert [one["status"] for one in run.record["tries"]] == ["killed", "finished"]


def session_of(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.fault("the keeper is killed")
def test_a_trainer_ends_with_its_keeper(run, tmp_path):
    notebook, trainers = started(run, tmp_path)
    [keeper] = psutil.Process(notebook.pid).children()
    keeper.kill()
    assert notebook.wait(20) == 1  # the call has failed
    until(lambda: not trainers[0].is_running())
    assert run.record["status"] == "failed"
    trainers[1].kill()  # which Ray does, whose workers have a raylet to lose


@pytest.mark.fault("the keeper is told to end again and again")
def test_a_keeper_asked_twice_still_ends_them_all(run, tmp_path):
    notebook, trainers = started(run, tmp_path)
    [keeper] = psutil.Process(notebook.pid).children()
    trainers[0].suspend()
    for number in [signal.SIGTERM, signal.SIGINT, signal.SIGHUP] * 20_000:  # at any moment of it
        keeper.send_signal(number)
    assert keeper.is_running()  # with its trainer, which cannot end yet
    trainers[0].resume()
    until(lambda: not any(p.is_running() for p in (keeper, *trainers)))
    notebook.wait(20)


@pytest.mark.fault("a framework leaves processes behind")
def test_what_a_command_leaves_behind_ends_with_it(tmp_path):
    worker = tmp_path / "worker"
    leaves = TRAINER.replace("time.sleep(60)\n", LEAVES)
    launch([sys.executable, "-c", leaves], {}, tmp_path / "log", int)
    assert not psutil.pid_exists(int(worker.read_text()))


@pytest.mark.fault("a framework is killed")
def test_a_status_is_the_commands_own(tmp_path):
    with pytest.raises(RuntimeError, match="log failed"):
        launch(
            [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], {}, tmp_path / "log", int
        )


SHARES = """
import subprocess, sys, time
from pathlib import Path
import psutil

worker = sys.argv[1] + "; open('name', 'w').write(name); import time; time.sleep(60)"
process = psutil.Popen([sys.executable, "-c", worker])
while not (Path("name").exists() and Path("name").read_text()):
    time.sleep(0.05)
time.sleep(1)
for killed in [*process.children(), process]:  # as Ray ends an actor and all below it
    killed.kill()
"""


QUEUE = """
from multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=64)
name = memory.name"""
SEMAPHORE = """
from multiprocessing import get_context
semaphore = get_context('spawn').Semaphore()
name = 'sem.' + semaphore._semlock.name.removeprefix('/')"""


@pytest.mark.fault("a worker is killed before it can give back its shared memory")
@pytest.mark.parametrize(("makes", "named"), [(QUEUE, "psm_"), (SEMAPHORE, "sem.mp-")])
def test_shared_memory_that_a_killed_worker_leaves_is_removed_and_no_other(tmp_path, makes, named):
    mine = shared_memory.SharedMemory(create=True, size=64)
    try:
        launch([sys.executable, "-c", SHARES, makes], {}, tmp_path / "log", int)
        name = (tmp_path / "name").read_text()
        assert name.startswith(named) and not (SHM / name).exists()
        assert (SHM / mine.name).exists()
    finally:
        mine.close()
        mine.unlink()


def test_temporary_files_go_with_the_command_but_rays_logs(tmp_path):
    asks = "import os, tempfile; print(tempfile.mkstemp()[1], os.environ['RAY_TMPDIR'])"
    launch([sys.executable, "-c", asks], {}, tmp_path / "log", int)
    file, rays = map(Path, (tmp_path / "log").read_text().split())
    assert file.parent.parent == rays == Path(tempfile.gettempdir())
    assert not file.parent.exists()
