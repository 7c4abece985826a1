"""What README states as measured is what is published."""

import re

import pytest

from companion.params import ROOT

README = (ROOT / "README.md").read_text()
TABLE = ROOT / "results" / "laptop" / "tables" / "table1.md"


def rows(markdown):
    """Cells of every table row, by the row's name."""
    lines = [line.split("|")[1:-1] for line in markdown.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_the_measured_columns_are_the_published_averages():
    readme = rows(README.split("<!-- measured")[1].split("\n\n")[0])
    published = {name: cells[-2:] for name, cells in rows(TABLE.read_text()).items()}
    arms = [name for name in published if name in ("Base", "Collapsed") or name.startswith("+DAPO")]
    assert len(arms) >= 8
    for arm in arms:
        assert readme[arm][:2] == published[arm], arm


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_the_pages_leads_somewhere(page):
    targets = set(re.findall(r"\]\(([^)#: ]+)\)", page.read_text()))
    assert not [target for target in targets if not (page.parent / target).exists()]
