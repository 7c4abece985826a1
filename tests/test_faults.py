"""Kinds of faults, one by one: none loses a finished result, none yields a number silently.

A test of one names it, in whatever file it stands: `@pytest.mark.fault("a full disk")`. The list of
all, docs/faults.md, is written by `python tests/test_faults.py`.
"""

import ast
import errno
import json
import resource
import shutil
import zipfile
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from conftest import save_policy

from companion import hashes, metrics, params, provenance, runs
from companion.params import ROOT
from companion.stages import evaluate, reheat, rl, scaling
from companion.statistics import Estimate

BASE = ROOT / "results" / "checkpoints" / "countdown-base"


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (runs, provenance):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def opened(root):
    start = root / "start"
    if not start.exists():
        save_policy(start)
    return runs.open_run(params.load("smoke"), "train", "x", {}, {"policy": start})


def work(run, ended=lambda run: None):
    """A stage as those of this repository: it trains unless its policy is there."""
    with run.recording() as result:
        if not run.policy.exists():
            trained.append(run.name)
            metrics.write(run.folder / "metrics.jsonl", [{"step": 0}, {"step": 1, "reward": 0.5}])
            pd.DataFrame({"x": range(9)}).to_parquet(run.folder / "samples.parquet")
            pd.DataFrame({"x": range(9)}).to_parquet(run.folder / "measurements.parquet")
            save_policy(run.policy.with_suffix(".partial"))
            run.policy.with_suffix(".partial").rename(run.policy)
        ended(run)
        result["reward"] = float(run.metrics["reward"].iloc[-1])


trained: list[str] = []


@pytest.fixture
def run(root):
    trained.clear()
    run = opened(root)
    work(run)
    return run


