"""Publishing copies measurements once, overwrites nothing, and redraws without training."""

import json

import nbformat
import pandas as pd
import pytest

from companion import exhibits, params, runs
from companion.commands import publish, reproduce
from companion.exhibits import files, gallery
from companion.exhibits.exhibit import Exhibit, Shown
from companion.study import arms, roles
from companion.tasks import countdown

PROFILE = params.load("smoke", {"seed": 7})


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (runs, publish, reproduce, roles, gallery, files):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


def finished_run(root, stage, settings, name, arm=None, **files):
    folder = root / "runs" / "smoke" / name
    folder.mkdir(parents=True)
    identity = {"stage": stage, "settings": settings | {"seed": 7}, "inputs": {"policy": name}}
    result = {"token_entropy": {"value": 0.1, "low": 0.09, "high": 0.11}}
    record = identity | {"status": "finished", "arm": arm, "result": result}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "policy").mkdir()
    for file, frame in files.items():
        if file == "samples":
            frame.to_parquet(folder / "samples.parquet")
        else:
            frame.to_json(folder / "metrics.jsonl", orient="records", lines=True)
    return runs.read_run(folder)


@pytest.fixture
def finished(root, monkeypatch):
    """A study of hand-made runs, as the stages would have left them."""
    metrics = pd.DataFrame({"step": [1, 2], "reward": [0.1, 0.2], "token_entropy": [None, 0.2]})
    training = {
        arm: finished_run(
            root,
            "rl",
            {"stop_entropy": None if i else 0.1, "steps": 2},
            f"rl-{i}",
            arm,
            metrics=metrics,
        )
        for i, arm in enumerate(("Collapsed", *arms.ARMS))
    }
    evaluations = {}
    for i, label in enumerate((*arms.ROWS, *arms.REHEATED)):
        samples = pd.DataFrame(
            [
                {"suite": suite, "problem": f"p{p}", "sample": s, "correct": (p + s + i) % 3 == 0}
                for suite in countdown.suites("test")
                for p in range(4)
                for s in range(8)
            ]
        )
        settings = {"label": label, "split": "test", "samples": 8}
        evaluations[label] = finished_run(
            root, "evaluate", settings, f"evaluate-{i}", samples=samples
        )
    study = {"training": training, "reheated": {}, "evaluations": evaluations}
    monkeypatch.setattr(roles, "STUDY", {name: lambda _, r=r: r for name, r in study.items()})

    def not_made(profile):
        raise runs.NotFinished("run cka is not finished here")

    monkeypatch.setattr(roles, "ANALYSES", {"cka": not_made})
    return [*training.values(), *evaluations.values()]


def test_publishes_measurements_and_no_checkpoints(root, finished):
    target = publish.publish(PROFILE)
    assert {p.name for p in (target / "runs").iterdir()} == {run.name for run in finished}
    assert not list(target.rglob("policy"))
    assert {p.name for p in (target / "figures").iterdir()} >= {
        "fig01.png",
        "fig02.svg",
        "fig02.csv",
    }
    assert {"table1.csv", "table1.md", "ood.csv"} <= {p.name for p in (target / "tables").iterdir()}


def test_executed_notebooks_come_along_without_this_machines_paths(root, finished):
    executed = root / "runs" / "smoke" / "notebooks-seed7"
    executed.mkdir(parents=True)
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["papermill"] = {"input_path": str(root / "a.ipynb"), "duration": 3}
    nbformat.write(notebook, executed / "00_overview.ipynb")
    copy = publish.publish(PROFILE) / "notebooks" / "seed7" / "00_overview.ipynb"
    assert str(root) not in copy.read_text() and '"duration": 3' in copy.read_text()


def test_publishing_twice_changes_nothing(root, finished):
    target = publish.publish(PROFILE)
    before = {p: p.read_bytes() for p in target.rglob("*") if p.suffix in (".json", ".csv", ".md")}
    publish.publish(PROFILE)
    assert before == {p: p.read_bytes() for p in before}


def test_another_measurement_of_the_same_part_is_refused_and_nothing_is_written(root, finished):
    target = publish.publish(PROFILE)
    index = target / roles.INDEX
    index.write_text(index.read_text().replace("rl-0", "rl-from-another-machine"))
    (target / "runs" / "rl-0").rename(target / "runs" / "rl-from-another-machine")
    before = index.read_text()
    with pytest.raises(ValueError, match="rl-from-another-machine, another measurement of rl-0"):
        publish.publish(PROFILE)
    assert index.read_text() == before and not (target / "runs" / "rl-0").exists()


def test_seeds_share_an_index_and_keep_their_runs(root, finished, monkeypatch):
    monkeypatch.setattr(exhibits, "redraw", lambda profile: root / "results" / profile)
    target = publish.publish(PROFILE)  # both seeds' runs are the same
    publish.publish(params.load("smoke", {"seed": 8}))
    index = pd.read_csv(target / roles.INDEX)
    assert list(index["seed"].value_counts()) == [len(finished), len(finished)]


def test_redrawing_without_measurements_is_one_sentence(root):
    with pytest.raises(ValueError, match="'smoke' has no published runs; make some with: make"):
        exhibits.redraw("smoke")


def executed(root, profile, *outputs):
    folder = root / "runs" / "smoke" / f"notebooks-seed{profile.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    cells = [
        nbformat.v4.new_code_cell(
            outputs=[nbformat.v4.new_output("display_data", data=data) for data in outputs]
        )
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "03_continue.ipynb")


def test_a_notebook_that_shows_something_else_than_its_runs_give_is_refused(
    root, finished, monkeypatch
):
    def make(profile, evidence):
        table = pd.DataFrame({"runs": [len(evidence.every("training"))]})
        return Shown(table=table, sentence="Counted.")

    ours = Exhibit("count", "A count", "03_continue", ("training",), make)
    monkeypatch.setattr(publish, "EXHIBITS", [ours])
    right = make(PROFILE, roles.made(PROFILE, ["training"])).displays()
    stale = [right[0] | {"text/plain": "   runs\n0  99"}, right[1]]
    for shown in (stale, right[:1], []):
        executed(root, PROFILE, *shown)
        with pytest.raises(
            ValueError, match="03_continue.ipynb was executed before the last change"
        ):
            publish.publish(PROFILE)
        assert not (root / "results").exists()
    executed(root, PROFILE, *right)
    assert (publish.publish(PROFILE) / "notebooks" / "seed7" / "03_continue.ipynb").exists()
