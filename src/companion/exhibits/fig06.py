"""Fig. 6: log-probability by token position, and whether entropy jumps."""

from __future__ import annotations

from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion import paper
from companion.analysis import branching
from companion.exhibits.exhibit import Claim, Exhibit, Shown, Verdict
from companion.exhibits.style import FKL, canvas, legend_below, paper_line, titled
from companion.exhibits.wording import span, unanimous
from companion.paired import over_seeds
from companion.schema import Profile
from companion.statistics import Estimate, largest_jump
from companion.study.roles import Evidence

PAPER = paper.number("Fig. 6", "onset of the steeper log-prob decline")
"""The token from which the lines part."""
SHARE = "of the whole rise (%)"
MOST = "the largest step's (%)"


def make(profile: Profile, evidence: Evidence) -> Shown:
    positions = pd.concat(
        [
            branching.by_position(answers).assign(seed=seed)
            for seed, answers in evidence.measured("branching").groupby("seed")
        ],
        ignore_index=True,
    )
    found = jumps(evidence.paths("reheated", "PR-FKL"))
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

    Against the collapsed policy, a line a checkpoint, of several seeds the last one's of each; shaded in
    turn are the stretches between the positions at which many answers end.

    Args:
        positions: `branching.by_position`, with the seed.
    """
    figure, (axis, below) = canvas(2, 1, figsize=(10, 5), sharex=True, height_ratios=[3.2, 1])
    if positions["seed"].nunique() > 1:
        for place, (_, rows) in enumerate(_ends(positions, "max").groupby("seed")):
            axis.plot(
                rows["position"], rows["change"], color=FKL, linewidth=1.2, alpha=0.8,
                label=None if place else "the reheated policy, a line a seed",
            )  # fmt: skip
    else:
        _checkpoints(axis, positions)
    axis.axhline(0, color="0.4", linewidth=1)
    answers = _ends(positions, "min").groupby("position")["answers"].sum()
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
    legend_below(figure, [axis], 4)
    return figure


def _checkpoints(axis: Axes, positions: pd.DataFrame) -> None:
    """Of one seed every checkpoint, the last with its interval: bands of all would hide the lines."""
    steps = sorted(positions["checkpoint"].unique())
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(steps)))
    for step, shade in zip(steps[1:], shades[1:], strict=True):
        rows = positions[positions["checkpoint"] == step]
        last = step == steps[-1]
        if last:
            axis.fill_between(
                rows["position"], rows["change_low"], rows["change_high"], color=shade, alpha=0.3,
                linewidth=0,
            )  # fmt: skip
        axis.plot(
            rows["position"], rows["change"], color=shade, linewidth=2 if last else 0.8,
            label=f"checkpoint of step {step}" + (", 95% over prompts" if last else ""),
        )  # fmt: skip


def _ends(positions: pd.DataFrame, end: Literal["min", "max"]) -> pd.DataFrame:
    """Of each seed the rows of its first or last checkpoint."""
    steps = positions.groupby("seed")["checkpoint"].transform(end)
    return positions[positions["checkpoint"] == steps]


def ends(answers: pd.Series) -> list[int]:
    """The positions from which a tenth of all answers, or more, are missing at once.

    Args:
        answers: by position, how many reach it.
    """
    lost = -answers.diff().fillna(0) / answers.iloc[0]
    return [int(position) for position in lost.index[lost >= 0.1]]


def jumps(paths: pd.DataFrame) -> pd.DataFrame:
    """Is there an entropy jump (§4.4)? The step of each seed's path that is furthest above its trend.

    Checkpoints are taken to be evenly spaced, as reheating measures them (`reheat.check_every`).
    A row a seed: step (the checkpoint after it), its rise in entropy and what of it is beyond the
    trend of all steps (nats), the p-value of `statistics.largest_jump`, the step's share of the
    whole rise, and the largest share of any step (percent). No row for a path of fewer than eight
    checkpoints.
    """
    rows = []
    for seed, path in paths.groupby("seed"):
        measured = path.dropna(subset=["token_entropy"]).sort_values("step")
        entropy, steps = measured["token_entropy"].to_numpy(), measured["step"].to_numpy()
        if len(entropy) >= 8:
            found = largest_jump(entropy)
            rises = np.diff(entropy)
            shares = 100 * rises / rises.sum()
            k = found.step - 1
            told = (steps[found.step], rises[k], found.size, found.p_value, shares[k], shares.max())
            rows.append((seed, *told))
    columns = ["step", "rise (nats)", "beyond the trend (nats)", "p-value", SHARE, MOST]
    return pd.DataFrame(rows, columns=["seed", *columns]).set_index("seed")


def finding(positions: pd.DataFrame, found: pd.DataFrame) -> str:
    """Args: as `sentence`."""
    last = _ends(positions, "max")
    shared = last.groupby("position").filter(lambda rows: len(rows) == last["seed"].nunique())
    most = shared.groupby("position")["change"].mean().abs().idxmax()
    there = last[last["position"] == most]
    change = over_seeds(
        [Estimate(r.change, r.change_low, r.change_high) for r in there.itertuples()]
    )
    jumped = {"agrees": "entropy jumps", "differs": "no entropy jump", "open": "a jump is open"}
    said = "".join(f"; {jumped[claim.verdict]}" for claim in claims(found))
    return f"Token {most:.0f} changes most: {change:+.2f} nats of log-probability{said}"


def claims(found: pd.DataFrame) -> tuple[Claim, ...]:
    """Args: `jumps`. The paper gives its jump's size by the log-probability, in Table 2."""
    if found.empty:
        return ()
    nats = paper.table2()["log_prob"]
    theirs = 100 * nats.diff().max() / (nats.iloc[-1] - nats.iloc[0])
    return (
        Claim(
            "While a policy is reheated, its entropy jumps within a single step",
            "entropy jumps in one step",
            f"one step makes {theirs:.0f}% of the change (of the log-probability)",
            f"no step makes more than {span(found[MOST], '.0f')}% of the rise; the one furthest above "
            f"its trend: p = {span(found['p-value'], '.2g')}",
            unanimous(_verdict(row, theirs) for _, row in found.iterrows()),
        ),
    )


