"""The notebooks: committed clean, run end to end on `smoke` with every framework, reproducible."""

import re
from concurrent.futures import ThreadPoolExecutor

import nbformat
import papermill
import pytest
from conftest import run

from companion import params
from companion.commands import publish
from companion.params import ROOT
from companion.study import roles

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMOKE = ROOT / "runs" / "smoke"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_without_outputs_and_with_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [c for c in code if c.outputs or c.execution_count]
    tagged = [c for c in code if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert {"profile", "seed", "changes"} <= set(papermill.inspect_notebook(str(path)))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_logic_lives_in_the_package(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not re.search(r"^\s*(def|class|while|for|if|try)\b", cell.source, re.MULTILINE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_an_ignored_output_says_why(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert "NBVAL" not in cell.source
        if "nbval-ignore-output" in cell.metadata.get("tags", []):
            assert re.match(r"# \w.{10,}\n", cell.source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_words_need_no_typesetter(path):
    """What is typeset in a browser asks a network for it, and exported pages lower and raise nothing."""
    cells = nbformat.read(path, as_version=4).cells
    words = {c.id: c.source for c in cells if c.cell_type == "markdown"}
    assert not [cell for cell, text in words.items() if re.search(r"\$|</?su[bp]>", text)]


def test_smoke_runs_every_framework(executed):
    assert [path.name for path in sorted(executed.glob("*.ipynb"))] == [p.name for p in NOTEBOOKS]
    made = {path.name.split("-")[0] for path in SMOKE.iterdir() if (path / "run.json").exists()}
    assert {"rl", "reheat", "scale", "evaluate"} <= made
    page = (executed / "notebooks.html").read_text()
    assert "http-equiv" not in page and page.count("<img") >= 5
    assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=.?https?:|from .https?:", page)


def test_a_second_run_trains_nothing_and_says_the_same(executed, monkeypatch):
    """nbval runs every cell again and compares its text and tables with the first run's."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))  # where nbval's plug-in lies
    before = {p: p.stat().st_mtime_ns for p in SMOKE.glob("*/run.json")}
    paths = sorted(map(str, executed.glob("*.ipynb")))
    with ThreadPoolExecutor(2) as pool:  # a core each: importing takes most of the time
        outs = pool.map(nbval, (paths[::2], paths[1::2]))
    assert all(re.search(r"\d+ passed", out) and "failed" not in out for out in outs)
    assert {p: p.stat().st_mtime_ns for p in SMOKE.glob("*/run.json")} == before


def test_what_was_executed_is_what_is_published(executed):
    """Every picture, table and sentence of the notebooks, drawn again from the same runs."""
    profile = params.load("smoke")
    made = roles.made(profile, roles.STUDY | roles.ANALYSES)
    publish.check_executed(profile, made, executed)


def nbval(paths):
    plugins = "-p", "kernels_over_ipc", "-p", "no:cacheprovider"
    return run("pytest", "--nbval", *plugins, "-q", "-c", "/dev/null", *paths)
