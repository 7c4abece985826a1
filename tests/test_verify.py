"""`companion verify` finds whatever is not as it was published, and says what it looked at."""

import json
import re
import shutil

import numpy as np
import pytest
from hand_made import PROFILE
from PIL import Image

from companion import exhibits, params, runs
from companion.commands import app, manifest, publish, verify
from companion.exhibits import fig01, registry, table1
from companion.params import ROOT
from companion.study import roles


@pytest.fixture
def target(place, finished, monkeypatch):
    """Published results, drawn in part, and a shipped checkpoint."""
    monkeypatch.setattr(registry, "EXHIBITS", [fig01.EXHIBIT, table1.EXHIBIT])
    shipped = place / "results" / "checkpoints"
    shutil.copytree(ROOT / "results" / "checkpoints" / "countdown-base", shipped / "base")
    manifest.write(shipped, manifest.SHIPPED)
    return publish.publish(PROFILE)


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_what_is_as_it_was_published_is_said_in_full(target, capsys):
    assert verify.verify("smoke") == []
    said = capsys.readouterr().out
    runs = len(list((target / "runs").iterdir()))
    assert runs > 10 and f"{runs} runs; {runs} of them record their outputs' hashes" in said
    assert re.search(r"results/smoke/SHA256SUMS: \d+ files, 0 wrong", said)
    assert re.search(r"results/checkpoints/SHA256SUMS: \d+ files, 0 wrong", said)
    assert f"runs/smoke: {runs} finished runs on this machine, 0 files wrong" in said
    count = len([p for name in verify.DRAWN for p in target.glob(name)])
    assert f"{count} files drawn again; the same {count} byte for byte" in said


def a_run(target, kind="rl"):
    return sorted((target / "runs").glob(f"{kind}-*"))[0]


DAMAGES = {
    "a lost run": (lambda t: shutil.rmtree(a_run(t)), r"index.csv lists rl-0-.*, which is not there"),
    "a run too many": (
        lambda t: shutil.copytree(a_run(t), t / "runs" / "rl-9-seed7-00000000"),
        "rl-9-seed7-00000000 is not listed in index.csv",
    ),
    "a stray file": (
        lambda t: (a_run(t) / "notes.txt").write_text("x"),
        r"runs/rl-0-.*/notes.txt is not listed in SHA256SUMS",
    ),
    "a run listed twice": (
        lambda t: (t / "index.csv").write_text(2 * (t / "index.csv").read_text()),
        r"index.csv lists \(.*\) more than once",
    ),
    "no index": ((lambda t: (t / "index.csv").write_text("")), "index.csv cannot be read"),
    "half an index": (
        lambda t: (t / "index.csv").write_text("seed,role\n7,x\n"), "index.csv cannot be read",
    ),
    "lost samples": (
        lambda t: (a_run(t, "evaluate") / "samples.parquet").unlink(),
        "evaluate-.*: its samples.parquet is missing",
    ),
    "cut samples": (
        lambda t: (a_run(t, "evaluate") / "samples.parquet").write_bytes(b"PAR1"),
        r"evaluate-.*: its samples.parquet has 4 of \d+ bytes",
    ),
    "edited metrics": (
        lambda t: edited(a_run(t) / "metrics.jsonl", "0.2", "0.3"),
        r"rl-0-.*: its metrics.jsonl has another content than when it was made",
    ),
    "an edited record": (
        lambda t: edited(a_run(t) / "run.json", '"steps": 2', '"steps": 3'),
        "run.json' was changed after it was written",
    ),
    "an unreadable record": (
        lambda t: (a_run(t) / "run.json").write_text("{"), "run.json' is no record of a run",
    ),
    "other settings": (
        lambda t: edited(t / "profile.json", '"tau": 1.2', '"tau": 1.3'),
        "profile.json has another content than SHA256SUMS says",
    ),
    "another checkpoint": (
        lambda t: edited(t.parent / "checkpoints" / "base" / "config.json", "128", "129"),
        "results/checkpoints: base/config.json has another content",
    ),
    "an edited table": (
        lambda t: edited(t / "tables" / "table1.csv", ",31.", ",32."),
        "tables/table1.csv is drawn otherwise than published",
    ),
    "an edited page": (
        lambda t: edited(t / "report.html", "PR-FKL", "PR-FKL!"),
        "report.html is drawn otherwise than published",
    ),
    "a lost figure": (
        lambda t: (t / "figures" / "fig01.svg").unlink(), "figures/fig01.svg is drawn and not pub",
    ),
    "a figure of old": (
        lambda t: (t / "figures" / "fig99.svg").write_text("<svg/>"),
        "figures/fig99.svg is published and no longer drawn",
    ),
}  # fmt: skip


