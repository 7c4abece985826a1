"""Publishing copies measurements once, overwrites nothing, and redraws without training."""

import errno
import shutil
from pathlib import Path

import hand_made
import nbformat
import pandas as pd
import pytest
from filelock import FileLock
from hand_made import PROFILE

from companion import exhibits, params
from companion.commands import manifest, publish
from companion.exhibits.exhibit import Exhibit, Shown
from companion.params import ROOT
from companion.study import roles


@pytest.fixture
def undrawn(place, monkeypatch):
    """Where drawing is not what is asked."""
    monkeypatch.setattr(exhibits, "redraw", lambda profile: place / "results" / profile)


def test_publishes_measurements_and_no_checkpoints(place, finished):
    target = publish.publish(PROFILE)
    assert {p.name for p in (target / "runs").iterdir()} == {run.name for run in finished}
    assert not list(target.rglob("policy"))
    assert {p.name for p in (target / "figures").iterdir()} >= {
        "fig01.png",
        "fig02.svg",
        "fig02.csv",
    }
    assert {"table1.csv", "table1.md", "ood.csv"} <= {p.name for p in (target / "tables").iterdir()}


def test_executed_notebooks_come_along_without_this_machines_paths(place, finished, undrawn):
    executed = place / "runs" / "smoke" / "notebooks-seed7"
    executed.mkdir(parents=True)
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["papermill"] = {"input_path": str(place / "a.ipynb"), "duration": 3}
    said = f"{ROOT / 'src' / 'x.py'}:24: UserWarning, and {Path.home() / 'python' / 'Python.h'}"
    output = nbformat.v4.new_output("stream", name="stderr", text=said)
    notebook.cells.append(nbformat.v4.new_code_cell("x", outputs=[output]))
    nbformat.write(notebook, executed / "01_collapse.ipynb")
    copy = publish.publish(PROFILE) / "notebooks" / "seed7" / "01_collapse.ipynb"
    assert str(place) not in copy.read_text() and '"duration": 3' in copy.read_text()
    [cell] = nbformat.read(copy, as_version=4).cells
    assert cell.outputs[0].text == "src/x.py:24: UserWarning, and ~/python/Python.h"


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_published_is_what_was_measured_token_ids_and_golds_included(finished, undrawn):
    target = publish.publish(PROFILE)
    for run in finished:
        for name in publish.KEPT:
            ours, theirs = run.folder / name, target / "runs" / run.name / name
            assert ours.exists() == theirs.exists()
            assert not ours.exists() or ours.read_bytes() == theirs.read_bytes()
    samples = pd.read_parquet(target / "runs" / finished[-1].name / "samples.parquet")
    assert {"prompt", "gold", "token_ids"} <= set(samples)


def test_publishing_twice_changes_nothing(finished):
    target = publish.publish(PROFILE)
    before = contents(target)
    publish.publish(PROFILE)
    assert before == contents(target)


def test_another_measurement_of_the_same_part_is_refused_and_nothing_is_written(
    place, finished, undrawn
):
    target = publish.publish(PROFILE)
    index, ours = target / roles.INDEX, finished[0].name
    index.write_text(index.read_text().replace(ours, "rl-from-another-machine"))
    (target / "runs" / ours).rename(target / "runs" / "rl-from-another-machine")
    manifest.write(target, manifest.PUBLISHED)
    before = contents(target)
    with pytest.raises(ValueError, match=f"rl-from-another-machine, another measurement of {ours}"):
        publish.publish(PROFILE)
    assert contents(target) == before


def executed_00(place, words):
    folder = place / "runs" / "smoke" / "notebooks-seed7"
    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(words, id="one")])
    nbformat.write(notebook, folder / "01_collapse.ipynb")


@pytest.mark.fault("a run made again under a published name")
@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "samples.parquet"])
def test_another_result_under_a_published_name_is_refused_with_its_notebooks(
    place, studies, undrawn, monkeypatch, name
):
    """As after a run whose folder was removed and that was made again."""
    executed_00(place, "as published")
    target = publish.publish(PROFILE)
    before = contents(target)
    run = next(
        r for role in studies[7].values() for r in role.values() if (r.folder / name).exists()
    )
    slug = run.name.split("-")[1] + "-seed7"
    shutil.rmtree(run.folder)
    samples = hand_made.samples(1, "Base") if name == "samples.parquet" else None
    factor = 2 if name == "metrics.jsonl" else 1
    monkeypatch.setattr(hand_made, "METRICS", factor * hand_made.METRICS)
    arm = run.identity["settings"].get("label", "another arm")
    again = hand_made.run(
        PROFILE, place, run.identity["stage"], slug, run.identity["settings"], arm, samples
    )
    assert again.folder == run.folder
    executed_00(place, "of another result")
    with pytest.raises(
        ValueError, match=rf"results hold another .* of {run.name} than is here; rest"
    ):
        publish.publish(PROFILE)
    assert contents(target) == before


