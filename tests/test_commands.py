"""The command line: help, types, and one sentence with status 2 for whatever is wrong with the input."""

import json
import re
import subprocess
import sys

import nbformat
import papermill
import pytest

import companion
from companion import params
from companion.commands import app, reproduce
from companion.machine import doctor
from companion.params import ROOT

COMMANDS = ["reproduce", "publish", "figures", "verify", "export", "doctor", "plan"]


def companion_says(monkeypatch, capsys, *words):
    """Exit status, stdout and stderr of `companion WORDS`."""
    monkeypatch.setattr("sys.argv", ["companion", *words])
    with pytest.raises(SystemExit) as end:
        app.main()
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


@pytest.mark.parametrize("words", [["--help"], ["-h"], *([name, "-h"] for name in COMMANDS)])
def test_help_says_what_every_option_is_for(monkeypatch, capsys, words):
    monkeypatch.setenv("COLUMNS", "300")
    status, out, _ = companion_says(monkeypatch, capsys, *words)
    assert status == 0
    expected = COMMANDS if len(words) == 1 else ["--help"]
    assert all(word in out for word in expected)


def test_version(monkeypatch, capsys):
    status, out, _ = companion_says(monkeypatch, capsys, "--version")
    assert status == 0 and out.strip() == f"companion {companion.__version__}"


@pytest.mark.parametrize(("words", "sentence"), [
    (["reproduce", "--only", "nope"], "notebook 'nope' does not exist; use one of 00_overview"),
    (["reproduce", "-p", "tua", "1.3"], "'tua' is no parameter of any of the notebooks; known: .*tau"),
    (["reproduce", "--only", "01_collapse", "-p", "tau", "1.3"], "'tau' is no parameter of 01_coll"),
    (["reproduce", "-p", "seed", "2"], "-p seed is 2; give it by --seed"),
    (["reproduce", "-p", "tau"], "-p is 'tau' and must give a name its value"),
    (["reproduce", "--set", "reheat.tua=1.3"], "'reheat.tua' is no field of a profile; did you mean"),
    (["reproduce", "--set", "reheat.tau=1"], "tau is 1, which makes the teacher the student"),
    (["reproduce", "--set", "reheat.tau"], "--set is 'reheat.tau' and must give a name its value"),
    (["reproduce", "--set", "rl.arms=[+DAPO"], "whose value is no YAML; quote it"),
    (["export", "nope", "out"], "nope.*run.json"),
    (["figures", "--profile", "smoke"], "'smoke' has no published runs; make some with"),
    *((
        [name, "--profile", "qwen3-5b"], "profile is 'qwen3-5b', which does not exist; use one of "
    ) for name in COMMANDS if name != "export"),
])  # fmt: skip
def test_bad_input_is_one_sentence_and_status_2(monkeypatch, capsys, words, sentence):
    status, _, err = companion_says(monkeypatch, capsys, *words)
    assert status == 2 and err.startswith("companion: ") and len(err.splitlines()) == 1
    assert re.search(sentence, err)


