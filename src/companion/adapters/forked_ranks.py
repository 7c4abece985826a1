"""verl's worker group over forked processes: a run on one machine's CPU cores, without Ray's daemons.

verl 0.9.1 starts a Ray of its own for a run: seven processes beside the trainer's, where a CPU run
needs the ranks alone, and each rank imports all of verl again. Within `with_driver` a rank is forked
from the process that has imported it, and called through a pipe. What verl asks of Ray here, and gets:

- actors (single_controller/ray/base.py:371): `Rank`, whose methods have `remote`, too;
- `ray.get`, and `ray.ObjectRef` (protocol.py:1268) for what is not there yet: futures; `ray.put`
  (utils/ray_utils.py:67): the value;
- placement groups, nodes and their resources (base.py:80, 135, 226): one place for all.

Ranks end with the process that forked them, be it by kill -9, as with a raylet they would.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ray
import torch
from ray import cloudpickle
from verl.single_controller.ray import base

from companion.stages.keeper import PR_SET_PDEATHSIG

_ranks: list[Rank] = []


@contextlib.contextmanager
def with_driver() -> Iterator[None]:
    """Within it, verl's workers are forked from this process; at its end they are gone."""
    with contextlib.ExitStack() as stack:
        for owner, name, instead in (
            (ray, "get", get),
            (ray, "put", lambda value: value),
            (ray, "ObjectRef", Future),
            (ray, "nodes", list),
            (base.RayClassWithInitArgs, "__call__", _fork),
            (base.RayResourcePool, "get_placement_groups", _one_place),
            (base, "sort_placement_group_by_node_ip", list),
            (base.ResourcePoolManager, "_check_resource_available", lambda _: None),
        ):
            stack.enter_context(mock.patch.object(owner, name, instead))
        try:
            yield
        finally:
            while _ranks:
                _ranks.pop().end()


def get(asked: Future | list[Future]) -> Any:
    """As `ray.get`: what was asked for, or the first error of any rank, even while others still wait."""
    if isinstance(asked, Future):
        return asked.result()
    for one in wait(asked, return_when=FIRST_EXCEPTION).done:
        one.result()
    return [one.result() for one in asked]


class Rank:
    """A worker in a process of its own, whose methods are called as those of a Ray actor."""

    def __init__(self, make: Any, variables: dict[str, str]):
        self._name = f"rank {variables['RANK']}"
        self._calls, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(there, make, variables), name=self._name, daemon=True
        )
        self._process.start()
        there.close()  # so that a rank that ends closes the pipe
        self._turns = ThreadPoolExecutor(max_workers=1)

    def __getattr__(self, method: str) -> SimpleNamespace:
        if method.startswith("__") and method != "__ray_call__":
            raise AttributeError(method)
        return SimpleNamespace(
            remote=lambda *args, **named: self._turns.submit(self._call, method, args, named)
        )

    def _call(self, *call: Any) -> Any:
        try:
            self._calls.send_bytes(cloudpickle.dumps(call))
            done, value = cloudpickle.loads(self._calls.recv_bytes())
        except (EOFError, OSError) as error:
            raise RuntimeError(f"{self._name} of verl has ended") from error
        if done:
            return value
        raise value

    def end(self) -> None:
        self._process.kill()
        self._turns.shutdown(cancel_futures=True)


def _fork(asked: base.RayClassWithInitArgs, *_: Any, **__: Any) -> Rank:
    worker = asked.cls.__ray_metadata__.modified_class
    make = partial(worker, *asked.args, **asked.kwargs)
    _ranks.append(Rank(make, asked._options["runtime_env"]["env_vars"]))
    return _ranks[-1]


def _one_place(pool: base.RayResourcePool, **_: Any) -> list[SimpleNamespace]:
    return [SimpleNamespace(bundle_count=count) for count in pool.store]


def _serve(calls: Connection, make: Any, variables: dict[str, str]) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ |= variables
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # the driver may measure with more
    asyncio.run(_answer(calls, make))


async def _answer(calls: Connection, make: Any) -> None:
    """Every method runs within an event loop, as in a Ray actor that has asynchronous ones."""
    worker = None
    while True:
        try:
            method, args, named = cloudpickle.loads(calls.recv_bytes())
        except EOFError:
            return
        try:
            worker = worker or make()
            value = getattr(worker, method)(*args, **named)
            answer = True, await value if inspect.isawaitable(value) else value
        except Exception as error:
            traceback.print_exc()
            answer = False, error
        calls.send_bytes(cloudpickle.dumps(answer))
