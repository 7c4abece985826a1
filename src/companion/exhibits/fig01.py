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
from companion.exhibits.style import canvas, estimates
from companion.exhibits.text import tidy
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    rows = headline.samples(evidence)
    gains, seeds = headline.gains(profile, rows), accuracy.by_seed(rows, tasks.suites(profile))
    return Shown(
        figure=draw(gains.loc[gains.index.isin(arms.ARMS)], profile.reheat.tau),
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
    figure, axes = canvas(1, 4, figsize=(11, 3.1), width_ratios=[1, 1, 1.25, 1.25])
    z = torch.tensor([4.0, 2.2, 1.2, 0.4, -0.3], dtype=torch.float64)  # a sharp position
    collapsed, softened = objective.log_probs(z).exp(), objective.log_probs(z, tau).exp()
    places = np.arange(len(z))
    for axis, policy, title in (
        (axes[0], collapsed, "Rollout reheating (RR)"),
        (axes[1], softened, "Policy reheating (PR)"),
    ):
        axis.bar(places - 0.2, softened, 0.4, color="#E69F00", label="what RL samples and trains")
        axis.bar(places + 0.2, policy, 0.4, color="#0072B2", label="what is evaluated (T = 1)")
        axis.set(
            title=title,
            xlabel="candidate token, by rank",
            ylim=(0, 1.1),
            xticks=places,
            xticklabels=places + 1,
        )
    axes[0].set_ylabel("probability (sketch)")
    axes[0].legend(fontsize=7.5, loc="upper right")
    for axis, metric in zip(axes[2:], gains.columns, strict=True):
        estimates(axis, gains[metric])
        axis.set(title=f"Gain in {metric} over +DAPO", xlabel="points, 95% interval")
    axes[3].set_yticklabels([])
    return figure


EXHIBIT = Exhibit(
    name="fig01",
    title="Fig. 1: rollout reheating and policy reheating",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    alt="Sketches of where either acts, then each arm's gain over continued DAPO in avg@8 and "
    "pass@8 with its interval.",
    every_seed=True,
)
