"""Notebooks executed by `companion reproduce`."""

import nbformat
import pytest

from companion.commands import reproduce


@pytest.mark.timeout(120)
def test_cells_with_widgets_end(tmp_path):
    asks = "import ipywidgets\nipywidgets.interact(lambda a, b: print(a, b), a=[1, 2], b=(1, 9));"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(asks) for _ in range(60)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(book, tmp_path / "book.ipynb")
    done = reproduce.execute(tmp_path / "book.ipynb", tmp_path / "done" / "book.ipynb", {})
    assert all(cell.outputs for cell in nbformat.read(done, as_version=4).cells)
