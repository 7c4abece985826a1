"""Fig. 12: the reheating and the cooling update in the weights."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import measure
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import canvas
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    moved = measure.table(evidence.only("displacement"))
    return Shown(figure=draw(moved), data=moved, sentence=sentence(moved))


def draw(displacement: pd.DataFrame) -> Figure:
    """Fig. 12: the cooling update against the reheating update, layer by layer and overall.

    Args:
        displacement: measurements of `displacement.reversal`.
    """
    figure, axes = canvas(1, 4, figsize=(12, 3.5))
    drawn = {
        "cosine": ("Cosine", -1),
        "projection": ("Reverse projection", 1),
        "norm_ratio": ("Norm ratio", 1),
        "residual_ratio": ("Residual ratio", 0),
    }
    for axis, (column, (title, exact)) in zip(axes, drawn.items(), strict=True):
        for weights, rows in displacement.groupby("weights"):
            layers, whole = rows[rows["layer"] != "all"], rows[rows["layer"] == "all"]
            style = {"as saved": ("#0072B2", "o", 5), "bfloat16": ("#E69F00", "x", 4)}[weights]
            colour, marker, size = style
            axis.plot(
                layers["layer"],
                layers[column],
                marker,
                color=colour,
                markersize=size,
                label=f"{weights}, by layer",
            )
            axis.axhline(
                whole[column].item(),
                color=colour,
                linewidth=1.2,
                alpha=0.7,
                label=f"{weights}, all weights",
            )
        axis.axhline(exact, color="0.6", linestyle=":", label="an exact way back")
        axis.set(title=title, xlabel="layer")
        axis.tick_params(axis="x", labelrotation=45)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8
    )
    return figure


def sentence(moved: pd.DataFrame) -> str:
    whole = moved[moved["layer"] == "all"].set_index("weights")
    row, rounded = whole.loc["as saved"], whole.loc["bfloat16"]
    return (
        f"Over all weights the cosine is {row['cosine']:.2f}, the projection {row['projection']:.2f}, "
        f"the norm ratio {row['norm_ratio']:.2f} and the residual {row['residual_ratio']:.2f} (one "
        "pair of updates: no interval). The paper calls its own strong anti-alignment: projection 0.89 "
        "and residual about 0.5, which imply a cosine of −0.88. Rounding the weights "
        f"to bfloat16 first would make the cosine {rounded['cosine']:.2f}."
    )


EXHIBIT = Exhibit(
    name="fig12",
    title="Fig. 12: the two updates in the weights",
    notebook="08_reversibility",
    roles=("displacement",),
    make=make,
    alt="Cosine, projection, norm ratio and residual ratio of the two updates by layer.",
)
