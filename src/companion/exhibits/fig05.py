"""Fig. 5: what reheating changes in the output distribution, token by token."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import paper
from companion.analysis import measure
from companion.analysis.distribution import histograms
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import FKL, canvas
from companion.exhibits.wording import holds
from companion.schema import Profile
from companion.statistics import ratio_of_sums
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 5a", "mean token KL")
"""Nats."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    tokens = measure.table(evidence.only("distribution"))
    return Shown(figure=draw(tokens), data=histograms(tokens), sentence=sentence(tokens))


def draw(tokens: pd.DataFrame) -> Figure:
    """Fig. 5: per token, the KL to the collapsed policy, the entropy change, the shared top 10.

    Args:
        tokens: measurements of `distribution.change`.
    """
    figure, axes = canvas(1, 3, figsize=(11, 3.2))
    counts = dict(list(histograms(tokens).groupby("panel")))
    _bars(axes[0], counts["kl"], FKL)
    for value, name, line in (
        (tokens["kl"].mean(), "mean", ":"),
        (max(tokens["kl"].median(), 1e-7), "median", "--"),
    ):
        axes[0].axvline(value, color="#D55E00", linestyle=line, label=f"{name} {value:.1g} nats")
    axes[0].set(
        title="(a) KL(collapsed ‖ reheated)",
        xlabel="nats (first bar: ≤ 1e-7, rounding)",
        xscale="log",
        yscale="log",
        ylabel="tokens",
    )
    axes[0].set_ylim(1, 10 * counts["kl"]["tokens"].max())  # room for the legend above the bars
    axes[0].legend(fontsize=8, loc="upper right", frameon=True, edgecolor="none", framealpha=1)
    change = tokens["entropy_change"]
    _bars(axes[1], counts["entropy_change"], FKL)
    axes[1].axvline(0, color="0.4", linewidth=1)
    axes[1].axvline(
        change.mean(),
        color="#D55E00",
        linestyle=":",
        label=f"mean {change.mean():+.3f} nats\n{(change > 0).mean():.0%} of tokens rise",
    )
    axes[1].set(title="(b) Entropy change", xlabel="nats", ylabel="tokens", yscale="log")
    axes[1].legend(fontsize=8)
    for column, colour, label in (
        ("overlap", FKL, "candidates"),
        ("mass", "#E69F00", "probability mass"),
    ):
        _bars(
            axes[2],
            counts[column],
            colour,
            alpha=0.6,
            label=f"{label}, mean {tokens[column].mean():.3f}",
        )
    axes[2].set(
        title="(c) Shared among the 10 likeliest", xlabel="share", ylabel="tokens", yscale="log"
    )
    axes[2].legend(fontsize=8, loc="upper left")
    return figure


def _bars(axis: Axes, counts: pd.DataFrame, colour: str, **style: Any) -> None:
    axis.bar(
        counts["low"],
        counts["tokens"],
        counts["high"] - counts["low"],
        align="edge",
        color=colour,
        **style,
    )


def sentence(tokens: pd.DataFrame) -> str:
    per_prompt = tokens.groupby("prompt").agg(
        kl=("kl", "sum"), change=("entropy_change", "sum"), tokens=("kl", "size")
    )
    kl = ratio_of_sums(per_prompt["kl"].to_numpy(), per_prompt["tokens"].to_numpy())
    change = ratio_of_sums(per_prompt["change"].to_numpy(), per_prompt["tokens"].to_numpy())
    overlap, mass = tokens["overlap"].mean(), tokens["mass"].mean()
    about = {f"the paper's {PAPER}": PAPER}
    return (
        f"The mean token KL is {kl:.4f} nats, which {holds(kl, about)}; the median is "
        f"{max(tokens['kl'].median(), 0):.1g}; entropy changes by {change:+.4f} nats a token, and the "
        f"ten likeliest tokens share {overlap:.3f} of their candidates and {mass:.4f} of their "
        f"probability (the paper: both near 1)."
    )


EXHIBIT = Exhibit(
    name="fig05",
    title="Fig. 5: what changes in the output distribution",
    notebook="05_internals",
    roles=("distribution",),
    make=make,
    alt="Histograms over tokens of the KL, the entropy change, and the share of common top-10 "
    "candidates.",
)
