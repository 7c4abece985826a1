"""Fig. 3: CKA between the layers of the collapsed and the reheated policy."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion import paper
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import FKL, canvas, legend_below, paper_line, titled
from companion.exhibits.wording import directed
from companion.paired import over_seeds
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 3", "CKA on the diagonal")


def make(profile: Profile, evidence: Evidence) -> Shown:
    cka, parted = evidence.measured("cka"), _parts(evidence.every("cka"))
    found = finding(cka)
    return Shown(
        figure=titled(draw(cka, parted), found),
        finding=found,
        data=cka,
        sentence=sentence(cka, parted),
        claims=claims(cka),
    )


def _parts(runs: Sequence[Run]) -> str:
    """What an interval is over: seeds, or of a single one what its folds are."""
    if len(runs) > 1:
        return f"{len(runs)} seeds"
    if folds := runs[0].identity["settings"].get("folds"):
        return f"{folds} parts of the prompts"
    return "the five suites, no sampling noise"  # as 0.1.0 cut the prompts


def draw(cka: pd.DataFrame, parted: str) -> Figure:
    """Fig. 3: how alike the layers of the collapsed and the reheated policy are.

    Args:
        cka: measurements of `representation.cka`, with the seed; of several seeds their mean.
        parted: what the range of a layer is over.
    """
    figure, axes = canvas(1, 2, figsize=(10, 4), width_ratios=[1, 1.4])
    unbiased = cka[cka["estimator"] == "unbiased"]
    whole = unbiased[unbiased["fold"] == "all"]
    sns.heatmap(
        whole.pivot_table(index="before", columns="after", values="cka"),
        ax=axes[0],
        cmap="viridis",
        vmax=1,
        annot=whole["before"].nunique() <= 8,
        fmt=".2f",
        annot_kws={"fontsize": 9},
        square=True,
        cbar_kws={"label": "linear CKA (1: alike)"},
    )
    axes[0].set(
        title="Every layer with every other",
        xlabel="layer of the reheated policy",
        ylabel="layer of the collapsed policy",
    )
    axes[0].invert_yaxis()
    centre, parts = _diagonal(cka)
    ranges = parts.groupby("before").agg(["min", "max"])
    axes[1].vlines(
        ranges.index,
        1 - ranges["max"],
        1 - ranges["min"],
        color=FKL,
        linewidth=2.5,
        label=f"range over {parted}",
    )
    dots = "mean of seeds" if cka["seed"].nunique() > 1 else "all tokens"
    axes[1].plot(centre.index, 1 - centre, "o", color=FKL, markersize=7, label=dots)
    paper_line(axes[1], 1 - PAPER, f"the paper: every layer below {1 - PAPER:.3g}", at=0.01)
    axes[1].set(
        title="A layer before and after (lower = more alike)",
        xlabel="layer (0: embeddings)",
        ylabel="1 − CKA (unbiased)",
        yscale="log",
    )
    axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, axes[1:], 2)
    return figure


def _diagonal(cka: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Each layer's unbiased CKA with itself, by layer: its mean over seeds, and what its range is of:
    the seeds, or of a single one the folds."""
    rows = cka[(cka["before"] == cka["after"]) & (cka["estimator"] == "unbiased")]
    whole = rows[rows["fold"] == "all"].set_index("before")["cka"]
    folds = rows[rows["fold"] != "all"].set_index("before")["cka"]
    return whole.groupby("before").mean(), whole if cka["seed"].nunique() > 1 else folds


def _least(cka: pd.DataFrame) -> tuple[int, Estimate]:
    """The layer least like itself, and its CKA: of several seeds with the interval between them, of
    one with the range over the folds."""
    centre, parts = _diagonal(cka)
    layer, values = int(centre.idxmin()), parts.loc[[centre.idxmin()]]
    if cka["seed"].nunique() == 1:
        return layer, Estimate(centre[layer], values.min(), values.max())
    return layer, over_seeds(list(values), most=1)


def finding(cka: pd.DataFrame) -> str:
    layer, least = _least(cka)
    return (
        f"Layer {layer} changes most: CKA {least:.4f}, {_side(least)} the paper's bound of {PAPER}"
    )


def _side(least: Estimate) -> str:
    side = "above" if least.value > PAPER else "below"
    return f"{side}, not surely," if directed(least, null=PAPER) == "open" else side


def claims(cka: pd.DataFrame) -> tuple[Claim, ...]:
    _, least = _least(cka)
    return (
        Claim(
            "Reheating leaves the representations inside the policy as they were (CKA, 1: the same)",
            "representations stay",
            f"above {PAPER} in every layer",
            f"{least:.4f} in the layer that changes most (of {cka['before'].nunique()})",
            directed(least, null=PAPER),
        ),
    )


def sentence(cka: pd.DataFrame, parted: str) -> str:
    """Args: as `draw`."""
    layer, least = _least(cka)
    return (
        f"The layer least like itself after reheating is layer {layer} with an unbiased CKA of "
        f"{least.value:.4f} ([{least.low:.4f}, {least.high:.4f}] over {parted}), "
        f"{_side(least)} the paper's bound of {PAPER}."
    )


EXHIBIT = Exhibit(
    name="fig03",
    title="Fig. 3: CKA between the layers of the collapsed and the reheated policy",
    notebook="05_internals",
    roles=("cka",),
    make=make,
    alt="A matrix of linear CKA between all layers, and each layer's distance from itself beside the "
    "paper's bound.",
    every_seed=True,
)