def test_notebooks_whose_runs_are_not_published_stay_here(place, finished, undrawn):
    folder = place / "runs" / "smoke" / "notebooks-seed7"
    executed_00(place, "as published")
    for name in ("04_evaluate", "05_internals"):  # the analyses are not finished
        nbformat.write(nbformat.v4.new_notebook(), folder / f"{name}.ipynb")
    (folder / "04_evaluate.ipynb").unlink()
    target = publish.publish(PROFILE)
    assert [p.name for p in (target / "notebooks" / "seed7").iterdir()] == ["01_collapse.ipynb"]


@pytest.mark.fault("a damaged output is published")
def test_damaged_outputs_are_not_published(place, finished, undrawn):
    path = finished[-1].folder / "samples.parquet"
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=f"{finished[-1].name} cannot be published: its samples.par"
    ):
        publish.publish(PROFILE)
    assert not (place / "results").exists()


def test_nothing_is_published_beside_damaged_results(finished, undrawn):
    target = publish.publish(PROFILE)
    (target / "runs" / finished[0].name / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match=r"metrics.jsonl is missing; restore it first"):
        publish.publish(PROFILE)


@pytest.mark.fault("two publish at once")
def test_two_do_not_publish_at_once(place, finished, undrawn):
    with FileLock(place / "runs" / "smoke" / ".publishing"):
        with pytest.raises(
            ValueError, match="another process is publishing to results/smoke; wait"
        ):
            publish.publish(PROFILE)
    assert not (place / "results").exists()
    publish.publish(PROFILE)


EIGHT = params.load("smoke", {"seed": 8})
HOTTER = params.change(EIGHT, {"reheat.tau": 1.3})
ON_GPUS = params.change(EIGHT, {"hardware.platform": "gpu"})


def test_seeds_share_an_index_and_keep_their_runs(place, studies, finished, undrawn):
    studies[8] = hand_made.study(EIGHT, place)
    target = publish.publish(PROFILE)
    publish.publish(EIGHT)
    index = pd.read_csv(target / roles.INDEX)
    assert list(index["seed"].value_counts()) == [len(finished), len(finished)]
    assert roles.settings("smoke") == PROFILE  # of the first seed
    assert not manifest.check(target, manifest.PUBLISHED)


@pytest.mark.fault("a disk fills up while it is published")
@pytest.mark.parametrize(("owner", "name"), [(pd.DataFrame, "to_csv"), (Path, "write_text")])
def test_lists_are_written_both_or_neither(place, studies, undrawn, monkeypatch, owner, name):
    """Half of index.csv or SHA256SUMS would forget runs, or their hashes."""
    target = publish.publish(PROFILE)
    lists = [target / roles.INDEX, target / manifest.NAME]
    before = [path.read_bytes() for path in lists]
    studies[8] = hand_made.study(EIGHT, place)

    def full(*given, **_):
        next(one for one in given if isinstance(one, Path)).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(owner, name, full)
        publish.publish(EIGHT)
    assert [path.read_bytes() for path in lists] == before
    assert roles.published("smoke").seeds == [7]
    publish.publish(EIGHT)
    assert roles.published("smoke").seeds == [7, 8]
    assert not manifest.check(target, manifest.PUBLISHED)


@pytest.mark.parametrize(("other", "base", "changes", "sentence"), [
    (EIGHT, "base", {"train_data": "b"}, "train_data of rl-0-seed8-.* is 'b', and of rl-0-.* 'a'"),
    (EIGHT, "base", {"reward_version": 2}, "reward_version of rl-0-.* is 2, and of rl-0-.* None"),
    (HOTTER, "base", {}, "reheat.tau is 1.3 here and 1.2 in profile.json"),
    (ON_GPUS, "base", {}, "hardware.platform is 'gpu' here and 'cpu' in profile.json"),
    (EIGHT, "another base", {}, "policy of rl-0-.* is '.*', and of rl-0-.* '.*'"),
])  # fmt: skip
def test_a_seed_measured_under_other_settings_is_refused(
    place, studies, undrawn, monkeypatch, other, base, changes, sentence
):
    target = publish.publish(PROFILE)
    before = contents(target)
    real = hand_made.run
    monkeypatch.setattr(hand_made, "run", lambda *a, **k: real(*a, policy=base, **k))
    studies[8] = hand_made.study(other, place, **changes)
    with pytest.raises(
        ValueError, match=f"measured otherwise than the published ones: {sentence}; pub"
    ):
        publish.publish(other)
    assert contents(target) == before


