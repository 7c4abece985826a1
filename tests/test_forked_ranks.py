"""Ranks forked from verl's driver: called as Ray's actors are, and gone when they should be."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from types import SimpleNamespace

import psutil
import pytest
import ray
import torch
from verl.single_controller.ray import base

from companion.adapters import forked_ranks
from companion.adapters.forked_ranks import Rank, get, with_driver

WAIT = 20
"""Seconds in which a process has surely ended."""


class Worker:
    def __init__(self, number=0):
        if number < 0:
            raise ValueError(f"number is {number}")
        self.number = number

    def plus(self, other, *, twice=False):
        return self.number + other * (2 if twice else 1)

    async def later(self):
        return self.number

    def where(self):
        return os.getpid(), os.environ["RANK"], torch.get_num_threads()

    def fails(self):
        raise KeyError("no such row")

    def sleeps(self):
        time.sleep(600)

    def dies(self):
        os._exit(3)


@pytest.fixture
def rank(request):
    made = []

    def make(number=0, rank=0, threads=1):
        variables = {"RANK": str(rank), "OMP_NUM_THREADS": str(threads)}
        made.append(Rank(lambda: Worker(number), variables))
        return made[-1]

    yield make
    for one in made:
        one.end()


def asked(rank, method, *args, **named):
    return getattr(rank, method).remote(*args, **named)


def test_a_method_is_called_in_another_process_with_the_ranks_own_environment(rank):
    ranks = [rank(number, rank=number, threads=2 - number) for number in range(2)]
    answers = get([asked(one, "plus", torch.tensor(3.0), twice=True) for one in ranks])
    assert answers == [6, 7] and get(asked(ranks[1], "later")) == 1  # awaited there
    places = get([asked(one, "where") for one in ranks])
    assert [place[1:] for place in places] == [("0", 2), ("1", 1)]
    assert len({os.getpid(), *(pid for pid, *_ in places)}) == 3
    assert "RANK" not in os.environ


def test_calls_to_one_rank_keep_their_order(rank):
    one = rank()
    assert get([asked(one, "plus", i) for i in range(50)]) == list(range(50))


@pytest.mark.fault("a framework reports an error")
def test_an_error_is_the_workers_own_and_the_rank_goes_on(rank, capfd):
    one = rank(1)
    with pytest.raises(KeyError, match="no such row"):
        get(asked(one, "fails"))
    assert get(asked(one, "plus", 1)) == 2
    assert "in fails" in capfd.readouterr().err  # where, for verl's log
    with pytest.raises(ValueError, match="number is -1"):  # as of an actor that cannot be made
        get(asked(rank(-1), "later"))


@pytest.mark.fault("a framework is killed")
def test_the_first_error_is_told_while_others_still_work(rank):
    """A rank that waits for one that died would wait for ever."""
    slow, dying = rank(), rank(rank=1)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="rank 1 of verl has ended"):
        get([asked(slow, "sleeps"), asked(dying, "dies")])
    assert time.monotonic() - begun < 300


def test_ray_is_itself_again_and_no_rank_is_left():
    worker = SimpleNamespace(__ray_metadata__=SimpleNamespace(modified_class=Worker))
    own = ray.get, ray.put, ray.ObjectRef, base.RayClassWithInitArgs.__call__
    with with_driver():
        assert ray.ObjectRef is Future and ray.put(1) == 1
        call = base.RayClassWithInitArgs(worker, 5)
        call.update_options({"runtime_env": {"env_vars": {"RANK": "0", "OMP_NUM_THREADS": "1"}}})
        made = call(None, 0)
        pid, *_ = ray.get(asked(made, "where"))
        assert psutil.pid_exists(pid)
    assert own == (ray.get, ray.put, ray.ObjectRef, base.RayClassWithInitArgs.__call__)
    assert forked_ranks._ranks == []
    made._process.join(WAIT)
    assert made._process.exitcode == -signal.SIGKILL


DRIVER = """
import os, time
from companion.adapters.forked_ranks import Rank, get
class Worker:
    def where(self): return os.getpid()
rank = Rank(Worker, {"RANK": "0", "OMP_NUM_THREADS": "1"})
print(get(rank.where.remote()), flush=True)
time.sleep(600)
"""


@pytest.mark.fault("a framework leaves processes behind")
def test_a_rank_ends_with_the_process_that_forked_it():
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True)
    left = psutil.Process(int(driver.stdout.readline()))
    driver.kill()
    driver.wait(WAIT)
    left.wait(WAIT)  # TimeoutExpired if it lives on
