"""Runs: identity, reuse, provenance, faults."""

import hashlib
import json
import math
import re
import subprocess
import sys
from contextlib import suppress

import pandas as pd
import pytest
from conftest import save_policy

from companion import metrics, params, policies, provenance, runs


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (runs, provenance):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def policy(tmp_path):
    return save_policy(tmp_path / "policy")


def open_run(policy, **settings):
    return runs.open_run(params.load("smoke"), "train", "plain", settings, {"policy": policy})


def test_identity_is_settings_and_content_of_inputs(root, policy):
    first = open_run(policy, steps=1)
    assert open_run(policy, steps=1).folder == first.folder
    assert open_run(policy, steps=2).folder != first.folder
    save_policy(policy, norm=[1.0, 3.0])
    assert open_run(policy, steps=1).folder != first.folder


def made(policy):
    """A finished run with one output of every kind."""
    run = open_run(policy, steps=1)
    with run.recording():
        save_policy(run.policy)
        (run.folder / "metrics.jsonl").write_text('{"step": 1}\n')
        for name in ("samples.parquet", "measurements.parquet"):
            pd.DataFrame({"x": range(9)}).to_parquet(run.folder / name)
        (run.folder / "verl.log").write_text("not an output\n")
    return run


OUTPUTS = ["policy/model.safetensors", "policy/config.json", "metrics.jsonl", "samples.parquet",
           "measurements.parquet"]  # fmt: skip


