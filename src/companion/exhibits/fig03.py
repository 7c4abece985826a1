"""Fig. 3: CKA between the layers of the collapsed and the reheated policy."""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import paper
from companion.analysis import measure
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import FKL, canvas
from companion.runs import Run
from companion.schema import Profile
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 3", "CKA on the diagonal")


def make(profile: Profile, evidence: Evidence) -> Shown:
    run = evidence.only("cka")
    cka, parted = measure.table(run), _parts(run)
    return Shown(figure=draw(cka, parted), data=cka, sentence=sentence(cka, parted))


def _parts(run: Run) -> str:
    """What the folds of a measurement are."""
    if folds := run.identity["settings"].get("folds"):
        return f"{folds} parts of the prompts"
    return "the five suites, no sampling noise"  # as 0.1.0 cut the prompts


def draw(cka: pd.DataFrame, parted: str) -> Figure:
    """Fig. 3: how alike the layers of the collapsed and the reheated policy are.

    Args:
        cka: measurements of `representation.cka`.
        parted: what its folds are.
    """
    figure, axes = canvas(1, 3, figsize=(11, 3.4), width_ratios=[1, 1, 1.1])
    whole = cka[cka["fold"] == "all"]
    layers = whole["before"].nunique()
    for axis, (name, rows) in zip(axes, whole.groupby("estimator"), strict=False):
        matrix = rows.pivot(index="before", columns="after", values="cka")
        sns.heatmap(
            matrix,
            ax=axis,
            cmap="viridis",
            vmax=1,
            annot=layers <= 8,
            fmt=".2f",
            annot_kws={"fontsize": 8},
            square=True,
            cbar_kws={"label": "linear CKA"},
        )
        axis.set(
            title=f"{name} estimator",
            xlabel="layer of the reheated policy",
            ylabel="layer of the collapsed policy",
        )
        axis.invert_yaxis()
    diagonal = cka[(cka["before"] == cka["after"]) & (cka["estimator"] == "unbiased")]
    folds = diagonal[diagonal["fold"] != "all"].groupby("before")["cka"].agg(["min", "max"])
    centre = diagonal[diagonal["fold"] == "all"].set_index("before")["cka"]
    axes[2].vlines(
        folds.index,
        1 - folds["max"],
        1 - folds["min"],
        color=FKL,
        linewidth=2,
        label=f"range over {parted}",
    )
    axes[2].plot(centre.index, 1 - centre, "o", color=FKL, label="all tokens")
    axes[2].axhline(1 - PAPER, color="0.6", linestyle=":", label=f"the paper's bound, {PAPER}")
    axes[2].set(
        title="Same layer in both",
        xlabel="layer (0: embeddings)",
        ylabel="1 − CKA (unbiased)",
        yscale="log",
    )
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[2].legend(fontsize=7.5, loc="center", bbox_to_anchor=(0.5, 0.28))
    return figure


def sentence(cka: pd.DataFrame, parted: str) -> str:
    """Args: as `draw`."""
    diagonal = cka[(cka["before"] == cka["after"]) & (cka["estimator"] == "unbiased")]
    whole = diagonal[diagonal["fold"] == "all"].set_index("before")["cka"]
    layer = whole.idxmin()
    parts = diagonal[(diagonal["fold"] != "all") & (diagonal["before"] == layer)]["cka"]
    side = "above" if whole.min() > PAPER else "below"
    return (
        f"The layer least like itself after reheating is layer {layer} with an unbiased CKA of "
        f"{whole.min():.4f} ({parts.min():.4f} to {parts.max():.4f} over {parted}), "
        f"{side} the paper's bound of {PAPER}."
    )


EXHIBIT = Exhibit(
    name="fig03",
    title="Fig. 3: CKA between the layers of the collapsed and the reheated policy",
    notebook="05_internals",
    roles=("cka",),
    make=make,
    alt="Two matrices of linear CKA, biased and unbiased, with their diagonals' distance from 1.",
)