@pytest.mark.parametrize("text", ["", "{", '{"run": "x"}', "[]"])
def test_an_unreadable_record_is_named(monkeypatch, capsys, tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    status, _, err = companion_says(monkeypatch, capsys, "export", str(tmp_path), "out")
    assert status == 2 and "run.json" in err and "restore it" in err


@pytest.mark.parametrize("words", [["trian"], ["plan", "--profil", "laptop"], ["plan", "laptop"]])
def test_an_unknown_command_option_or_word_is_refused(monkeypatch, capsys, words):
    status, _, err = companion_says(monkeypatch, capsys, *words)
    assert status == 2 and err.startswith("Usage: companion ") and "Error" in err


def test_the_doctors_exit_status_tells(monkeypatch, capsys):
    status, out, _ = companion_says(monkeypatch, capsys, "doctor", "--profile", "laptop")
    assert status == (0 if doctor.examine(params.load("laptop"))["ok"].all() else 1)
    assert "packages" in out


def test_a_bug_is_not_taken_for_bad_input(monkeypatch):
    monkeypatch.setattr("sys.argv", ["companion", "figures"])
    monkeypatch.setattr("companion.exhibits.redraw", lambda profile: [][0])
    with pytest.raises(IndexError):
        app.main()


def test_a_parameter_has_papermills_types_and_reaches_the_notebooks_that_have_it():
    words = app.joined(
        ["-p", "tau", "1.3", "-p", "force", "True", "-p", "direction=reverse", "--seed", "2"]
    )
    assert words == ["-p", "tau=1.3", "-p", "force=True", "-p", "direction=reverse", "--seed", "2"]
    pairs = dict(app._pairs(["tau=1.3", "force=True", "direction=reverse", "x=None", "n=4"], "-p"))
    assert pairs == {"tau": 1.3, "force": True, "direction": "reverse", "x": None, "n": 4}
    shared = {
        path.stem: values
        for path, values in reproduce.shared_out(
            reproduce.notebooks(["00_overview", "02_reheat", "04_evaluate"]),
            {"tau": 1.3, "force": True},
        ).items()
    }
    assert shared == {
        "00_overview": {"tau": 1.3},
        "02_reheat": {"tau": 1.3, "force": True},
        "04_evaluate": {},
    }


def test_changes_are_yaml_and_make_other_runs_in_another_folder(monkeypatch):
    pairs = dict(app._pairs(["reheat.tau=1.3", "reheat.recovery_entropy=null"], "--set"))
    assert pairs == {"reheat.tau": 1.3, "reheat.recovery_entropy": None}
    changed = params.load("smoke", {"seed": 3}, pairs)
    assert (changed.reheat.tau, changed.reheat.recovery_entropy, changed.seed) == (1.3, None, 3)
    plain = params.load("smoke", {"seed": 3})
    assert reproduce.executed_folder(plain).name == "notebooks-seed3"
    names = {
        reproduce.executed_folder(plain, {"tau": 1.3}).name,
        reproduce.executed_folder(changed).name,
        reproduce.executed_folder(params.load("smoke", {"seed": 3}, {"reheat.tau": 1.4})).name,
    }
    assert len(names) == 3 and "notebooks-seed3" not in names


def test_every_notebook_gets_the_changes(monkeypatch, tmp_path):
    executed = []
    monkeypatch.setattr(reproduce, "execute", lambda path, output, values: executed.append(values))
    monkeypatch.setattr(reproduce, "bind", lambda *_, **__: "")
    monkeypatch.setattr(reproduce, "executed_folder", lambda *_: tmp_path)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    reproduce.run("smoke", None, [], [("tau", 1.3)], [("rl.continued_steps", 3)])
    assert len(executed) == len(reproduce.notebooks())
    assert all(values["changes"] == {"rl.continued_steps": 3} for values in executed)
    assert sum("tau" in values for values in executed) == 2


def test_a_change_given_to_papermill_alone_reaches_the_profile(tmp_path):
    """As text, as `papermill -p changes "reheat.tau: 1.3"` gives it."""
    for notebook in reproduce.notebooks():
        assert "changes" in papermill.inspect_notebook(str(notebook))
        assert "changes)" in notebook.read_text()
    assert params.load("smoke", changes="reheat.tau: 1.3").reheat.tau == 1.3
    as_json = json.dumps({"reheat.tau": 1.3, "rl.continued_steps": 3})
    assert params.load("smoke", changes=as_json).rl.continued_steps == 3
    assert params.load("smoke", {"reheat.tau": 1.4}, as_json).reheat.tau == 1.4
    for odd in ("reheat.tau=1.3", "1.3", "[", "- a"):
        with pytest.raises(ValueError, match="must give fields of the profile their values"):
            params.load("smoke", changes=odd)


def test_a_cell_that_fails_ends_the_command_with_its_error(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("1 + 1"),
            nbformat.v4.new_code_cell("raise OSError('disk full')"),
        ]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "odd.ipynb")
    output = ROOT / "runs" / "odd" / "odd.ipynb"
    with pytest.raises(SystemExit, match="odd.ipynb, cell 2: OSError: disk full"):
        reproduce.execute(tmp_path / "odd.ipynb", output, {})
    assert output.exists()


def test_importing_the_package_and_its_help_load_no_framework():
    code = (
        "import sys; import companion.commands.app, companion.params; "
        "print([m for m in ('torch', 'transformers', 'pandas', 'verl') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
