"""Kinds of faults, one by one: none loses a finished result, none yields a number silently.

Kills are in test_kills.py, bad policies in test_bad_policies.py, odd paths in test_rl.py and
test_reheat.py, edited publications in test_verify.py.
"""

import errno
import json
import shutil
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from conftest import save_policy

from companion import hashes, metrics, params, provenance, runs
from companion.params import ROOT
from companion.stages import evaluate

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


@pytest.mark.parametrize("content", [b"", b"\0\xff", b"12345\nhost\n"])
def test_what_a_lock_file_holds_does_not_matter(root, content):
    run = opened(root)
    run.folder.mkdir(parents=True)
    (run.folder / ".lock").write_bytes(content)
    work(run)
    assert run.finished


def test_a_lock_that_is_no_file_is_one_sentence(root):
    run = opened(root)
    (run.folder / ".lock").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"{run.name}' cannot be written"):
        work(run)


@pytest.mark.parametrize("damage", [emptied, halved, zeroed])
def test_a_part_of_an_evaluation_that_was_cut_is_answered_again(root, monkeypatch, damage):
    few = params.load("smoke", {"task.validation_problems": 1, "evaluation.samples": 1})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pd, "concat", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        evaluate.evaluate(few, BASE, "Base", "validation")
    [folder] = (root / "runs" / "smoke").iterdir()
    parts = sorted(folder.glob("samples-*.parquet"))
    whole = pd.read_parquet(parts[0])
    damage(parts[0])
    run = evaluate.evaluate(few, BASE, "Base", "validation")
    samples = pd.read_parquet(run.folder / "samples.parquet")
    mine = samples[samples["suite"] == whole["suite"].iloc[0]].reset_index(drop=True)
    assert mine.equals(whole) and not list(run.folder.glob("samples-*"))


def test_an_edited_policy_is_another_policy(run, root):
    """Its old results stay what they were, and none is taken for the edited one's."""
    before = hashes.content_hash(run.policy)
    edited(run.policy / "model.safetensors")
    assert hashes.content_hash(run.policy) != before
    assert run.shortfalls(wholly=True) == [
        "its policy/model.safetensors has another content than when it was made"
    ]


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


def test_runs_moved_to_another_folder_are_still_finished(run, root, monkeypatch):
    away = shutil.copytree(root / "runs", root.parent / f"{root.name}-away" / "runs")
    monkeypatch.setattr(runs, "ROOT", away.parent)
    again = opened(root)
    assert again.folder.is_relative_to(away) and again.finished
    assert json.loads((again.folder / "run.json").read_text())["result"] == {"reward": 0.5}
