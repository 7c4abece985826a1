"""Notebooks executed by `companion reproduce`."""

import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from companion import params
from companion.commands import reproduce

pytestmark = pytest.mark.timeout(240)


def notebook(path, *cells):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(book, path)
    return path


def test_cells_with_widgets_end(tmp_path):
    asks = "import ipywidgets\nipywidgets.interact(lambda a, b: print(a, b), a=[1, 2], b=(1, 9));"
    book = notebook(tmp_path / "book.ipynb", *[asks] * 60)
    done = reproduce.execute(book, tmp_path / "done" / "book.ipynb", {})
    assert all(cell.outputs for cell in nbformat.read(done, as_version=4).cells)


def test_some_are_executed_beside_each_other_and_come_back_in_order(tmp_path):
    """Each waits for the other's file."""
    cell = (
        "import pathlib, time\n"
        "(pathlib.Path.cwd() / '{}').touch()\n"
        "while not (pathlib.Path.cwd() / '{}').exists():\n    time.sleep(0.1)"
    )
    books = [
        notebook(tmp_path / "05_one.ipynb", cell.format("one", "other")),
        notebook(tmp_path / "06_other.ipynb", cell.format("other", "one")),
    ]
    outputs = [tmp_path / "done" / book.name for book in books]
    work = [(book, output, {}) for book, output in zip(books, outputs, strict=True)]
    assert reproduce._beside(2, work) == outputs
    assert reproduce._beside(2, []) == []


def test_notebooks_that_share_runs_are_not_executed_beside_each_other(monkeypatch, place):
    """11 and 12 make runs that 06, 07 and each other make: whoever came second would be refused."""
    done = []
    monkeypatch.setattr(reproduce, "execute", lambda path, *_: done.append([path.name[:2]]))
    monkeypatch.setattr(
        reproduce, "_beside", lambda _, work: done.append([one[0].name[:2] for one in work]) or []
    )
    monkeypatch.setattr(reproduce, "bind", lambda *_, **__: "")
    monkeypatch.setattr(reproduce.compare, "can_be_made", lambda _: False)
    reproduce.executed_folder(params.load("smoke")).mkdir(parents=True)
    reproduce.run("smoke", None, (), (), (), jobs=2)
    assert done == [
        ["00"], ["01"], ["02"], ["03"], ["04"],
        ["05", "06", "07", "08", "09", "10"],
        ["11"], ["12"],
    ]  # fmt: skip


def test_a_cell_that_fails_beside_others_ends_the_command_with_its_error(tmp_path):
    bad = notebook(tmp_path / "bad.ipynb", "raise OSError('disk full')")
    work = [(bad, reproduce.ROOT / "runs" / "odd" / "bad.ipynb", {})]
    with pytest.raises(SystemExit, match="bad.ipynb, cell 1: OSError: disk full"):
        reproduce._beside(2, work)


def test_on_gpus_one_runs_at_a_time():
    with pytest.raises(ValueError, match="--jobs is 2, and each run of 'qwen3-4b' takes every GPU"):
        reproduce.run("qwen3-4b", None, [], [], [], jobs=2)


def test_what_runs_beside_others_ends_with_a_command_that_is_killed(tmp_path):
    notebook(tmp_path / "long.ipynb", "open('begun', 'w')", "import time; time.sleep(600)")
    code = (
        "import pathlib, sys\nfrom companion.commands import reproduce\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "reproduce._beside(2, [(here / 'long.ipynb', here / 'done' / 'long.ipynb', {})])"
    )
    asked = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    _until((tmp_path / "begun").exists)
    below = psutil.Process(asked.pid).children(recursive=True)
    assert len(below) >= 2  # the process that executes, and its kernel
    asked.kill()
    asked.wait()
    _, left = psutil.wait_procs(below, timeout=30)
    assert not left


def _until(true):
    for _ in range(600):
        if true():
            return
        time.sleep(0.1)
    raise TimeoutError
