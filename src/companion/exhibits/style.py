"""What all figures share: colours, fonts, and a canvas that a notebook shows once."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

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

DIGITS = 12
"""Of a position, in parts of the figure: far below a pixel, far above the noise of float64."""

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "companion",
}


class Settled(ConstrainedLayoutEngine):
    """Constrained layout without its last bits, in which its solver differs from run to run."""

    def execute(self, fig: Figure) -> Any:
        found = super().execute(fig)
        for axes in fig.axes:
            corners = axes.get_position(original=True).get_points().round(DIGITS)
            # The public one would take the axes out of the layout.
            axes._set_position(Bbox(corners), which="original")  # type: ignore[attr-defined]
        return found


def canvas(*args, **kwargs) -> tuple[Figure, np.ndarray]:
    """A figure in the house's style, and its axes, as of `plt.subplots`."""
    sns.set_theme(context="paper", style="ticks", rc=STYLE)
    figure, axes = plt.subplots(*args, layout=Settled(), **kwargs)
    plt.close(figure)  # a notebook shows the returned Figure once, not twice
    return figure, np.atleast_1d(axes)


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


def entropy_line(axis: Axes, rows: pd.DataFrame, colour: str, label: str) -> None:
    """A run's entropy over its steps, with its interval over prompts."""
    axis.fill_between(
        rows["step"],
        rows["entropy_low"],
        rows["entropy_high"],
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    axis.plot(rows["step"], rows["token_entropy"], "o-", color=colour, markersize=3, label=label)
    axis.set(ylabel="mean token entropy (nats, T = 1),\n95% over prompts", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
