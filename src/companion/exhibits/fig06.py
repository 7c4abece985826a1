"""Fig. 6: log-probability by token position, and whether entropy jumps."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from companion import paper
from companion.analysis import branching, measure
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.style import canvas, legend_below, paper_line, titled
from companion.schema import Profile
from companion.statistics import Estimate, largest_jump
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 6", "onset of the steeper log-prob decline")
"""The token from which the lines part."""
SHARE = "of the whole rise (%)"


def make(profile: Profile, evidence: Evidence) -> Shown:
    positions = branching.by_position(measure.table(evidence.only("branching")))
    found = jump(evidence.by_key("reheated")["PR-FKL"].metrics)
    said = finding(positions, found)
    return Shown(
        figure=titled(draw(positions), said),
        finding=said,
        data=positions,
        sentence=sentence(positions, found),
        claims=claims(found),
        more={"jump": found},
    )


def draw(positions: pd.DataFrame) -> Figure:
    """Fig. 6: what reheating changes in the log-probability of sampled tokens, by their position.

    Against the collapsed policy, a line a checkpoint; shaded in turn are the stretches between the
    positions at which many answers end.

    Args:
        positions: `branching.by_position`.
    """
    figure, (axis, below) = canvas(2, 1, figsize=(10, 5), sharex=True, height_ratios=[3.2, 1])
    steps = sorted(positions["checkpoint"].unique())
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(steps)))
    for step, shade in zip(steps[1:], shades[1:], strict=True):
        rows = positions[positions["checkpoint"] == step]
        last = step == steps[-1]  # bands of all would hide the lines
        if last:
            axis.fill_between(
                rows["position"], rows["change_low"], rows["change_high"], color=shade, alpha=0.3,
                linewidth=0,
            )  # fmt: skip
        axis.plot(
            rows["position"], rows["change"], color=shade, linewidth=2 if last else 0.8,
            label=f"step {step}" + (", 95% over prompts" if last else ""),
        )  # fmt: skip
    axis.axhline(0, color="0.4", linewidth=1)
    answers = positions[positions["checkpoint"] == steps[0]].set_index("position")["answers"]
    below.step(answers.index, answers, where="mid", color="black", linewidth=1)
    edges = [*ends(answers), answers.index[-1] + 1]
    if len(edges) > 1:
        axis.set_title("shaded in turn: the stretches between positions at which many answers end")
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        for panel in (axis, below):
            panel.axvspan(start - 0.5, end - 0.5, color="0.94", linewidth=0, zorder=0)
    axis.set_ylabel("change of mean log-probability\nagainst the collapsed policy (nats)")
    below.set(xlabel="token position in the answer (0: the first)", ylim=(0, None))
    below.set_ylabel(f"answers,\nof {answers.iloc[0]}")
    paper_line(axis, PAPER, "the paper:\nlines part", upright=True)
    axis.set_xlim(-1, max(answers.index[-1], PAPER) + 5)
    legend_below(figure, [axis], 4, "checkpoint")
    return figure


def ends(answers: pd.Series) -> list[int]:
    """The positions from which a tenth of all answers, or more, are missing at once.

    Args:
        answers: by position, how many reach it.
    """
    lost = -answers.diff().fillna(0) / answers.iloc[0]
    return [int(position) for position in lost.index[lost >= 0.1]]


def jump(path: pd.DataFrame) -> pd.DataFrame:
    """Is there an entropy jump (§4.4)? The step of `path` that its neighbours explain least.

    Checkpoints are taken to be evenly spaced, as reheating measures them (`reheat.check_every`).
    One row: step (the checkpoint after it), its rise in entropy and what of it is beyond the
    trend of all steps (nats), the p-value of `statistics.largest_jump`, and the step's share of the
    whole rise (percent). No row if the path has fewer than eight checkpoints.
    """
    measured = path.dropna(subset=["token_entropy"]).sort_values("step")
    entropy, steps = measured["token_entropy"].to_numpy(), measured["step"].to_numpy()
    columns = ["step", "rise (nats)", "beyond the trend (nats)", "p-value", SHARE]
    if len(entropy) < 8:
        return pd.DataFrame(columns=columns)
    found = largest_jump(entropy)
    rise = entropy[found.step] - entropy[found.step - 1]
    share = 100 * rise / (entropy[-1] - entropy[0])
    row = (steps[found.step], rise, found.size, found.p_value, share)
    return pd.DataFrame([row], columns=columns)


def finding(positions: pd.DataFrame, found: pd.DataFrame) -> str:
    """Args: as `sentence`."""
    last = positions[positions["checkpoint"] == positions["checkpoint"].max()]
    most = last.loc[last["change"].idxmin()]
    change = Estimate(most["change"], most["change_low"], most["change_high"])
    jumps = "" if found.empty else "; entropy jumps" if _jumps(found) else "; no entropy jump"
    return (
        f"Token {most['position']:.0f} changes most: {change:+.2f} nats of log-probability{jumps}"
    )


def claims(found: pd.DataFrame) -> tuple[Claim, ...]:
    """Args: `jump`. The paper gives its jump's size by the log-probability, in Table 2."""
    if found.empty:
        return ()
    nats = paper.table2()["log_prob"]
    theirs, ours = 100 * nats.diff().max() / (nats.iloc[-1] - nats.iloc[0]), found.iloc[0]
    return (
        Claim(
            "While a policy is reheated, its entropy jumps within a single step",
            "entropy jumps in one step",
            f"one step makes {theirs:.0f}% of the change (of the log-probability)",
            f"the step that stands out most makes {ours[SHARE]:.0f}% of the rise (p = "
            f"{ours['p-value']:.2g})",
            # No jump is seen, and none of half the paper's size can have been overlooked.
            "agrees" if _jumps(found) else "differs" if ours[SHARE] < theirs / 2 else "open",
        ),
    )


def _jumps(found: pd.DataFrame) -> bool:
    return bool(found["p-value"].item() < 0.05)


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
        does = "entropy jumps" if _jumps(found) else "no jump of entropy is detected"
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
    alt="The change of mean log-probability against the collapsed policy over token positions, a line "
    "for each checkpoint, and how many answers reach a position.",
)