@pytest.mark.fault(
    "index.csv names an absent run",
    "a published file lost, cut or edited",
    "a figure or table edited",
)
def test_every_damage_is_found(target, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole") / "results"
    shutil.copytree(target.parent, whole)
    for damage, sentence in DAMAGES.values():
        damage(target)
        wrong = verify.verify("smoke")
        assert any(re.search(sentence, one) for one in wrong), (sentence, wrong)
        shutil.rmtree(target.parent)
        shutil.copytree(whole, target.parent)
    assert verify.verify("smoke") == []


@pytest.mark.fault("a measurement edited before it is drawn")
def test_nothing_is_drawn_of_an_edited_measurement(target, finished, place, monkeypatch, capsys):
    """In a notebook, from what is published, by the command: a file that still opens is not enough."""
    assert exhibits.show(PROFILE, "table1")
    for folder, draw in (
        (finished[-1].folder, lambda: exhibits.show(PROFILE, "table1")),
        (a_run(target, "evaluate"), lambda: exhibits.redraw("smoke")),
    ):
        path = folder / "samples.parquet"
        whole = path.read_bytes()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        with pytest.raises(
            ValueError, match=f"run {folder.name}: its samples.parquet has another content .*; rest"
        ):
            draw()
        path.write_bytes(whole)
        assert draw()
    edited(target / "profile.json", '"tau": 1.2', '"tau": 1.3')
    monkeypatch.setattr(params, "ROOT", place)
    monkeypatch.setattr(params, "load", lambda _: PROFILE)
    monkeypatch.setattr("sys.argv", ["companion", "figures"])
    with pytest.raises(SystemExit, match="2"):
        app.main()
    assert "profile.json has another content than SHA256SUMS says; restore it first" in (
        " ".join(capsys.readouterr().err.split())
    )


@pytest.mark.fault("figures cannot be written")
def test_figures_that_cannot_be_written_are_one_sentence(target, place, monkeypatch, capsys):
    shutil.rmtree(target / "figures")
    (target / "figures").write_text("a file where the folder should be")
    monkeypatch.setattr(params, "ROOT", place)
    monkeypatch.setattr(params, "load", lambda _: PROFILE)
    monkeypatch.setattr("sys.argv", ["companion", "figures"])
    with pytest.raises(SystemExit, match="2"):
        app.main()
    said = capsys.readouterr().err
    assert said.startswith("companion: ") and "figures'" in said and len(said.splitlines()) == 1


def test_this_machines_own_runs_are_read_wholly(target, finished, capsys):
    path = finished[0].policy / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert finished[0].finished  # a look at its frame does not tell
    [wrong] = verify._local(finished[0].folder.parent)
    assert wrong == (
        f"run {finished[0].name}: its policy/model.safetensors has another content than when it was made"
    )


def test_a_record_under_another_name_is_found_though_it_has_no_seal(place):
    """As the published ones of 0.1.0 are checked: by their names."""
    identity = {"stage": "rl", "settings": {"seed": 1}, "inputs": {}}
    name = f"rl-x-seed1-{runs.fingerprint(identity)}"
    folder = place / name
    folder.mkdir()
    record = {"run": name, "status": "finished", **identity}
    (folder / "run.json").write_text(json.dumps(record))
    assert list(verify._record(runs.read_run(folder), {1})) == []
    (folder / "run.json").write_text(json.dumps(record | {"settings": {"seed": 2}}))
    assert list(verify._record(runs.read_run(folder), {1})) == [
        f"{name} is not what its run.json is called after",
        f"{name} is of seed 2, and listed in index.csv for 1",
    ]


@pytest.mark.fault("SHA256SUMS is lost")
def test_nothing_published_and_a_lost_list_are_one_sentence(place, target):
    (target / manifest.NAME).unlink()
    with pytest.raises(ValueError, match="smoke/SHA256SUMS' cannot be read .*; restore it"):
        verify.verify("smoke")
    (target / roles.INDEX).unlink()
    with pytest.raises(ValueError, match="'smoke' has no published runs; make some"):
        verify.verify("smoke")


def test_another_processors_rounding_and_another_zlib_are_told_from_other_results(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"

    def how(suffix, kept, new):
        for path, text in ((one, kept), (other, new)):
            path.with_suffix(suffix).write_text(text)
        return verify.alike(one.with_suffix(suffix), other.with_suffix(suffix))

    assert how(".csv", "a,1.5\n", "a,1.5\n") == "byte for byte"
    assert how(".csv", "a,78.123456789\n", "a,78.123456788\n") == "to rounding"
    for kept, new in (("a,78.1\n", "a,78.2\n"), ("a,1\n", "b,1\n"), ("a,1\n", "a,1,2\n")):
        assert how(".csv", kept, new) is None
    assert how(".svg", 'id="p1" d="M 1.000001 2"', 'id="p1" d="M 1.000002 2"') == "to rounding"
    assert how(".svg", "fill: #000001", "fill: #000002") is None

    picture = np.zeros((40, 40, 3), dtype=np.uint8)
    picture[10:30] = 200
    Image.fromarray(picture).save(one.with_suffix(".png"), compress_level=1)
    Image.fromarray(picture).save(other.with_suffix(".png"), compress_level=9)
    assert verify.alike(one.with_suffix(".png"), other.with_suffix(".png")) == "pixel by pixel"
    for moved in (np.roll(picture, 1, axis=0), picture[:20]):
        Image.fromarray(moved).save(other.with_suffix(".png"))
        assert verify.alike(one.with_suffix(".png"), other.with_suffix(".png")) is None


def test_a_page_with_another_picture_is_another_page(tmp_path):
    from base64 import b64encode

    def page(name, shade, level):
        picture = Image.fromarray(np.full((9, 9), shade, dtype=np.uint8))
        picture.save(tmp_path / "x.png", compress_level=level)
        data = b64encode((tmp_path / "x.png").read_bytes()).decode()
        path = tmp_path / f"{name}.html"
        path.write_text(f'<p>78.1</p><img src="data:image/png;base64,{data}">')
        return path

    kept = page("kept", 200, 1)
    assert verify.alike(kept, page("again", 200, 9)) == "to rounding"
    assert verify.alike(kept, page("other", 100, 1)) is None
