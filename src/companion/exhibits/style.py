"""What all figures share: colours, fonts, and a canvas that a notebook shows once."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Bbox

from companion.exhibits.text import minus

# Okabe-Ito, and beyond its eight Tol's muted: distinct for colour-blind readers; every arm keeps its
# colour in every figure.
COLOURS = {
    "Base": "#999999",
    "Collapsed": "#000000",
    "+DAPO": "#000000",
    "+DAPO, optimizer kept": "#009E73",
    "+DAPO, equal tokens": "#44AA99",
    "+DAPO w/ RR": "#E69F00",
    "+DAPO w/ PR-FKL": "#0072B2",
    "+DAPO w/ PR-RKL": "#56B4E9",
    "+DAPO w/ PR-scale": "#D55E00",
    "+DAPO w/ PR-scale*": "#CC79A7",
    "+DAPO w/ PR-FKL frozen": "#332288",
    "+DAPO w/ merge": "#882255",
    "+DAPO w/ merge*": "#999933",
}
FKL, RKL = COLOURS["+DAPO w/ PR-FKL"], COLOURS["+DAPO w/ PR-RKL"]

PAPER: dict[str, Any] = {"color": "black", "linewidth": 1, "linestyle": (0, (5, 3)), "zorder": 1.5}
"""Every line that is the paper's, and no other."""
LEVEL: dict[str, Any] = {"color": "0.55", "linewidth": 1, "linestyle": ":", "zorder": 0}
"""Every line that is a setting of the study, such as the stop."""
SMALL = 8
"""Points: no text is smaller."""

PASSES = 20
DIGITS = 12
"""Of a position, in parts of the figure: far below a pixel, far above the noise of float64."""

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "savefig.dpi": 120,  # the page has the SVG; twice this would fill the repository
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "companion",
}


class Settled(ConstrainedLayoutEngine):
    """Constrained layout until nothing moves, without its last bits, which differ from run to run.

    What hangs below its own axes, such as a legend, moves with them: one pass leaves it on the way, and
    a second drawing of the same figure would differ.
    """

    def execute(self, fig: Figure) -> Any:
        before: list[list[float]] = []
        for _ in range(PASSES):
            found = super().execute(fig)
            places = [self._settle(axes) for axes in fig.axes]
            if places == before:
                break
            before = places
        return found

    @staticmethod
    def _settle(axes: Axes) -> list[float]:
        corners = axes.get_position(original=True).get_points().round(DIGITS)
        # The public one would take the axes out of the layout.
        axes._set_position(Bbox(corners), which="original")  # type: ignore[attr-defined]
        return [float(place) for place in corners.ravel()]


def canvas(*args, **kwargs) -> tuple[Figure, np.ndarray]:
    """A figure in the house's style, and its axes, as of `plt.subplots`."""
    sns.set_theme(context="paper", style="ticks", rc=STYLE)
    figure, axes = plt.subplots(*args, layout=Settled(), **kwargs)
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure, np.atleast_1d(axes)


def titled(figure: Figure, finding: str) -> Figure:
    """The figure with its finding above it, wrapped to its width."""
    words = textwrap.fill(
        minus(finding), int(10.5 * figure.get_figwidth())
    )  # bold letters of 11 points
    figure.suptitle(words, x=0.01, ha="left", fontsize=11, fontweight="bold", color="0.15")
    return figure


def paper_mark(
    axis: Axes, x: float | Sequence[float], y: float | Sequence[float], label: str = "the paper"
) -> None:
    """A value of the paper's: a hollow diamond, in every figure."""
    axis.plot(
        x, y, "D", color="white", markeredgecolor="black", markeredgewidth=1.2, markersize=6,
        linestyle="none", zorder=6, label=label,
    )  # fmt: skip


def paper_line(axis: Axes, value: float, said: str = "the paper", **placed: Any) -> None:
    """A value of the paper's that is a level, or a place on the x axis: a dashed line; see `_line`."""
    _line(axis, value, said, PAPER, **placed)


def level(axis: Axes, value: float, said: str, **placed: Any) -> None:
    """A setting of the study, such as where reheating stops: a dotted line; see `_line`."""
    _line(axis, value, said, LEVEL, **placed)


def _line(
    axis: Axes,
    value: float,
    said: str,
    look: dict[str, Any],
    upright: bool = False,
    at: float = 1,
    under: bool = False,
) -> None:
    """A line across the axes, and what it is.

    Args:
        upright: at this place of the x axis.
        at: where along the line its words stand, from 0 to 1, or beside the axes beyond that.
        under: the words below the line instead of above it.
    """
    (axis.axvline if upright else axis.axhline)(value, **look)
    beside = at > 1
    axis.annotate(
        said,
        (value, at) if upright else (at, value),
        xycoords=("data", "axes fraction") if upright else ("axes fraction", "data"),
        xytext=(3, 0) if upright else (0, 0 if beside else -2 if under else 2),
        textcoords="offset points",
        ha="left" if upright or at < 0.5 or beside else "right",
        va="center" if beside else "top" if under or (upright and at > 0.5) else "bottom",
        fontsize=SMALL,
        color="black" if look is PAPER else "0.35",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
    )


def legend_below(figure: Figure, axes: Iterable[Axes], columns: int, title: str = "") -> None:
    """One legend of these axes under the figure, where no data are; each label once."""
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        title=title or None,
    )


def estimates(axis: Axes, estimates: pd.Series) -> None:
    """A dot and its interval for each labelled Estimate, the first label on top."""
    for place, (label, estimate) in enumerate(estimates.items()):
        colour = COLOURS.get(label, "#555555")
        axis.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
        axis.plot(estimate.value, place, "o", color=colour)
    axis.axvline(0, color="0.6", linewidth=1, zorder=0)
    names = [label.removeprefix("+DAPO w/ ") for label in estimates.index]
    axis.set_yticks(range(len(estimates)), names)
    axis.invert_yaxis()


def smooth(rewards: pd.DataFrame) -> pd.DataFrame:
    """Each step's mean with the nine before it; nothing is drawn from what came later."""
    return rewards.rolling(10, min_periods=1).mean()


def plain_log(axis: Axes) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def entropy_line(axis: Axes, rows: pd.DataFrame, color: str, label: str, **style: Any) -> None:
    """A reheating's entropy over its steps: of one seed with its interval over prompts, of several a
    line a seed; `style` of the line."""
    several = rows["seed"].nunique() > 1
    look: dict[str, Any] = {
        "marker": "o",
        "markersize": 2 if several else 3,
        "color": color,
    } | style
    if several:
        look |= {"linewidth": 1, "alpha": 0.8}
    for place, (_, one) in enumerate(rows.groupby("seed")):
        if not several:
            between = one["entropy_low"], one["entropy_high"]
            axis.fill_between(one["step"], *between, color=color, alpha=0.15, linewidth=0)
        axis.plot(one["step"], one["token_entropy"], label=None if place else label, **look)
    shown = "a line a seed" if several else "95% over prompts"
    axis.set(ylabel=f"mean token entropy (nats, T = 1),\n{shown}")
    axis.set_ylim(0, 1.05 * axis.dataLim.y1)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
