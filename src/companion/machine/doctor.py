"""Does this machine have what a profile needs? Looks, says what is wrong, and changes nothing.

Of a cluster it sees this node.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import pandas as pd

from companion.machine import access, facts
from companion.machine.memory import GPU_GIB, host_gib, peaks
from companion.machine.plan import plan
from companion.provenance import PACKAGES as FRAMEWORKS
from companion.schema import Profile

SHARED_GIB = {"cpu": 1, "gpu": 8}
"""Of /dev/shm; a container's default is 0.06."""
TEMPORARY_GIB = {"cpu": 1, "gpu": 20}
"""For Ray's logs and what it puts off; it stops where a disk is 95% full."""
OPEN_FILES = {"cpu": 1024, "gpu": 65_536}


@dataclass(frozen=True)
class Check:
    check: str
    found: str
    needed: str
    """Empty where the profile needs nothing of the kind."""
    ok: bool
    cost: str
    """What goes wrong if it is not ok, and the remedy."""


def examine(profile: Profile) -> pd.DataFrame:
    """A row a check: columns check, found, needed, ok, cost (what goes wrong, and the remedy).

    Never raises, and takes seconds: a check that cannot be made is not ok and says why.
    """
    platform, nodes = profile.hardware.platform, profile.hardware.nodes
    looks: dict[str, Callable[[], Check]] = {
        "GPUs": lambda: gpus(profile, facts.gpus()),
        "CUDA": lambda: cuda(platform, *facts.cuda(), facts.driver()),
        "cores": lambda: cores(profile, facts.cores()),
        "host memory": lambda: host_memory(profile, facts.available_gib()),
        "disk": lambda: disk(profile, facts.free_disk_gib()),
        "temporary files": lambda: temporary_files(platform, *facts.temporary()),
        "shared memory": lambda: shared_memory(platform, facts.shared_gib()),
        "open files": lambda: open_files(platform, *facts.open_files()),
        "C compiler": lambda: compiler(facts.compilers()),
        "Python's headers": lambda: headers(platform, facts.headers()),
        "packages": lambda: packages(platform, facts.pins(platform), facts.packages()),
        "model": lambda: model(profile, *access.to_model(profile.task.base)),
        "data sets": lambda: data_sets(profile, *access.to_data(profile.task)),
        "Ray cluster": lambda: cluster(nodes, os.environ.get("RAY_ADDRESS"), facts.answers),
    }
    return pd.DataFrame([asdict(_made(name, look)) for name, look in looks.items()])


