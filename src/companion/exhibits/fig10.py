"""Fig. 10: reheating far past the stop."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from companion.analysis import collect
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import FKL, canvas
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    path, recovery = collect.paths(evidence.by_key("long")), profile.reheat.recovery_entropy
    return Shown(figure=draw(path, recovery), data=path, sentence=sentence(path, recovery))


def draw(path: pd.DataFrame, recovery: float | None) -> Figure:
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


def sentence(path: pd.DataFrame, recovery: float | None) -> str:
    entropy = path.dropna(subset=["token_entropy"])
    crossed = entropy.loc[entropy["token_entropy"] >= (recovery or np.inf), "step"].min()
    passes = "Entropy does not reach the recovery value"
    if np.isfinite(crossed):
        steps = entropy["token_entropy"].diff()
        after = steps[entropy["step"] > crossed].mean() / steps[entropy["step"] <= crossed].mean()
        passes = f"Entropy passes the recovery value at step {crossed:.0f}"
        if np.isfinite(after):
            passes += f", grows {after:.1f} times as fast after it as before"
    return (
        f"{passes}, and is {entropy['token_entropy'].iloc[-1]:.2f} nats at step "
        f"{entropy['step'].iloc[-1]}; the paper sees a change of regime near step 16, from at most "
        "0.15 nats to about 2.5 by step 31."
    )


EXHIBIT = Exhibit(
    name="fig10",
    title="Fig. 10: past the stop",
    notebook="06_dynamics",
    roles=("long",),
    make=make,
    alt="Entropy over many reheating steps, and a zoom on the first ones.",
)
