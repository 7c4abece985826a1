"""Runs: identity, reuse, provenance, faults."""

import json
import subprocess
import sys

import pytest

from companion import params, policies, provenance, runs


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (runs, provenance):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def policy(tmp_path):
    folder = tmp_path / "policy"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


def open_run(policy, **settings):
    return runs.open_run(params.load("smoke"), "train", "plain", settings, {"policy": policy})


def test_identity_is_settings_and_content_of_inputs(root, policy):
    first = open_run(policy, steps=1)
    assert open_run(policy, steps=1).folder == first.folder
    assert open_run(policy, steps=2).folder != first.folder
    (policy / "model.safetensors").write_text("other weights")
    assert open_run(policy, steps=1).folder != first.folder


def test_content_hash_covers_names_and_ignores_hidden_files_and_records(policy):
    before = runs.content_hash(policy)
    (policy / ".lock").write_text("")
    (policy / "run.json").write_text("{}")
    assert runs.content_hash(policy) == before
    (policy / "config.json").rename(policy / "conf.json")
    assert runs.content_hash(policy) != before


def test_a_run_whose_policy_was_deleted_is_made_again(root, policy):
    run = open_run(policy, steps=1)
    with run.recording():
        run.policy.mkdir()
    assert run.finished
    run.policy.rmdir()
    assert not run.finished


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


def test_a_run_is_made_by_one_process_at_a_time(root, policy):
    run = open_run(policy)
    with run.recording(), pytest.raises(RuntimeError, match="is being made by another process"):
        with run.recording():
            pass
    with pytest.raises(RuntimeError, match="was finished by another process meanwhile"):
        with run.recording():  # both had seen it unfinished
            pass
    assert run.finished


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
    with pytest.raises(ValueError, match=r"is no policy: it has no (config|tokenizer|model)"):
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