def _made(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # whatever it is, the other checks are worth having
        found = str(error).partition("\n")[0] or type(error).__name__
        return Check(name, found, "?", False, "This could not be looked at.")


# --- Judgements -----------------------------------------------------------------------------


def gpus(profile: Profile, here: list[tuple[float, float]]) -> Check:
    """`here`: of every GPU the memory and what is free of it, in GiB."""
    free = min((free for _, free in here), default=0.0)
    found = f"{len(here)}, {free:.0f} GiB free" if here else "none"
    cost = "Nothing starts, or memory runs out: free or add GPUs, or name a smaller task.base."
    if profile.hardware.platform == "cpu":
        return Check("GPUs", found, "", True, cost)
    rows = peaks(profile, min((total for total, _ in here), default=GPU_GIB))
    count, most = profile.hardware.gpus_per_node, rows["total"].max()
    return Check(
        "GPUs",
        found,
        f"{count}, {most:.0f} GiB free",
        len(here) >= count and bool(free >= most),
        cost,
    )


def cuda(platform: str, usable: bool, built_for: str, driver: str | None) -> Check:
    """`built_for`: torch's CUDA, or "None". Too old a driver is no error to torch: it takes the CPU."""
    return Check(
        "CUDA",
        f"{'usable' if usable else 'not usable'}, driver {driver or 'none'}",
        f"a driver for CUDA {built_for}" if platform == "gpu" else "",
        platform == "cpu" or usable,
        "torch computes on the CPU without a word: install a newer NVIDIA driver, and the packages "
        "for GPUs (make setup PLATFORM=gpu).",
    )


def cores(profile: Profile, found: int) -> Check:
    """verl reserves three a GPU (single_controller/ray/base.py, max_colocate_count) and nine more."""
    gpu = profile.hardware.platform == "gpu"
    needed = 3 * profile.hardware.gpus_per_node + 9 if gpu else profile.hardware.threads
    return Check(
        "cores",
        str(found),
        str(needed),
        found >= needed,
        "verl waits for them forever and says nothing, or they take turns: take a larger machine, "
        "or fewer GPUs.",
    )


def host_memory(profile: Profile, available: float) -> Check:
    """`available`: in GiB."""
    needed = host_gib(profile)
    return Check(
        "host memory",
        f"{available:.0f} GiB available",
        f"{needed:.0f} GiB",
        available >= needed,
        "The system ends a framework halfway: end other programs, or take a larger machine.",
    )


def disk(profile: Profile, free: float) -> Check:
    """`free`: in GiB, where runs/ is."""
    total = plan(profile).loc["total"]
    needed = total["disk_gib"] + total["scratch_gib"]
    return Check(
        "disk",
        f"{free:,.0f} GiB free",
        f"{needed:,.0f} GiB, less what is finished",
        free >= needed,
        "A checkpoint cannot be saved, after hours: free some, or link runs/ to a larger disk.",
    )


def temporary_files(platform: str, folder: str, free: float) -> Check:
    """`free`: in GiB."""
    return Check(
        "temporary files",
        f"{free:,.0f} GiB free in {folder}",
        f"{TEMPORARY_GIB[platform]} GiB",
        free >= TEMPORARY_GIB[platform],
        "Ray stops when its disk is full: free some, or name another folder in TMPDIR.",
    )


def shared_memory(platform: str, size: float) -> Check:
    """`size`: of /dev/shm, in GiB."""
    return Check(
        "shared memory",
        f"{size:.1f} GiB",
        f"{SHARED_GIB[platform]} GiB",
        size >= SHARED_GIB[platform],
        "Ray turns to the disk and NCCL ends with a bus error: start a container with more "
        "(docker run --shm-size=16g).",
    )


def open_files(platform: str, soft: int, hard: int) -> Check:
    """The limits of this process; Ray and vLLM raise the soft one to the hard one themselves."""
    needed, most = OPEN_FILES[platform], "any number" if hard == resource.RLIM_INFINITY else hard
    return Check(
        "open files",
        f"{soft}, can be {most}",
        str(needed),
        hard == resource.RLIM_INFINITY or hard >= needed,
        "Ray's workers end with 'too many open files': raise the hard limit (limits.conf; "
        "docker run --ulimit).",
    )


def compiler(found: list[str]) -> Check:
    return Check(
        "C compiler",
        ", ".join(found) or "none",
        "any",
        bool(found),
        "torch.compile and Triton fail at their first use: install gcc, or name one in CC.",
    )


def headers(platform: str, path: str | None) -> Check:
    return Check(
        "Python's headers",
        "there" if path else "no Python.h",
        "any" if platform == "gpu" else "",
        platform == "cpu" or path is not None,
        "Triton compiles against them, and vLLM does not start: install python3.11-dev, or take "
        "conda's Python.",
    )


def packages(platform: str, pinned: Mapping[str, str], here: Mapping[str, str]) -> Check:
    """Both: versions by name. A build's own suffix, as in 2.11.0+cu130, makes no difference."""
    odd = [
        name
        for name, version in pinned.items()
        if here.get(name) != version and not here.get(name, "").startswith(f"{version}+")
    ]
    odd.sort(key=lambda name: name not in FRAMEWORKS)
    said = [f"{name} {here.get(name, 'is missing')}" for name in odd[:3]]
    said += [f"{len(odd) - 3} more"] if len(odd) > 3 else []
    return Check(
        "packages",
        ", ".join(said) or f"all {len(pinned)} as pinned",
        f"requirements/{platform}.txt",
        not odd,
        f"The adapters fit the pinned frameworks alone: make setup PLATFORM={platform}.",
    )


def model(profile: Profile, ok: bool, found: str) -> Check:
    return Check(
        "model",
        found,
        profile.task.base,
        ok,
        "Nothing starts: check task.base and the network, or name a local folder.",
    )


def data_sets(profile: Profile, ok: bool, found: str) -> Check:
    return Check(
        "data sets",
        found,
        "" if profile.task.name == "countdown" else "all of them",
        ok,
        "No evaluation starts, and without the training file no run: check the network and the "
        "login, name a folder in COMPANION_DATA_DIR, or a benchmark in task.leave_out.",
    )


def cluster(nodes: int, address: str | None, answers: Callable[[str], bool]) -> Check:
    """`address`: what RAY_ADDRESS says."""
    cost = "No run starts: `ray start` on every node, then RAY_ADDRESS=http://<head>:8265."
    if nodes == 1:
        return Check("Ray cluster", address or "none", "", True, cost)
    ok = address is not None and answers(address)
    found = f"{address}{'' if ok else ' does not answer'}" if address else "RAY_ADDRESS is not set"
    return Check("Ray cluster", found, f"{nodes} nodes", ok, cost)
