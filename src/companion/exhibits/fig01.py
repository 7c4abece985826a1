"""Fig. 1: where rollout and policy reheating act, and what either gains.

The sketch is of RL as verl runs it: the logits of whatever it trains are divided by the rollouts'
temperature, so that either way RL sees the softened policy. What RR's differs in is the policy
that is left: the temperature is not in its weights.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from companion import objective, tasks
from companion.analysis import accuracy
from companion.exhibits import headline
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.headline import HEADLINE
from companion.exhibits.style import canvas, estimates, legend_below, paper_mark, titled
from companion.exhibits.text import tidy
from companion.exhibits.wording import told
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence

SKETCH = {"what RL samples and trains": "#b8b8b8", "what is evaluated (T = 1)": "#4d4d4d"}
"""Greys: no arm has them."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    rows = headline.samples(evidence)
    gains, seeds = headline.gains(profile, rows), accuracy.by_seed(rows, tasks.suites(profile))
    found = finding(gains)
    drawn = draw(gains.loc[gains.index.isin(arms.ARMS)], profile.reheat.tau)
    return Shown(
        figure=titled(drawn, found),
        finding=found,
        data=tidy(gains),
        sentence=headline.sentence(gains, seeds - seeds.loc[arms.DAPO]),
        more={"gains": gains},
    )


def draw(gains: pd.DataFrame, tau: float) -> Figure:
    """Fig. 1: where rollout and policy reheating act (a sketch), and what each gains.

    Args:
        gains: `headline.gains` of the arms (points, an Estimate a cell).
        tau: temperature of rollouts and teacher.
    """
    figure, axes = canvas(1, 4, figsize=(10, 3.6), width_ratios=[1, 1, 1.5, 1.5])
    z = torch.tensor([4.0, 2.2, 1.2, 0.4, -0.3], dtype=torch.float64)  # a sharp position
    collapsed, softened = objective.log_probs(z).exp(), objective.log_probs(z, tau).exp()
    places = np.arange(len(z))
    for axis, policy, title in (
        (axes[0], collapsed, "Rollout reheating (RR)"),
        (axes[1], softened, "Policy reheating (PR)"),
    ):
        for shift, values, (label, grey) in zip(
            (-0.2, 0.2), (softened, policy), SKETCH.items(), strict=True
        ):
            axis.bar(places + shift, values, 0.4, color=grey, label=label)
        axis.set(title=title, ylim=(0, 1), xticks=places, xticklabels=places + 1)
        axis.set_xlabel("token, by rank")
    axes[0].set_ylabel("probability (a sketch)")
    axes[1].set_yticklabels([])
    for axis, metric in zip(axes[2:], gains.columns, strict=True):
        estimates(axis, gains[metric])
        for place, arm in enumerate(gains.index):
            if theirs := headline.in_the_paper(metric, arm, arms.DAPO).values():
                paper_mark(axis, list(theirs), [place] * len(theirs), "the paper (4B and 8B)")
        axis.set(title=f"{metric}, gain over +DAPO", xlabel="points, 95% interval")
    axes[3].set_yticklabels([])
    legend_below(figure, axes, 3)
    return figure


def finding(gains: pd.DataFrame) -> str:
    """Args: `headline.gains`."""
    metric, gain = gains.columns[0], gains.loc[HEADLINE].iloc[0]
    theirs = headline.in_the_paper(metric, HEADLINE, arms.DAPO).values()
    beside = f"; the paper {', '.join(f'{value:+.1f}' for value in theirs)}" if theirs else ""
    return f"PR-FKL {told(gain, 'plain DAPO')}: {gain:+.1f} points{beside}"


EXHIBIT = Exhibit(
    name="fig01",
    title="Fig. 1: rollout reheating and policy reheating",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    alt="Sketches of where either acts, then each arm's gain over continued DAPO in avg@8 and "
    "pass@8 with its interval, the paper's gains beside it.",
    every_seed=True,
)
