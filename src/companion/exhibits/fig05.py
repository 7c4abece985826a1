"""Fig. 5: what reheating changes in the output distribution, token by token."""

from __future__ import annotations

from math import inf
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import paper
from companion.analysis.distribution import histograms
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import FKL, canvas, paper_line, paper_mark, titled
from companion.exhibits.wording import holds, near, seeds
from companion.paired import over_seeds
from companion.schema import Profile
from companion.statistics import Estimate, ratio_of_sums
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 5a", "mean token KL")
"""Nats."""
MIDDLE = "#D55E00"


def make(profile: Profile, evidence: Evidence) -> Shown:
    tokens = evidence.measured("distribution")
    found = finding(tokens)
    return Shown(
        figure=titled(draw(tokens), found),
        finding=found,
        data=histograms(tokens),
        sentence=sentence(tokens),
        claims=claims(tokens),
    )


def draw(tokens: pd.DataFrame) -> Figure:
    """Fig. 5: per token, the KL to the collapsed policy, the entropy change, the shared top 10.

    Args:
        tokens: measurements of `distribution.change`, of all seeds.
    """
    figure, axes = canvas(1, 3, figsize=(10, 4))
    counts = dict(list(histograms(tokens).groupby("panel")))
    _bars(axes[0], counts["kl"], FKL)
    _beyond(axes[0], counts["kl"])
    middle = {"mean": tokens["kl"].mean(), "median": max(tokens["kl"].median(), 1e-7)}
    for (name, value), line in zip(middle.items(), ("-", ":"), strict=True):
        axes[0].axvline(
            value, ymax=0.85, color=MIDDLE, linewidth=1.5, linestyle=line,
            label=f"{name} {value:.1g} nats",
        )  # fmt: skip
    paper_line(axes[0], PAPER, f"the paper's\nmean {PAPER}", upright=True)
    axes[0].set(xlabel="nats", xscale="log", title="(a) KL(collapsed ‖ reheated)")
    change = tokens["entropy_change"]
    _bars(axes[1], counts["entropy_change"], FKL)
    _beyond(axes[1], counts["entropy_change"])
    axes[1].axvline(0, color="0.4", linewidth=1)
    axes[1].axvline(
        change.mean(),
        color=MIDDLE,
        linewidth=1.5,
        label=f"mean {change.mean():+.3f} nats,\n{(change > 0).mean():.0%} of tokens rise",
    )
    axes[1].set(title="(b) Entropy change", xlabel="nats")
    for column, colour, label in (("overlap", FKL, "candidates"), ("mass", "0.6", "probability")):
        _bars(
            axes[2],
            counts[column],
            colour,
            alpha=0.7,
            label=f"{label}, mean {tokens[column].mean():.3f}",
        )
    paper_mark(axes[2], 1, 2 * counts["mass"]["tokens"].max(), "the paper: near 1")
    axes[2].set(title="(c) Shared among the 10 likeliest", xlabel="share")
    for axis in axes:
        axis.set(ylabel="tokens", yscale="log")
        axis.set_ylim(1, 8 * max(bar.get_height() for bar in axis.patches))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
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


def _beyond(axis: Axes, counts: pd.DataFrame) -> None:
    """Marks the two outermost bars, which hold all beyond them, too."""
    for bar in (axis.patches[0], axis.patches[len(counts) - 1]):
        bar.set(facecolor="0.75", edgecolor="0.35", hatch="////", linewidth=0.5)
    axis.patches[0].set_label("and all beyond")


def _mean(tokens: pd.DataFrame, column: str, least: float = 0) -> Estimate:
    """Nats a token: over seeds, or of a single one resampling prompts. It cannot be below `least`."""
    each = tokens.groupby(["seed", "prompt"])[column].agg(["sum", "size"])
    return over_seeds(
        [
            ratio_of_sums(rows["sum"].to_numpy(), rows["size"].to_numpy())
            for _, rows in each.groupby("seed")
        ],
        least,
    )


def finding(tokens: pd.DataFrame) -> str:
    kl = _mean(tokens, "kl")
    beside = "about as" if near(kl, PAPER, PAPER) == "agrees" else f"{kl.value / PAPER:.2g} times"
    return f"Reheating moves a token by {kl:.3f} nats of KL, {beside} the paper's {PAPER}"


def claims(tokens: pd.DataFrame) -> tuple[Claim, ...]:
    kl = _mean(tokens, "kl")
    return (
        Claim(
            "Reheating hardly changes the probabilities of tokens (mean KL to the policy before)",
            "token probabilities stay",
            f"about {PAPER} nats a token",
            f"{kl:.3f} nats a token",
            near(kl, PAPER, margin=PAPER),
        ),
    )


def sentence(tokens: pd.DataFrame) -> str:
    kl = _mean(tokens, "kl")
    change = _mean(tokens, "entropy_change", -inf)
    each = tokens.groupby("seed")
    median = each["kl"].median().mean()
    overlap, mass = (each[name].mean().mean() for name in ("overlap", "mass"))
    about = {f"the paper's {PAPER}": PAPER}
    return (
        f"The mean token KL is {kl:.4f} nats, which {holds(kl, about)}; the median is "
        f"{max(median, 0):.1g}; entropy changes by {change:+.4f} nats a token, and the "
        f"ten likeliest tokens share {overlap:.3f} of their candidates and {mass:.4f} of their "
        f"probability{seeds(tokens['seed'].nunique())} (the paper: both near 1)."
    )


EXHIBIT = Exhibit(
    name="fig05",
    title="Fig. 5: what changes in the output distribution",
    notebook="05_internals",
    roles=("distribution",),
    make=make,
    alt="Histograms over tokens of the KL, the entropy change, and the share of common top-10 "
    "candidates, the paper's mean KL beside ours.",
    every_seed=True,
)
