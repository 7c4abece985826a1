"""vLLM's engine, on GPUs a process of its own, leaves nothing behind: no process, no shared memory."""

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

ASKER = """
import sys, time
from pathlib import Path
from companion import params
from companion.stages import vllm_engine

profile = params.load("smoke", {"hardware.platform": "gpu", "rl.rollout_engine": "vllm"})
policy = params.ROOT / profile.task.base
asked = {"max_new_tokens": 8, "temperature": 1.0, "top_p": 1.0, "seed": 3}
with vllm_engine.opened(policy, profile.hardware) as sampler:
    sampler(["1 + 1?"], **asked)
    Path(sys.argv[1]).write_text("answered")
    while not Path(sys.argv[1]).with_name("close").exists():
        time.sleep(0.05)
Path(sys.argv[1]).write_text("closed")
"""

MEASURER = """
import sys
from companion import params
from companion.stages.entropy import token_entropy

gpu = {"hardware.platform": "gpu", "rl.rollout_engine": "vllm", "evaluation.engine": "vllm"}
profile = params.load("smoke", gpu | {"entropy.prompts": 8})
token_entropy(params.ROOT / profile.task.base, profile)
"""


def until(true, seconds):
    for _ in range(seconds * 10):
        if true():
            return True
        time.sleep(0.1)
    return False


def running(processes):
    """What those that are there are called; a dead one whose parent does not ask is not there."""
    return [
        process.cmdline()[:4]
        for process in processes
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def shared(processes):
    """The files of shared memory that they have mapped."""
    maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in processes]
    return {line.split()[-1] for text in maps for line in text.splitlines() if "/dev/shm/" in line}


@pytest.fixture
def asker(tmp_path):
    """A process with an open sampler, and all of vLLM's processes below it."""
    state = tmp_path / "state"
    process = subprocess.Popen([sys.executable, "-c", ASKER, str(state)])
    assert until(lambda: state.exists() and state.read_text() == "answered", 300)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 2  # vLLM, its engine, and what those have
    yield process, below, state
    for left in below:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.kill()
    process.wait()


def end(how, process, below, state):
    if how == "closed":
        state.with_name("close").touch()
        assert process.wait(120) == 0 and state.read_text() == "closed"
    elif how == "the asker is killed":
        process.kill()
        process.wait()
    else:
        [vllm] = [p for p in below if p.cmdline()[2:3] == ["companion.stages.vllm_engine"]]
        vllm.kill()


@pytest.mark.fault("vLLM's sampler is closed, or it or whoever asks it is killed")
@pytest.mark.parametrize(
    "how",
    ["closed", pytest.param("the asker is killed", marks=pytest.mark.slow), "vLLM is killed"],
)
def test_nothing_is_left(asker, how):
    process, below, state = asker
    files = shared(below)
    end(how, process, below, state)
    assert until(lambda: not running(below), 60), running(below)
    assert until(lambda: not any(Path(file).exists() for file in files), 5), files


@pytest.mark.fault("a trainer is killed while its checkpoint is measured")
def test_nothing_measures_on_when_the_trainer_is_killed():
    trainer = subprocess.Popen([sys.executable, "-c", MEASURER])
    below = []

    def measures():
        below[:] = psutil.Process(trainer.pid).children(recursive=True)
        return any("EngineCore" in words[0] for words in running(below))

    assert until(measures, 300)
    trainer.kill()
    trainer.wait()
    assert until(lambda: not running(below), 60), running(below)
