"""Table 2: sampled answers against greedy ones."""

from __future__ import annotations

import pandas as pd

from companion import paper
from companion.analysis import branching, measure
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.wording import judged
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    answers = measure.table(evidence.only("branching"))
    table = branching.summary(answers, profile.evaluation.bootstrap)
    return Shown(
        table=table,
        spec=".3f",
        sentence=sentence(table),
        claims=claims(table, branching.fork_change(answers, profile.evaluation.bootstrap)),
        reported=paper.table2().set_index("checkpoint"),
    )


def sentence(summary: pd.DataFrame) -> str:
    first, last = summary.iloc[0], summary.iloc[-1]
    fork = "fork position (tokens)"
    earlier = last[fork].high < first[fork].low
    return (
        f"Sampled answers that leave the greedy one do so at token {first[fork]:.1f} before and "
        f"{last[fork]:.1f} after reheating, "
        f"{'earlier as in' if earlier else 'not earlier beyond the intervals, unlike'} the paper "
        f"(61.7 to 49.7); edit distance goes from {first['edit distance']:.3f} to "
        f"{last['edit distance']:.3f} (the paper: 0.581 to 0.605), and minus the log-probability "
        f"from {first['- log-prob (nats)']:.3f} to {last['- log-prob (nats)']:.3f} nats (0.055 to "
        "0.077)."
    )


def claims(summary: pd.DataFrame, change: Estimate) -> tuple[Claim, ...]:
    """Args: `branching.summary` and `branching.fork_change` (percent)."""
    ours = summary["fork position (tokens)"].iloc[[0, -1]]
    before, after = paper.table2()["fork_position"].iloc[[0, -1]]
    fall = 100 * (after / before - 1)
    return (
        Claim(
            "After reheating, sampled answers leave the likeliest one earlier",
            "answers fork earlier",
            f"at token {after:g} instead of {before:g} ({fall:+.0f}%)",
            f"at token {ours.iloc[1].value:.1f} instead of {ours.iloc[0].value:.1f} ({change:+.0f}%)",
            judged(change, [fall]),
        ),
    )


EXHIBIT = Exhibit(
    name="table2",
    title="Table 2: sampled answers against greedy ones",
    notebook="06_dynamics",
    roles=("branching",),
    make=make,
)
