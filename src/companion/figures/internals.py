"""What reheating changes inside the policy and in its answers (notebooks 05 and 06)."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.analysis.distribution import histograms
from companion.figures.style import COLOURS, canvas

FKL = COLOURS["+DAPO w/ PR-FKL"]


def fig03(cka: pd.DataFrame) -> Figure:
    """Fig. 3: how alike the layers of the collapsed and the reheated policy are.

    Args:
        cka: measurements of `representation.cka`.
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
        label="range over five parts of the prompts",
    )
    axes[2].plot(centre.index, 1 - centre, "o", color=FKL, label="all tokens")
    axes[2].axhline(1e-3, color="0.6", linestyle=":", label="the paper's bound, 0.999")
    axes[2].set(
        title="Same layer in both",
        xlabel="layer (0: embeddings)",
        ylabel="1 − CKA (unbiased)",
        yscale="log",
    )
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[2].legend(fontsize=7.5)
    return figure


def fig04(along: pd.DataFrame, entropy: pd.DataFrame) -> Figure:
    """Fig. 4: accuracy and entropy over reheating checkpoints.

    Args:
        along: `tables.along_path`: columns step, suites, metric, value, low, high (percent).
        entropy: metrics of the reheating run: step, token_entropy, entropy_low, entropy_high.
    """
    avg = along[along["metric"].str.startswith("avg")]
    each = list(avg.groupby("suites", sort=False))
    figure, axes = canvas(1, len(each) + 1, figsize=(11, 3.3))
    for axis, (suites, rows) in zip(
        axes, each, strict=False
    ):  # a scale each: levels may differ much
        axis.errorbar(
            rows["step"],
            rows["value"],
            [rows["value"] - rows["low"], rows["high"] - rows["value"]],
            fmt="o-",
            color=FKL,
            markersize=4,
            capsize=2,
        )
        axis.set(
            title=f"Accuracy, {suites}",
            ylim=(0, None),
            ylabel=f"{avg['metric'].iloc[0]} (%), 95% interval",
        )
    axes[-1].fill_between(
        entropy["step"],
        entropy["entropy_low"],
        entropy["entropy_high"],
        color=FKL,
        alpha=0.2,
        linewidth=0,
        label="95% interval over prompts",
    )
    axes[-1].plot(entropy["step"], entropy["token_entropy"], "o-", color=FKL, markersize=3)
    axes[-1].set(title="Entropy", ylabel="mean token entropy (nats, T = 1)", ylim=(0, None))
    axes[-1].legend(fontsize=8)
    for axis in axes:
        axis.set_xlabel("reheating step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def fig05(tokens: pd.DataFrame) -> Figure:
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


def fig06(positions: pd.DataFrame) -> Figure:
    """Fig. 6: log-probability of sampled tokens by their position, a line a checkpoint.

    Args:
        positions: `branching.by_position`.
    """
    figure, (axis,) = canvas(figsize=(8, 3.6))
    steps = sorted(positions["checkpoint"].unique())
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(steps)))
    for step, shade in zip(steps, shades, strict=True):
        rows = positions[positions["checkpoint"] == step]
        end = step in (steps[0], steps[-1])  # bands of all would hide the lines
        if end:
            axis.fill_between(
                rows["position"], rows["low"], rows["high"], color=shade, alpha=0.25, linewidth=0
            )
        axis.plot(
            rows["position"],
            rows["value"],
            color=shade,
            linewidth=2 if end else 0.7,
            label="collapsed" if step == 0 else f"step {step}",
        )
    axis.set(
        xlabel="token position in the answer (0: the first)",
        ylabel="mean log-probability (nats)",
        title="Sampled tokens (bands: 95% over prompts, first and last checkpoint)",
    )
    axis.legend(title="checkpoint", fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def fig10(path: pd.DataFrame, recovery: float | None) -> Figure:
    """Fig. 10: reheating far past the stop, and a zoom on its beginning.

    Args:
        path: `collect.paths` of the long-horizon run.
        recovery: nats at which the study stops; None: never.
    """
    figure, axes = canvas(1, 2, figsize=(9, 3.3))
    stopped = path.loc[path["token_entropy"] >= (recovery or np.inf), "step"].min()
    # The paper zooms on 16 steps; here at least those until the study would have stopped.
    near = path[path["step"] <= max(16, 1.5 * np.nan_to_num(stopped, nan=0))]
    for axis, rows, title in ((axes[0], path, "Full run"), (axes[1], near, "Its beginning")):
        axis.fill_between(
            rows["step"],
            rows["entropy_low"],
            rows["entropy_high"],
            color=FKL,
            alpha=0.2,
            linewidth=0,
            label="95% interval over prompts",
        )
        axis.plot(rows["step"], rows["token_entropy"], "o-", color=FKL, markersize=2.5)
        if recovery:
            axis.axhline(recovery, color="#009E73", linestyle=":", label="where the study stops")
        axis.set(
            title=title,
            xlabel="reheating step",
            ylim=(0, None),
            ylabel="mean token entropy (nats, T = 1)",
        )
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(fontsize=8)
    return figure
