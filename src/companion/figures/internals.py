"""What reheating changes inside the policy and in its answers (notebooks 05 and 06)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
            matrix, ax=axis, cmap="viridis", vmax=1, annot=layers <= 8, fmt=".2f",
            annot_kws={"fontsize": 8}, square=True, cbar_kws={"label": "linear CKA"},
        )
        axis.set(title=f"{name} estimator", xlabel="layer of the reheated policy",
                 ylabel="layer of the collapsed policy")
        axis.invert_yaxis()
    diagonal = cka[(cka["before"] == cka["after"]) & (cka["estimator"] == "unbiased")]
    folds = diagonal[diagonal["fold"] != "all"].groupby("before")["cka"].agg(["min", "max"])
    centre = diagonal[diagonal["fold"] == "all"].set_index("before")["cka"]
    axes[2].vlines(folds.index, 1 - folds["max"], 1 - folds["min"], color=FKL, linewidth=2,
                   label="range over five parts of the prompts")
    axes[2].plot(centre.index, 1 - centre, "o", color=FKL, label="all tokens")
    axes[2].axhline(1e-3, color="0.6", linestyle=":", label="the paper's bound, 0.999")
    axes[2].set(title="Same layer in both", xlabel="layer (0: embeddings)",
                ylabel="1 − CKA (unbiased)", yscale="log")
    axes[2].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[2].legend(fontsize=7.5)
    return figure


def fig04(along: pd.DataFrame, entropy: pd.DataFrame) -> Figure:
    """Fig. 4: accuracy and entropy over reheating checkpoints.

    Args:
        along: `tables.along_path`: columns step, suites, metric, value, low, high (percent).
        entropy: metrics of the reheating run: step, token_entropy, entropy_low, entropy_high.
    """
    figure, axes = canvas(1, 2, figsize=(9, 3.3))
    colours = {"in-domain": FKL, "out of distribution": "#D55E00"}
    avg = along[along["metric"].str.startswith("avg")]
    for suites, rows in avg.groupby("suites", sort=False):
        axes[0].errorbar(
            rows["step"], rows["value"], [rows["value"] - rows["low"], rows["high"] - rows["value"]],
            fmt="o-", color=colours[suites], markersize=4, capsize=2, label=suites,
        )
    axes[0].set(title="Accuracy", ylabel=f"{avg['metric'].iloc[0]} (%), 95% interval", ylim=(0, 100))
    axes[0].legend(fontsize=8)
    axes[1].fill_between(entropy["step"], entropy["entropy_low"], entropy["entropy_high"],
                         color=FKL, alpha=0.2, linewidth=0, label="95% interval over prompts")
    axes[1].plot(entropy["step"], entropy["token_entropy"], "o-", color=FKL, markersize=3)
    axes[1].set(title="Entropy", ylabel="mean token entropy (nats, T = 1)", ylim=(0, None))
    axes[1].legend(fontsize=8)
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
    axes[0].hist(tokens["kl"].clip(lower=1e-9), bins=np.logspace(-9, 1, 61), color=FKL)
    axes[0].axvline(tokens["kl"].mean(), color="#D55E00", linestyle=":",
                    label=f"mean {tokens['kl'].mean():.4f} nats")
    axes[0].set(title="(a) KL(collapsed ‖ reheated)", xlabel="nats", xscale="log", ylabel="tokens")
    axes[0].set_ylim(0, 1.25 * axes[0].get_ylim()[1])  # room for the legend above the bars
    axes[0].legend(fontsize=8, loc="upper left")
    change = tokens["entropy_change"]
    axes[1].hist(change, bins=61, range=tuple(np.quantile(change, [0.001, 0.999])), color=FKL)
    axes[1].axvline(0, color="0.4", linewidth=1)
    axes[1].axvline(change.mean(), color="#D55E00", linestyle=":",
                    label=f"mean {change.mean():+.3f} nats\n{(change > 0).mean():.0%} of tokens rise")
    axes[1].set(title="(b) Entropy change", xlabel="nats", ylabel="tokens", yscale="log")
    axes[1].legend(fontsize=8)
    for column, colour, label in (
        ("overlap", FKL, "candidates"), ("mass", "#E69F00", "probability mass"),
    ):
        axes[2].hist(tokens[column], bins=np.linspace(0, 1.0001, 31), color=colour, alpha=0.6,
                     label=f"{label}, mean {tokens[column].mean():.3f}")
    axes[2].set(title="(c) Shared among the 10 likeliest", xlabel="share", ylabel="tokens",
                yscale="log")
    axes[2].legend(fontsize=8, loc="upper left")
    return figure


def fig06(positions: pd.DataFrame) -> Figure:
    """Fig. 6: log-probability of sampled tokens by their position, a line a checkpoint.

    Args:
        positions: `branching.by_position`.
    """
    figure, (axis,) = canvas(figsize=(7, 3.6))
    steps = sorted(positions["checkpoint"].unique())
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(steps)))
    for step, shade in zip(steps, shades, strict=True):
        rows = positions[positions["checkpoint"] == step]
        axis.fill_between(rows["position"], rows["low"], rows["high"], color=shade, alpha=0.12,
                          linewidth=0)
        axis.plot(rows["position"], rows["value"], color=shade,
                  label="collapsed" if step == 0 else f"step {step}")
    axis.set(xlabel="token position in the answer (0: the first)",
             ylabel="mean log-probability (nats)", title="Sampled tokens, 95% over prompts")
    axis.legend(title="checkpoint", fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def fig10(path: pd.DataFrame, recovery: float, zoom: int = 16) -> Figure:
    """Fig. 10: reheating far past the stop, and a zoom on its beginning.

    Args:
        path: `collect.paths` of the long-horizon run.
        recovery: nats at which the study stops.
        zoom: steps in the right panel, or as many as until the recovery entropy if more.
    """
    figure, axes = canvas(1, 2, figsize=(9, 3.3))
    stopped = path.loc[path["token_entropy"] >= recovery, "step"].min()
    near = path[path["step"] <= max(zoom, 1.5 * np.nan_to_num(stopped, nan=zoom))]
    for axis, rows, title in ((axes[0], path, "Full run"), (axes[1], near, "Its beginning")):
        axis.fill_between(rows["step"], rows["entropy_low"], rows["entropy_high"], color=FKL,
                          alpha=0.2, linewidth=0, label="95% interval over prompts")
        axis.plot(rows["step"], rows["token_entropy"], "o-", color=FKL, markersize=2.5)
        axis.axhline(recovery, color="#009E73", linestyle=":", label="where the study stops")
        axis.set(title=title, xlabel="reheating step", ylim=(0, None),
                 ylabel="mean token entropy (nats, T = 1)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(fontsize=8)
    return figure