def test_a_finished_run_records_size_and_hash_of_all_that_it_made(root, policy):
    run = made(policy)
    assert set(run.record["outputs"]) == {*OUTPUTS, "policy/tokenizer.json"}
    for name, entry in run.record["outputs"].items():
        data = (run.folder / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert run.finished and not run.shortfalls(wholly=True)


def lost(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def overwritten(path):
    path.write_bytes(b"\0" * path.stat().st_size)


@pytest.mark.fault("a lost output")
@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize(("damage", "wrong"), [
    (lost, "is missing"), (cut, r"has \d+ of \d+ bytes"), (overwritten, "cannot be read"),
])  # fmt: skip
def test_a_finished_run_whose_outputs_fell_short_is_neither_used_nor_made_again(
    root, policy, name, damage, wrong
):
    run = made(policy)
    before = run.record
    damage(run.folder / name)
    if damage is overwritten and not name.endswith((".parquet", ".safetensors")):
        wrong = "has another content than when it was made"  # which only reading it all tells
        assert run.finished
    else:
        with pytest.raises(
            ValueError, match=rf"run {run.name} .* its {name} {wrong}; restore that, or remove"
        ):
            _ = run.finished
        with pytest.raises(ValueError, match="restore that"), run.recording():
            pytest.fail("made again")
    found = run.shortfalls(wholly=True)
    assert len(found) == 1 and re.fullmatch(f"its {name} {wrong}", found[0])
    assert run.record == before


def test_one_changed_byte_is_found_by_reading_it_all(root, policy):
    run = made(policy)
    path = run.folder / "samples.parquet"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    assert run.finished
    assert run.shortfalls(wholly=True) == [
        "its samples.parquet has another content than when it was made"
    ]


@pytest.mark.fault("an edited run.json")
@pytest.mark.parametrize(("old", "new"), [
    ('"steps": 1', '"steps": 2'), ('"finished"', '"failed"'), ('"entropy": 0.1', '"entropy": 0.2'),
])  # fmt: skip
def test_an_edited_record_is_refused(root, policy, old, new):
    run = open_run(policy, steps=1)
    with run.recording() as result:
        result["entropy"] = 0.1
    path = run.folder / "run.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    for use in (lambda: run.finished, lambda: run.result, lambda: runs.read_run(run.folder)):
        with pytest.raises(
            ValueError, match=r"run.json' was changed after it was written; restore"
        ):
            use()


def test_a_record_of_0_1_0_has_neither_seal_nor_hashes_and_can_be_read(root, policy):
    run = open_run(policy, steps=1)
    run.folder.mkdir(parents=True)
    old = {"run": run.name, "status": "finished", **run.identity, "made_policy": True}
    (run.folder / "run.json").write_text(json.dumps(old))
    assert runs.read_run(run.folder).identity == run.identity
    assert run.finished and run.shortfalls(wholly=True) == []


def test_a_finished_run_says_all_that_is_needed_to_repeat_it(root, policy):
    run = open_run(policy, steps=1)
    assert not run.finished
    command = [sys.executable, "-m", "x", f"--in={policy}"]
    with run.recording(arm="plain") as result:
        run.note_command(command, {"LOG": f"{run.folder}/log"}, resumed_at=3)
        result["entropy"] = 0.1
    assert run.finished and run.result == {"entropy": 0.1}
    record = run.record
    assert record["settings"] == {"steps": 1}
    assert record["command"][0] == "python"
    assert record["arm"] == "plain" and record["resumed_at"] == 3
    assert record["environment"]["LOG"].startswith("runs/")
    assert str(root) not in (run.folder / "run.json").read_text()
    assert {"torch", "verl", "ms-swift", "transformers"} <= set(record["versions"])
    assert {"revision", "dirty"} == set(record["git"])
    assert record["hardware"]["cores"] >= 1 and record["started"] <= record["ended"]
    [only] = record["tries"]
    assert {"revision", "dirty", "versions", "started", "ended", "status"} == set(only)
    assert only["versions"] == record["versions"] and only["status"] == "finished"


def test_a_tree_is_dirty_by_what_runs_and_not_by_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        who = ["-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "speed.json").write_text("{}")
    assert provenance.provenance()["git"]["dirty"] is False
    (tmp_path / "code.py").write_text("")
    assert provenance.provenance()["git"]["dirty"] is True


@pytest.mark.fault("runs/ is a link")
def test_where_runs_is_a_link_its_records_name_no_path_of_this_machine(root, tmp_path_factory):
    away = tmp_path_factory.mktemp("elsewhere")
    (root / "runs").symlink_to(away)
    first = open_run(save_policy(root / "runs" / "made" / "policy"), steps=1)
    with first.recording():
        first.note_command(["x", f"--out={first.folder}"], {"LOG": f"{first.folder}/log"}, None)
        save_policy(first.policy)
    second = open_run(policies.check_policy(first.policy), steps=2)
    with second.recording():
        second.note_command(["x", f"--in={second.inputs['policy']}"], {}, None)
    for run in (first, second):
        assert run.record["inputs_from"]["policy"].startswith("runs/")
        assert str(away) not in (run.folder / "run.json").read_text()
        assert str(root) not in (run.folder / "run.json").read_text()


@pytest.mark.parametrize(
    ("fault", "status"), [(KeyboardInterrupt, "interrupted"), (OSError, "failed")]
)
def test_a_run_that_ends_early_says_so_and_can_be_continued(root, policy, fault, status):
    run = open_run(policy)
    with pytest.raises(fault), run.recording():
        (run.folder / "metrics.jsonl").write_text('{"step": 1}\n')
        raise fault
    assert run.record["status"] == status and not run.finished
    with run.recording():
        pass
    assert run.finished and len(run.metrics) == 1
    assert [one["status"] for one in run.record["tries"]] == [status, "finished"]


def test_each_try_keeps_its_own_revision_and_versions(root, policy, monkeypatch):
    run = open_run(policy)
    for revision, torch, fault in (("a", "2.1", OSError), ("b", "2.2", None)):
        here = {"git": {"revision": revision, "dirty": False}, "versions": {"torch": torch}}
        monkeypatch.setattr(runs, "provenance", lambda here=here: {**here, "hardware": {}})
        with suppress(OSError), run.recording():
            if fault:
                raise fault
    first, second = run.record["tries"]
    assert (first["revision"], first["versions"], first["status"]) == (
        "a",
        {"torch": "2.1"},
        "failed",
    )
    assert (second["revision"], second["versions"]) == ("b", {"torch": "2.2"})
    assert first["started"] <= first["ended"] <= second["started"]


@pytest.mark.fault("a run is killed before it can say so")
def test_a_killed_run_is_not_taken_for_finished(root, policy):
    run = open_run(policy)
    child = (
        "import os, sys; from pathlib import Path; from companion import params, runs\n"
        f"runs.ROOT = Path({str(root)!r})\n"
        f"run = runs.open_run(params.load('smoke'), 'train', 'plain', {{}}, "
        f"{{'policy': Path({str(policy)!r})}})\n"
        "with run.recording(): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", child], check=False)
    assert run.record["status"] == "running" and not run.finished
    run._write(run.record | {"seconds": 1000.0})  # of the tries before it
    with run.recording():  # the dead process' lock is gone with it
        pass
    assert run.finished and run.record["seconds"] >= 1000
    assert math.isnan(run.seconds)  # how long the killed process worked, nobody knows
    assert [one["status"] for one in run.record["tries"]] == ["killed", "finished"]


@pytest.mark.fault("two make one run at once")
def test_a_run_is_made_by_one_process_at_a_time(root, policy):
    run = open_run(policy)
    with run.recording(), pytest.raises(RuntimeError, match="is being made by another process"):
        with run.recording():
            pass
    with pytest.raises(RuntimeError, match="was finished by another process meanwhile"):
        with run.recording():  # both had seen it unfinished
            pass
    assert run.finished


@pytest.mark.fault("half a line of metrics.jsonl")
def test_half_a_line_of_a_killed_writer_is_not_a_step(root, policy):
    run = open_run(policy)
    run.folder.mkdir(parents=True)
    path = run.folder / "metrics.jsonl"
    for half in ('{"step": 2, "kl', '{"step": 2}', "\0\0\0"):
        path.write_text('{"step": 0}\n{"step": 1}\n' + half)
        assert run.metrics["step"].tolist() == [0, 1]
        metrics.append(path, {"step": 2})
        assert path.read_text() == '{"step": 0}\n{"step": 1}\n{"step": 2}\n'


@pytest.mark.fault("metrics.jsonl of two trainers")
@pytest.mark.parametrize(("line", "wrong"), [
    ('{"step": 1}', "goes from step 1 to 1"), ('{"step": 0}', "goes from step 1 to 0"),
    ("{", "is '{', which is no JSON object with a step"),
    ('{"kl": 1}', "which is no JSON object with a step"),
    ("[1]", "which is no JSON object with a step"), ("", "is '', which is no JSON"),
    ('{"step": "2"}', "which is no JSON object with a step"), ("\0\0", "which is no JSON object"),
])  # fmt: skip
def test_metrics_whose_steps_do_not_increase_are_refused(root, policy, line, wrong):
    """Two trainers in one folder would have written 0,1,2,3,4,1,2,3,4."""
    run = open_run(policy)
    run.folder.mkdir(parents=True)
    path = run.folder / "metrics.jsonl"
    path.write_text(f'{{"step": 0}}\n{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    for use in (lambda: run.metrics, lambda: metrics.read(path)):
        with pytest.raises(ValueError, match=rf"line 3 of '.*metrics.jsonl' .*{wrong}.* restore"):
            use()


def test_no_step_is_written_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics.append(path, {"step": 1})
    for put in (lambda: metrics.append(path, {"step": 1}), lambda: metrics.write(path, [{"x": 1}])):
        with pytest.raises(ValueError, match="restore the file"):
            put()
        assert metrics.read(path) == [{"step": 1}]


@pytest.mark.fault("a cut or empty run.json")
@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\0\0\0", "\x80"])
def test_a_record_that_is_none_is_named(root, policy, text):
    run = open_run(policy)
    run.folder.mkdir(parents=True)
    (run.folder / "run.json").write_bytes(text.encode("latin-1"))
    for use in (lambda: run.finished, lambda: runs.read_run(run.folder)):
        with pytest.raises(ValueError, match=rf"{run.name}/run.json' is no record .* remove its"):
            use()


@pytest.mark.fault("runs/ cannot be written")
def test_runs_that_cannot_be_written_are_one_sentence(root, policy):
    run = open_run(policy)
    (root / "runs").write_text("a file where the folder should be")
    with pytest.raises(
        ValueError, match=rf"^'runs/smoke/{run.name}' cannot be written \(.*; allow"
    ):
        with run.recording():
            pytest.fail("made")


def test_run_json_is_never_half_written(root, policy, monkeypatch):
    run = open_run(policy)
    with run.recording():
        run.note_command(["verl"], {}, None)
        with monkeypatch.context() as patch:
            patch.setattr(
                json, "dumps", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full"))
            )
            with pytest.raises(OSError):
                run.note_command(["swift"], {}, None)
        assert run.record["command"] == ["verl"]
    assert run.finished


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_no_policy_is_refused(policy, name):
    assert policies.check_policy(policy) == policy
    (policy / name).unlink()
    with pytest.raises(
        ValueError, match=r"is no policy: it has (no (config|tokenizer)|neither model)"
    ):
        policies.check_policy(policy)


def test_missing_input_is_one_sentence(root, tmp_path):
    with pytest.raises(ValueError, match="does not exist; make it first or name another"):
        open_run(tmp_path / "nowhere")


def test_reading_a_study_makes_nothing(root, policy):
    run = open_run(policy)
    with runs.finished_only(), pytest.raises(ValueError, match="not finished here"):
        with run.recording():
            pass
    assert not run.folder.exists()
    with run.recording():
        pass
    assert run.finished
