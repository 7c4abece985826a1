"""A collapsed policy is shipped once, as it was made, and begins a seed again without training."""

import json
import shutil

import pytest
from conftest import save_policy

from companion import metrics, params
from companion.commands import checkpoints, manifest
from companion.stages import rl

PROFILE = params.load("smoke", {"seed": 7})


@pytest.fixture
def place(place, monkeypatch):
    monkeypatch.setattr(checkpoints, "ROOT", place)
    (place / "results" / "checkpoints").mkdir(parents=True)
    manifest.write(place / "results" / "checkpoints", manifest.SHIPPED)
    return place


@pytest.fixture
def collapsed(place):
    run = rl.collapse_run(PROFILE)
    with run.recording() as result:
        metrics.write(
            run.folder / "metrics.jsonl", [{"step": 1, "reward": 0.5, "token_entropy": 0.05}]
        )
        save_policy(run.policy)
        (run.folder / "verl").mkdir()
        result.update(step=1, token_entropy=0.05, collapsed=True)
    return run


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_shipped_policy_is_the_finished_run_again(collapsed, place, monkeypatch):
    checkpoints.ship(PROFILE)
    assert not manifest.check(place / "results" / "checkpoints", manifest.SHIPPED)
    card = (checkpoints._folder(PROFILE) / "README.md").read_text()
    assert "0.0500 nats" in card and "seed 7, 1 RL steps" in card and collapsed.name in card
    before = contents(collapsed.folder)
    shutil.rmtree(collapsed.folder)
    assert checkpoints.restore(PROFILE) == collapsed and collapsed.finished
    after = contents(collapsed.folder)
    assert (
        after == {name: before[name] for name in after} and len(after) == len(before) - 1
    )  # .lock
    monkeypatch.setattr(rl, "launch", lambda *_, **__: pytest.fail("verl was started"))
    assert rl.collapse(PROFILE).policy == collapsed.policy
    assert checkpoints.restore(PROFILE) == collapsed  # a second time nothing happens


def test_shipping_twice_changes_nothing_and_another_run_is_refused(collapsed, place):
    target = checkpoints.ship(PROFILE)
    before = contents(target)
    assert checkpoints.ship(PROFILE) == target and contents(target) == before
    # A kill between the folder and the list leaves what the next call lists.
    (target.parent / manifest.NAME).write_text("")
    checkpoints.ship(PROFILE)
    assert not manifest.check(target.parent, manifest.SHIPPED)
    shutil.rmtree(collapsed.folder)
    with collapsed.recording() as result:
        save_policy(collapsed.policy, norm=[2.0])
        result.update(step=2)
    with pytest.raises(ValueError, match="was shipped before, from another run"):
        checkpoints.ship(PROFILE)
    assert contents(target) == before


def test_what_is_not_there_or_of_other_settings_is_refused(collapsed, place):
    with pytest.raises(
        ValueError,
        match="'smoke' and seed 7 .*: companion reproduce --profile smoke --seed 7 --only",
    ):
        checkpoints.restore(params.change(PROFILE, {"rl.learning_rate": 1e-3}))
    checkpoints.ship(PROFILE)
    other = params.change(PROFILE, {"rl.learning_rate": 1e-3})
    with pytest.raises(ValueError, match="which other settings than today's made"):
        checkpoints.restore(other)
    with pytest.raises(ValueError, match="is not finished here; finish it first"):
        checkpoints.ship(other)


def test_a_damaged_checkpoint_is_no_finished_run(collapsed, place):
    target = checkpoints.ship(PROFILE)
    shutil.rmtree(collapsed.folder)
    (target / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"its metrics.jsonl has 0 of \d+ bytes"):
        checkpoints.restore(PROFILE)
    assert not collapsed.folder.exists()


def test_a_training_under_way_is_left_alone(collapsed, place):
    checkpoints.ship(PROFILE)
    record = json.loads((collapsed.folder / "run.json").read_text())
    del record["seal"]
    (collapsed.folder / "run.json").write_text(json.dumps(record | {"status": "interrupted"}))
    before = contents(collapsed.folder)
    with pytest.raises(ValueError, match="was begun here and is not finished"):
        checkpoints.restore(PROFILE)
    assert contents(collapsed.folder) == before
