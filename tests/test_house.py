"""The habits that keep the house: rooms of one idea, each on the map (`make check` holds the layers)."""

import ast
import re

import pytest

from companion.params import ROOT

SOURCE = ROOT / "src" / "companion"
MODULES = sorted(SOURCE.rglob("*.py"))
WINGS = sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_is_short_and_opens_with_what_it_is_for(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert path.name == "__init__.py" or ast.get_docstring(ast.parse(text))


def test_nothing_that_is_published_holds_a_machines_paths():
    texts = (".ipynb", ".json", ".jsonl", ".md", ".html", ".csv", ".log")
    holding = [
        str(path)
        for folder in ("results", "docs", "notebooks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in texts
        and re.search(r"(?<![\w~.])/(root|home|Users|work)/", path.read_text())
    ]
    assert not holding


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_wing_is_on_the_map(page):
    text = (ROOT / page).read_text()
    assert all(f"{wing}/" in text for wing in WINGS)


def test_a_reader_looking_for_fig_8_is_sent_to_one_file():
    assert (
        "[exhibits/fig08.py](src/companion/exhibits/fig08.py)" in (ROOT / "README.md").read_text()
    )
    story = (SOURCE / "exhibits" / "fig08.py").read_text()
    for part in ("roles=", "def make", "def draw", "def sentence", "title=", "alt=", "PAPER ="):
        assert part in story