def emptied(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def removed(path):
    path.unlink()


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


def longer(path):
    path.write_bytes(path.read_bytes() + b"\n")


def zeroed(path):
    path.write_bytes(b"\0" * path.stat().st_size)


def edited(path):
    data = bytearray(path.read_bytes())
    at = data.find(b"0.5") if b"0.5" in data else len(data) // 2
    data[at] ^= 1
    path.write_bytes(data)


OUTPUTS = ["metrics.jsonl", "samples.parquet", "measurements.parquet", "policy/model.safetensors",
           "policy/config.json"]  # fmt: skip


@pytest.mark.fault(
    "a cut or edited safetensors file",
    "a cut or edited parquet file",
    "a cut or edited metrics.jsonl",
    "a lost output",
)
@pytest.mark.parametrize("name", [*OUTPUTS, "run.json"])
@pytest.mark.parametrize(
    "damage", [emptied, halved, removed, replaced_by_a_folder, longer, zeroed, edited]
)
def test_a_damaged_result_is_refused_by_name_and_never_made_again(run, name, damage):
    """What looking at sizes and frames does not tell, hashing everything does (verify, publish)."""
    damage(run.folder / name)
    if name == "run.json" and damage is removed:  # as killed before its end: only ended again
        work(run)
        assert run.finished and run.result == {"reward": 0.5} and len(trained) == 1
        return
    if name == "run.json" and damage is longer:  # whitespace behind JSON is nothing
        assert run.finished
        return
    with pytest.raises(ValueError, match=name.split("/")[-1]) as error:
        if run.finished:
            raise ValueError(*run.shortfalls(wholly=True))
    assert "\n" not in str(error.value)
    if damage is edited and name != "run.json":
        return
    kept = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    if not (damage in (zeroed,) and name.endswith(("jsonl", "config.json"))):
        with pytest.raises(ValueError):
            work(run)
        assert len(trained) == 1
        assert {p: p.read_bytes() for p in kept} == kept


@contextmanager
def files_of_at_most(size):
    """The system cuts every file at so many bytes, as a full disk or a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.fault("a quota: files cut where they are written")
@pytest.mark.parametrize("size", [0, 20, 40, 200, 1000, 10**6])
def test_what_the_system_cuts_short_is_no_result(root, size):
    """metrics.jsonl, a table, a file of weights, run.json at its start or its end."""
    run = opened(root)
    with files_of_at_most(size), suppress(Exception):
        work(run)
    cut = not run.finished
    if cut:
        work(run)
    assert cut == (size < 10**6)
    assert run.finished and run.result == {"reward": 0.5} and not run.shortfalls(wholly=True)
    assert (
        run.metrics["step"].tolist() == [0, 1]
        and len(pd.read_parquet(run.folder / "samples.parquet")) == 9
    )


@pytest.mark.fault("runs/ leads nowhere")
@pytest.mark.parametrize("place", ["nowhere", "/proc", "/dev/full", "runs"])
def test_runs_that_lead_nowhere_are_one_sentence(root, place):
    (root / "runs").symlink_to(place)
    with pytest.raises(
        ValueError, match=r"cannot be written \(.*; allow it, or let runs/ be a link"
    ):
        work(opened(root))


@pytest.mark.fault("a full disk")
@pytest.mark.parametrize("call", range(1, 6))
def test_a_disk_that_fills_up_costs_no_step(root, monkeypatch, call):
    """At whichever of its writes: the next call ends what was begun, and trains nothing twice."""
    trained.clear()
    run, calls, real = opened(root), [], Path.write_text

    def full(path, *args, **kwargs):
        calls.append(path.name)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with suppress(OSError):
            work(run)
    if not run.finished:
        work(run)
    assert run.finished and run.result == {"reward": 0.5}
    assert run.metrics["step"].tolist() == [0, 1]


@pytest.mark.fault("the clock jumps, back or forth")
@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_jumps_changes_no_duration(root, monkeypatch, days):
    class Clock(datetime):
        jump = timedelta()

        @classmethod
        def now(cls, tz=None):
            return datetime.now(UTC) + cls.jump

    monkeypatch.setattr(runs, "datetime", Clock)
    run = opened(root)
    work(run, ended=lambda _: setattr(Clock, "jump", timedelta(days=days)))
    assert run.finished and 0 <= run.record["seconds"] < 60
    assert opened(root).finished


@pytest.mark.fault("a lock file of a dead process, of another host, or corrupt")
@pytest.mark.parametrize("content", [b"", b"\0\xff", b"12345\nhost\n"])
def test_what_a_lock_file_holds_does_not_matter(root, content):
    run = opened(root)
    run.folder.mkdir(parents=True)
    (run.folder / ".lock").write_bytes(content)
    work(run)
    assert run.finished


@pytest.mark.fault("a folder where the lock should be")
def test_a_lock_that_is_no_file_is_one_sentence(root):
    run = opened(root)
    (run.folder / ".lock").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{run.name}' cannot be written"):
        work(run)


@pytest.mark.fault("a cut part of an evaluation")
@pytest.mark.parametrize("damage", [emptied, halved, zeroed])
def test_a_part_of_an_evaluation_that_was_cut_is_answered_again(root, monkeypatch, damage):
    least = {"task.validation_problems": 1, "evaluation.samples": 1, "entropy.prompts": 5}
    few = params.load("smoke", least)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pd, "read_parquet", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        evaluate.evaluate(few, BASE, "Base", "validation")
    [folder] = (root / "runs" / "smoke").iterdir()
    parts = sorted(folder.glob("samples-*.parquet"))
    whole = pd.read_parquet(parts[0])
    damage(parts[0])
    run = evaluate.evaluate(few, BASE, "Base", "validation")
    samples = pd.read_parquet(run.folder / "samples.parquet")
    mine = samples[samples["suite"] == whole["suite"].iloc[0]].reset_index(drop=True)
    assert mine.equals(whole) and not list(run.folder.glob("samples-*"))


@pytest.mark.fault("a policy edited after it was made")
def test_an_edited_policy_is_another_policy(run, root):
    """Its old results stay what they were, and none is taken for the edited one's."""
    before = hashes.content_hash(run.policy)
    edited(run.policy / "model.safetensors")
    assert hashes.content_hash(run.policy) != before
    assert run.shortfalls(wholly=True) == [
        "its policy/model.safetensors has another content than when it was made"
    ]


@pytest.mark.fault("files that a kill left half written")
def test_leftovers_of_a_kill_are_no_result(root):
    """Half of whatever is written in one piece lies beside it, and is written over."""
    trained.clear()
    run = opened(root)
    run.folder.mkdir(parents=True)
    for name in ("run.json.partial", "metrics.partial", "samples.partial"):
        (run.folder / name).write_text('{"status": "finished"')
    save_policy(run.folder / "policy.partial")
    assert not run.finished
    work(run)
    assert run.finished and len(trained) == 1
    assert set(run.record["outputs"]) == {*OUTPUTS, "policy/tokenizer.json"}


@pytest.mark.fault("runs/ is moved")
def test_runs_moved_to_another_folder_are_still_finished(run, root, monkeypatch):
    away = shutil.copytree(root / "runs", root.parent / f"{root.name}-away" / "runs")
    monkeypatch.setattr(runs, "ROOT", away.parent)
    again = opened(root)
    assert again.folder.is_relative_to(away) and again.finished
    assert json.loads((again.folder / "run.json").read_text())["result"] == {"reward": 0.5}


# --- A policy that only loading tells from a whole one ------------------------------------------


def asked(few, policy):
    return {
        "rl": lambda: rl.resume(few, policy, arm="+DAPO"),
        "reheat": lambda: reheat.reheat(few, policy, force=True),
        "evaluate": lambda: evaluate.evaluate(few, policy, "Base", "validation"),
        "scale": lambda: scaling.scale(few, policy, 1.2),
    }


class Started(Exception):
    """A framework would be."""


@pytest.mark.fault("a policy that looks whole and does not load")
@pytest.mark.parametrize("stage", ["rl", "reheat", "evaluate", "scale"])
def test_a_policy_that_does_not_load_starts_nothing_and_is_in_nobodys_way(root, monkeypatch, stage):
    """A run's folder may say that it failed: a call with the policy made whole is its next try."""

    def started(*_, **__):
        raise Started

    for module in (rl, reheat):
        monkeypatch.setattr(module, "launch", started)
    few = params.load(
        "smoke",
        {"entropy.prompts": 6, "task.validation_problems": 1, "evaluation.samples": 1,
         "evaluation.max_new_tokens": 8, "task.train_problems": 8},
    )  # fmt: skip
    policy = shutil.copytree(BASE, root / "policy")
    call, config = asked(few, policy)[stage], policy / "config.json"
    whole = config.read_text()
    config.write_text(json.dumps(json.loads(whole) | {"num_hidden_layers": 5}))
    for _ in range(2):
        with pytest.raises(ValueError, match="'.*policy' is no policy: .*; give a whole") as error:
            call()
        assert "\n" not in str(error.value)
    left = [runs.read_run(path.parent) for path in root.glob("runs/smoke/*/run.json")]
    assert [run.record["status"] for run in left] == [] if stage == "reheat" else ["failed"]
    assert not any(run.finished or run.policy.exists() or run.record["outputs"] for run in left)

    config.write_text(whole)
    if stage in ("rl", "reheat"):
        with pytest.raises(Started):
            call()
    else:
        assert call().finished


# --- A checkpoint that is not whole any more ----------------------------------------------------


def torch_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", bytes(99))


def checkpoint(folder):
    """Of ms-swift, by the names of its files."""
    save_policy(folder)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch_file(folder / name)
    (folder / "trainer_state.json").write_text("{}")


@pytest.mark.fault("a checkpoint half deleted or cut")
@pytest.mark.parametrize("damage", [emptied, halved, removed])
@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"]
)
def test_a_reheating_goes_on_from_its_newest_whole_checkpoint(root, damage, name):
    """Without its optimizer's file the trainer would begin with a new one, and say nothing."""
    run, before = opened(root), Estimate(0.1, 0.1, 0.1)
    for step in (1, 2, 3):
        checkpoint(run.folder / "swift" / f"checkpoint-{step}")
    rows = [{"step": step, "token_entropy": 0.1 * step} for step in range(3)]  # 3 is not measured
    path = run.folder / "metrics.jsonl"
    metrics.write(path, rows)
    newest = run.folder / "swift" / "checkpoint-2"
    assert reheat._last_measured(run, before) == (2, newest) and metrics.read(path) == rows
    if name == "model.safetensors" and damage is removed:
        return  # as if never saved
    damage(newest / name)
    older = newest.with_name("checkpoint-1")
    assert reheat._last_measured(run, before) == (1, older) and metrics.read(path) == rows[:2]
    damage(older / name)
    assert reheat._last_measured(run, before) == (0, None)
    assert [row["step"] for row in metrics.read(path)] == [0] and not reheat.checkpoints(run)


# --- The list -----------------------------------------------------------------------------------

LIST = ROOT / "docs" / "faults.md"
HEAD = """# Kinds of faults that are tried

None loses a finished result, and none yields a figure silently: each ends as if nothing had been, or
in one sentence that says what to restore. Written by `python tests/test_faults.py`; kills at random
moments are in [kills.csv](kills.csv).

| fault | tests |
|---|---|
"""


def listed():
    """docs/faults.md as the tests have it: every kind, and the tests that name it."""
    kinds = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for test in ast.parse(path.read_text()).body:
            for call in getattr(test, "decorator_list", []):
                if ast.unparse(call).startswith("pytest.mark.fault("):
                    for kind in map(ast.literal_eval, call.args):
                        kinds.setdefault(kind, []).append(f"`{path.stem}::{test.name}`")
    rows = [f"| {kind} | {', '.join(kinds[kind])} |\n" for kind in sorted(kinds)]
    return HEAD + "".join(rows), len(kinds)


def test_every_kind_of_fault_is_on_the_list():
    text, count = listed()
    assert count >= 25
    assert LIST.read_text() == text, "write it: python tests/test_faults.py"


if __name__ == "__main__":
    LIST.write_text(listed()[0])