def _verdict(row: pd.Series, theirs: float) -> Verdict:
    """A seed's: a step of half the paper's share or more stands out, or there is no such step."""
    if row[MOST] < theirs / 2:
        return "differs"
    return "agrees" if row["p-value"] < 0.05 and row[SHARE] >= theirs / 2 else "open"


def sentence(positions: pd.DataFrame, found: pd.DataFrame) -> str:
    """Args: as `draw`; `jumps`."""
    last = _ends(positions, "max").set_index(["seed", "position"])
    apart = last["change_high"].dropna() < 0
    each = (
        f" ({len(apart) // count} of each seed)"
        if (count := len(apart.groupby("seed"))) > 1
        else ""
    )
    where = f"at {apart.sum()} of {len(apart)} positions{each}"
    if apart.any():
        where += f", first at {span(apart[apart].reset_index().groupby('seed')['position'].min())}"
    said = "no path is long enough to test for a jump"
    if len(found):
        jumps = (found["p-value"] < 0.05).sum()
        said = (
            f"entropy rises beyond its trend within a step on {jumps} of {len(found)} "
            f"seed{'s' if len(found) > 1 else ''} (furthest at step {span(found['step'])}, p = "
            f"{span(found['p-value'], '.2g')}; the largest step makes {span(found[MOST], '.0f')}% of "
            "the rise)"
        )
    return (
        f"The last checkpoint's log-probabilities lie below the collapsed policy's, by the interval of "
        f"the paired change, {where}, and {said}; the paper sees a jump, and lines that part near "
        "token 50."
    )


EXHIBIT = Exhibit(
    name="fig06",
    title="Fig. 6: log-probability by token position",
    notebook="06_dynamics",
    roles=("branching", "reheated"),
    make=make,
    alt="The change of mean log-probability against the collapsed policy over token positions, a line "
    "for each checkpoint or, of several seeds, each seed's last, and how many answers reach a position.",
    every_seed=True,
)