def test_seeds_may_differ_in_what_follows_from_the_seed_and_in_where_they_ran(
    place, studies, undrawn
):
    publish.publish(PROFILE)
    elsewhere = {"about": "x", "hardware.threads": 1, "task.data": str(place)}
    other = params.change(EIGHT, elsewhere)
    studies[8] = hand_made.study(
        other, place, tau=1.25, max_steps=31, steps=3, words=False, label="a"
    )
    target = publish.publish(other)
    assert str(place) not in (target / roles.PROFILE).read_text()


def test_results_are_drawn_by_the_settings_that_their_runs_had(place, finished, monkeypatch):
    target = publish.publish(PROFILE)
    before = contents(target)
    today = params.change(PROFILE, {"rl.collapse.entropy": 0.5, "rl.learning_rate": 1e-3})
    monkeypatch.setattr(params, "load", lambda *_, **__: today)
    exhibits.redraw("smoke")
    assert contents(target) == before
    (target / roles.PROFILE).unlink()
    with pytest.raises(
        ValueError, match=r"profile.json' does not say what the published runs were"
    ):
        exhibits.redraw("smoke")


def test_the_published_settings_are_those_of_the_published_runs():
    """profile.json of the runs of 0.1.0, which was written after them."""
    profile, evidence = roles.settings("laptop"), roles.published("laptop")
    # Without what came after them: the reward's rule, importance, the bonus, the teacher, the head.
    method = profile.rl.model_dump(
        exclude={
            "collapse",
            "continued_steps",
            "rr_temperature",
            "arms",
            "reward_rule",
            "importance_cap",
            "evaluated_checkpoints",
            "evaluated_every",
            "entropy_coeff",
            "verl",
        }
    )
    heat = profile.reheat.model_dump(exclude={"through_head", "teacher", "swift"})
    asked = profile.evaluation.model_dump(exclude={"bootstrap"})
    arms = evidence.index[evidence.index["role"] == "training"]
    assert set(arms["key"]) == {"Collapsed", *profile.rl.arms}
    for row in arms.itertuples():
        settings = row.run.identity["settings"]
        collapse = row.key == "Collapsed"
        expected = method | {"check_every": profile.rl.collapse.check_every}
        if row.key == "+DAPO w/ RR":
            expected["rollout_temperature"] = profile.rl.rr_temperature
        expected["steps"] = (
            profile.rl.collapse.max_steps if collapse else profile.rl.continued_steps
        )
        expected["stop_entropy"] = profile.rl.collapse.entropy if collapse else None
        assert expected.items() <= settings.items(), row.run.name
    for run in evidence.every("reheated"):
        expected = heat | {"collapse_entropy": profile.rl.collapse.entropy}
        if run.identity["stage"] == "reheat":
            assert expected.items() <= run.identity["settings"].items(), run.name
    for run in evidence.every("evaluations"):
        assert asked.items() <= run.identity["settings"].items(), run.name
    taus = evidence.by_key("temperatures")
    assert [float(tau) for tau in taus] == profile.analysis.taus
    assert evidence.only("long").identity["settings"]["max_steps"] == profile.analysis.long_steps
    assert evidence.only("cka").identity["settings"]["samples"] == profile.analysis.samples
    cooled = evidence.by_key("cooling")["cooled"].identity["settings"]
    assert cooled["tau"] == profile.analysis.cooling_tau
    assert (ROOT / profile.task.base).is_dir()


def test_redrawing_without_measurements_is_one_sentence(place):
    with pytest.raises(ValueError, match="'smoke' has no published runs; make some with: make"):
        exhibits.redraw("smoke")


def executed(place, profile, *outputs):
    folder = place / "runs" / "smoke" / f"notebooks-seed{profile.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    cells = [
        nbformat.v4.new_code_cell(
            outputs=[nbformat.v4.new_output("display_data", data=data) for data in outputs]
        )
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "03_continue.ipynb")


@pytest.mark.fault("a notebook executed before the last change")
def test_a_notebook_that_shows_something_else_than_its_runs_give_is_refused(
    place, finished, undrawn, monkeypatch
):
    def make(profile, evidence):
        table = pd.DataFrame({"runs": [len(evidence.every("training"))]})
        return Shown(table=table, sentence="Counted.")

    ours = Exhibit("count", "A count", "03_continue", ("training",), make)
    monkeypatch.setattr(publish, "EXHIBITS", [ours])
    right = make(PROFILE, roles.made(PROFILE, ["training"])).displays()
    stale = [right[0] | {"text/plain": "   runs\n0  99"}, right[1]]
    for shown in (stale, right[:1], []):
        executed(place, PROFILE, *shown)
        with pytest.raises(
            ValueError, match="03_continue.ipynb was executed before the last change"
        ):
            publish.publish(PROFILE)
        assert not (place / "results").exists()
    executed(place, PROFILE, *right)
    assert (publish.publish(PROFILE) / "notebooks" / "seed7" / "03_continue.ipynb").exists()
