"""`make test-slow`: one stage at a time is killed at random moments, and its result is as without.

A notebook starts the stage; after a random time one of its processes gets a random signal: the
notebook, one of the framework (keeper, driver), or a worker (a rank of verl), each of the kinds that
the stage has with an equal chance. Then nothing may be left of it: no process, no shared memory. This
again and again; whenever the stage is finished, it is compared with the undisturbed one, metrics (but
for seconds) and weights, and begun anew, until it had its kills.

Every kill is appended to docs/kills.csv, which is committed. Up to 2026-11-26, 02:45, Ray's workers had
no chance: they overwrite the environment that they were known by. Then verl was on Ray, too.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from companion import provenance, runs
from companion.params import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * 3600)]

TABLE = ROOT / "docs" / "kills.csv"
COLUMNS = ["date", "revision", "stage", "seed", "kill", "signal", "target", "after_s", "steps"]
COLUMNS += ["left_processes", "left_shared_memory", "outcome"]
KILLS = int(os.environ.get("KILLS", "10"))  # of each stage
SEED = int(os.environ.get("KILLS_SEED", datetime.now(UTC).strftime("%y%m%d")))
KINDS = {
    "evaluate": ["notebook"],
    "reheat": ["notebook", "framework"],
    "rl": ["notebook", "framework", "worker"],
}
"""What a stage has of each, on a CPU."""
NOTEBOOK = """
import sys
from pathlib import Path
from companion import params, policies, runs
from companion.stages import evaluate, reheat, rl

runs.ROOT = Path(sys.argv[2])
few = {"entropy.prompts": 16, "hardware.threads": 1}
heat = params.load("smoke", few | {
    "task.train_problems": 128, "reheat.batch_size": 32, "reheat.max_steps": 20,
    "reheat.recovery_entropy": None, "reheat.ceiling_entropy": None})
collapse = params.load("smoke", few | {
    "rl.collapse.max_steps": 6, "rl.collapse.entropy": 1e-6, "rl.collapse.check_every": 2})
asked = params.load("smoke", few | {"task.validation_problems": 60, "evaluation.samples": 8})
base = policies.base(heat)
{
    "reheat": lambda: reheat.reheat(heat, base, force=True),
    "rl": lambda: rl.collapse(collapse),
    "evaluate": lambda: evaluate.evaluate(asked, base, "Base", "validation"),
}[sys.argv[1]]()
"""


def notebook(stage, place):
    place.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK, stage, str(place)],
        stdout=(place / "notebook.log").open("a"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def made(place, stage):
    [folder] = (place / "runs" / "smoke").glob(f"{stage}-*")
    return runs.read_run(folder)


def steps(place):
    files = list((place / "runs" / "smoke").glob("*/metrics.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def marked(place):
    """Every process that was started for the stage: they have its folder in their environment."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("KILLS_OF") == str(place):
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if lives(process)}


def lives(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def kind(name):
    """Of what a row's `target` is."""
    if name == "notebook":
        return name
    return "worker" if name == "rank" else "framework"


def named(alive, notebook):
    """Every process with its name, in the order of their numbers."""
    found = []
    for process in sorted(alive, key=lambda process: process.pid):
        with suppress(psutil.NoSuchProcess):
            words, parent = process.cmdline(), process.parent()
            name = "notebook" if process.pid == notebook else called(words or ["?"])
            forked = parent is not None and parent.pid != notebook and parent.cmdline() == words
            found.append((process, "rank" if forked else name))
    return found


def shared():
    """Segments of shared memory that no living process has mapped."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            mapped += maps.read_text()
    return {path.name for path in Path("/dev/shm").iterdir() if path.name not in mapped}


def result(run):
    kept = {p.name: p.read_bytes() for p in sorted(run.folder.glob("policy/*.safetensors"))}
    if (run.folder / "samples.parquet").exists():
        return kept, (run.folder / "samples.parquet").read_bytes(), run.result
    return kept, run.metrics.drop(columns="seconds").to_csv(), run.result


@pytest.mark.parametrize("stage", ["evaluate", "reheat", "rl"])
def test_a_stage_killed_again_and_again_ends_as_the_undisturbed_one(stage, tmp_path, monkeypatch):
    begun, straight = time.monotonic(), tmp_path / "straight"
    assert notebook(stage, straight).wait() == 0, (straight / "notebook.log").read_text()[-3000:]
    lasts = time.monotonic() - begun
    chance, kills, life = random.Random(f"{SEED} {stage}"), 0, 0
    while kills < KILLS:
        place, rows = tmp_path / f"killed-{life}", []
        monkeypatch.setenv("KILLS_OF", str(place))
        while kills + len(rows) < KILLS and (row := killed(stage, place, lasts, chance)):
            rows.append(row | {"stage": stage, "kill": kills + len(rows)})
        status = notebook(stage, place).wait()
        same = status == 0 and result(made(place, stage)) == result(made(straight, stage))
        write([row | {"outcome": "identical" if same else f"status {status}"} for row in rows])
        assert same, (place / "notebook.log").read_text()[-3000:]
        assert not any(row["left_processes"] for row in rows)
        kills, life = kills + len(rows), life + 1


def killed(stage, place, lasts, chance):
    """Start the stage, or go on with it, and kill something of it; None if it ended before."""
    before, process, begun = shared(), notebook(stage, place), time.monotonic()
    wanted, end = chance.choice(KINDS[stage]), begun + chance.uniform(0.05, 0.9) * lasts
    later = chance.uniform(0, 0.4) * lasts  # than the first of its kind, where that is to come
    while process.poll() is None:
        alive = marked(place)
        victims = [one for one in named(alive, process.pid) if kind(one[1]) == wanted]
        if not victims:
            end = max(end, time.monotonic() + later)
        elif time.monotonic() >= end:
            break
        time.sleep(0.2)
    else:
        return None
    (target, name), after = chance.choice(victims), time.monotonic() - begun
    number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
    at = steps(place)
    with suppress(psutil.NoSuchProcess):
        target.send_signal(number)
    for _ in range(6000):  # of some workers the end is nothing to the stage, which goes on
        alive |= marked(place)
        if process.poll() is not None and not any(map(lives, alive)):
            break
        time.sleep(0.1)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": provenance.provenance()["git"]["revision"][:8],
        "seed": SEED,
        "signal": number.name,
        "target": name,
        "after_s": round(after, 1),
        "steps": at,
        "left_processes": sum(map(lives, alive)),
        "left_shared_memory": len(shared() - before),
    }


def called(words):
    """A process's short name: its module or its script."""
    if "-m" in words:
        return words[words.index("-m") + 1]
    scripts = [Path(word).name for word in words[1:] if word.endswith(".py")]
    return scripts[0] if scripts else Path(words[0].split()[0]).name if words[0] else "?"


def write(rows):
    new = not TABLE.exists()
    with TABLE.open("a", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            table.writeheader()
        table.writerows(rows)
