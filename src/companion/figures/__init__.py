"""One function a figure of the paper: tidy measurements in, a matplotlib Figure out."""

from companion.figures.beyond import fig11, fig12, fig13
from companion.figures.internals import fig03, fig04, fig05, fig06, fig10
from companion.figures.method import softened
from companion.figures.objectives import fig07, fig08, fig09
from companion.figures.study import collapse, fig01, fig02, reheating
from companion.figures.style import COLOURS

__all__ = [
    "COLOURS",
    "collapse",
    "fig01",
    "fig02",
    "fig03",
    "fig04",
    "fig05",
    "fig06",
    "fig07",
    "fig08",
    "fig09",
    "fig10",
    "fig11",
    "fig12",
    "fig13",
    "reheating",
    "softened",
]
