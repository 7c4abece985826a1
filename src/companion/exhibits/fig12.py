"""Fig. 12: the reheating and the cooling update in the weights."""

from __future__ import annotations

from math import inf

import pandas as pd
from matplotlib.figure import Figure

from companion import paper
from companion.analysis import audit
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import canvas, legend_below, level, paper_line, titled
from companion.exhibits.text import minus
from companion.exhibits.wording import near, seeds, written
from companion.paired import over_seeds
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def _of_the_paper() -> dict[str, float]:
    """Of its four numbers the text lost two, which the other two imply."""
    along = paper.number("App. E", "displacement recovered along the projection") / 100
    rest = paper.number("App. E", "residual distance in words")
    implied = audit.geometry(along, rest)
    return {
        "cosine": implied.cosine,
        "projection": along,
        "norm_ratio": implied.norm_ratio,
        "residual_ratio": rest,
    }


PAPER = _of_the_paper()
DRAWN = {
    "cosine": ("Cosine", -1.0),
    "projection": ("Reverse projection", 1.0),
    "norm_ratio": ("Norm ratio", 1.0),
    "residual_ratio": ("Residual ratio", 0.0),
}
"""Of each measurement: its title, and its value on an exact way back."""
BOUNDS = {"cosine": (-1.0, 1.0), "norm_ratio": (0.0, inf), "residual_ratio": (0.0, inf)}
"""What they cannot exceed."""
LOOKS = {
    ("cooled", "as saved"): ("as saved", "black", "o"),
    ("cooled", "bfloat16"): ("bfloat16", "#999999", "x"),
    ("again", "as saved"): ("another seed's reheating, undone", "#E69F00", "s"),
}
"""By the second update and how the weights are kept: what it is called, its colour and its marker."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    moved = evidence.measured("displacement")  # without keys as 0.1.0 published it
    moved = moved.assign(
        update=moved.pop("key").replace("", "cooled") if "key" in moved else "cooled"
    )
    said = finding(moved)
    return Shown(
        figure=titled(draw(moved), said),
        finding=said,
        data=moved,
        sentence=sentence(moved),
        claims=claims(moved),
    )


def draw(displacement: pd.DataFrame) -> Figure:
    """Fig. 12: the cooling update against the reheating update, layer by layer and overall.

    Of several seeds a mark a seed and layer, and their mean over all weights.

    Args:
        displacement: measurements of `displacement.reversal`, with the seed; column `update` is
            "cooled", or "again" of the way from one reheated policy to another.
    """
    figure, axes = canvas(1, 4, figsize=(10, 4))
    several = displacement["seed"].nunique() > 1
    for axis, (column, (title, exact)) in zip(axes, DRAWN.items(), strict=True):
        for (update, kept), (name, colour, marker) in LOOKS.items():
            rows = displacement[
                (displacement["update"] == update) & (displacement["weights"] == kept)
            ]
            if rows.empty:  # published before there was another seed's
                continue
            layers, whole = rows[rows["layer"] != "all"], rows[rows["layer"] == "all"]
            axis.plot(
                layers["layer"], layers[column], marker, color=colour,
                markersize=4 if several else 6, label=f"{name}, by layer",
            )  # fmt: skip
            axis.axhline(
                whole[column].mean(), color=colour, linewidth=1.5, alpha=0.8,
                label=f"{name}, all weights",
            )  # fmt: skip
        level(axis, exact, "exact", at=1.01)
        paper_line(axis, PAPER[column], minus(f"the paper {PAPER[column]:.2f}"))
        low, high = axis.dataLim.intervaly
        ends = [low, high, exact, PAPER[column]]
        room = 0.12 * (max(ends) - min(ends))
        axis.set(title=title, xlabel="layer", ylim=(min(ends) - room, max(ends) + room))
        axis.tick_params(axis="x", labelrotation=60)
    if several:
        axes[0].set_ylabel("a mark a seed and layer,\na line their mean over all weights")
    legend_below(figure, [axes[0]], len(axes[0].get_legend_handles_labels()[1]) // 2)  # a look each
    return figure


def _whole(moved: pd.DataFrame, update: str, weights: str = "as saved") -> pd.DataFrame:
    """Over all weights, a row a seed."""
    return moved[
        (moved["layer"] == "all") & (moved["update"] == update) & (moved["weights"] == weights)
    ]


def _means(rows: pd.DataFrame) -> dict[str, Estimate]:
    """Of each measurement, over the seeds; a row each."""
    return {name: over_seeds(list(rows[name]), *BOUNDS.get(name, ())) for name in DRAWN}


def finding(moved: pd.DataFrame) -> str:
    along = _means(_whole(moved, "cooled"))["projection"]
    does = "takes most of" if along.low > 0.5 else "may take"
    if along.high < 0.5:
        does = "does not take"
    paper_has = f"the paper {PAPER['projection']:g}"
    return f"Cooling {does} the way back: projection {written(along, '.2f')} ({paper_has})"


def claims(moved: pd.DataFrame) -> tuple[Claim, ...]:
    """Whether it is about what the paper has: within a quarter of the way."""
    rows = _whole(moved, "cooled")
    found = _means(rows.assign(**100 * rows[["projection", "residual_ratio"]]))
    along, rest = found["projection"], found["residual_ratio"]
    pairs = " (one pair of updates)" if len(rows) == 1 else ""
    return (
        Claim(
            "Cooling takes the weights back along the way that reheating took them",
            "cooling goes back the same way",
            f"{100 * PAPER['projection']:.0f}% of the way",
            f"{written(along, '.0f')}% of the way{pairs}",
            near(along, 100 * PAPER["projection"], margin=25),
        ),
        Claim(
            "It does not end where reheating began: a part of the way remains",
            "a part of the way remains",
            f"about {100 * PAPER['residual_ratio']:.0f}% of the way remains",
            f"{written(rest, '.0f')}% of the way remains{pairs}",
            near(rest, 100 * PAPER["residual_ratio"], margin=25),
        ),
    )


def sentence(moved: pd.DataFrame) -> str:
    rows = _whole(moved, "cooled")
    cosine, along, ratio, rest = (written(one, ".2f") for one in _means(rows).values())
    rounded = _whole(moved, "cooled", "bfloat16")["cosine"].mean()
    pairs = " (one pair of updates: no interval)" if len(rows) == 1 else seeds(len(rows))
    said = (
        f"Over all weights the cosine is {cosine}, the projection {along}, the norm ratio {ratio} and "
        f"the residual {rest}{pairs}. The paper calls its own strong anti-alignment: projection 0.89 "
        "and residual about 0.5, which imply a cosine of −0.88. Rounding the weights "
        f"to bfloat16 first would make the cosine {rounded:.2f}."
    )
    if "again" in set(moved["update"]):
        again = _means(_whole(moved, "again"))
        along, rest = (written(again[name], ".2f") for name in ("projection", "residual_ratio"))
        said += (
            " How exact a way back can be expected to be: the same reheating with another seed, undone "
            f"exactly, would have a projection of {along} and a residual of {rest}."
        )
    return said


EXHIBIT = Exhibit(
    name="fig12",
    title="Fig. 12: the two updates in the weights",
    notebook="08_reversibility",
    roles=("displacement",),
    make=make,
    alt="Cosine, projection, norm ratio and residual ratio of the two updates by layer, the paper's "
    "values beside them.",
    every_seed=True,
)
