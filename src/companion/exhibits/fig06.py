"""Fig. 6: log-probability by token position, and whether entropy jumps."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion.analysis import branching, measure
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.style import canvas
from companion.schema import Profile
from companion.statistics import largest_jump
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    positions = branching.by_position(measure.table(evidence.only("branching")))
    found = jump(evidence.by_key("reheated")["PR-FKL"].metrics)
    return Shown(
        figure=draw(positions),
        data=positions,
        sentence=sentence(positions, found),
        more={"jump": found},
    )


def draw(positions: pd.DataFrame) -> Figure:
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


def jump(path: pd.DataFrame) -> pd.DataFrame:
    """Is there an entropy jump (§4.4)? The step of `path` that its neighbours explain least.

    Checkpoints are taken to be evenly spaced, as reheating measures them (`reheat.check_every`).
    One row: step (the checkpoint after it), its rise in entropy and what of it is beyond the
    trend of all steps (nats), and the p-value of `statistics.largest_jump`. No row if the path
    has fewer than eight checkpoints.
    """
    measured = path.dropna(subset=["token_entropy"]).sort_values("step")
    entropy, steps = measured["token_entropy"].to_numpy(), measured["step"].to_numpy()
    columns = ["step", "rise (nats)", "beyond the trend (nats)", "p-value"]
    if len(entropy) < 8:
        return pd.DataFrame(columns=columns)
    found = largest_jump(entropy)
    rise = entropy[found.step] - entropy[found.step - 1]
    return pd.DataFrame([(steps[found.step], rise, found.size, found.p_value)], columns=columns)


def sentence(positions: pd.DataFrame, found: pd.DataFrame) -> str:
    ends = positions["checkpoint"].min(), positions["checkpoint"].max()
    wide = positions.pivot(index="position", columns="checkpoint", values=["low", "high"])
    apart = wide["high", ends[1]] < wide["low", ends[0]]
    where = f"at {apart.sum()} of {len(apart)} positions"
    if apart.any():
        where += f", first at {apart.idxmax()}"
    said = "no path long enough to test for a jump"
    if len(found):
        row = found.iloc[0]
        does = "entropy jumps" if row["p-value"] < 0.05 else "no jump of entropy is detected"
        said = f"{does} within a step (oddest at step {row['step']:.0f}, p = {row['p-value']:.2g})"
    return (
        f"The last checkpoint's log-probabilities lie below the collapsed policy's, beyond both "
        f"intervals, {where}, and {said}; the paper sees a jump, and lines that part near token 50."
    )


EXHIBIT = Exhibit(
    name="fig06",
    title="Fig. 6: log-probability by token position",
    notebook="06_dynamics",
    roles=("branching", "reheated"),
    make=make,
    alt="Mean log-probability over positions, a line with a band for each checkpoint.",
)
