"""Every exhibit, as the paper orders them; ours stand where they belong.

This list is all that redrawing, the page, the publisher and the tests know of them.
"""

from __future__ import annotations

from companion.exhibits import (
    answers,
    audit,
    explorer,
    fig01,
    fig02,
    fig03,
    fig04,
    fig05,
    fig06,
    fig07,
    fig08,
    fig09,
    fig10,
    fig11,
    fig12,
    fig13,
    figA,
    figB,
    figC,
    figD,
    learning,
    ood,
    reheating,
    table1,
    table2,
    table3,
    table4,
    table5,
    table6,
)
from companion.exhibits.exhibit import Exhibit

EXHIBITS: list[Exhibit] = [
    module.EXHIBIT
    for module in (
        explorer, answers,
        fig01, table1, figA, learning, fig02, reheating, ood, fig03, fig05, fig04, fig06, table2, fig07,
        table3, table4, table5, fig08, fig09, fig10, fig11, fig12, fig13, figB, figC, figD,
        table6, audit,
    )
]  # fmt: skip


def find(name: str) -> Exhibit:
    """The exhibit of this name; ValueError for one that is not listed."""
    for exhibit in EXHIBITS:
        if exhibit.name == name:
            return exhibit
    names = ", ".join(exhibit.name for exhibit in EXHIBITS)
    raise ValueError(f"exhibit is '{name}', which does not exist; use one of {names}")
