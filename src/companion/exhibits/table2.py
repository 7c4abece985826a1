"""Table 2: sampled answers against greedy ones."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from companion import paper
from companion.analysis import branching
from companion.exhibits import wording
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.wording import directed, judged
from companion.paired import over_seeds
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    resamples = profile.evaluation.bootstrap
    seeds = [answers for _, answers in evidence.measured("branching").groupby("seed")]
    table = together([branching.summary(answers, resamples) for answers in seeds])
    change = over_seeds([branching.fork_change(answers, resamples) for answers in seeds])
    return Shown(
        table=table,
        spec=".3f",
        sentence=sentence(table, change, len(seeds)),
        claims=claims(table, change),
        reported=paper.table2().set_index("checkpoint"),
    )


def together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """`branching.summary` over seeds: of several a row a checkpoint in turn, named by their steps."""
    if len({len(table) for table in tables}) > 1:  # a path too short for all of them
        tables = [table.iloc[[0, -1]] for table in tables]
    steps = zip(*(table.index for table in tables), strict=True)
    return pd.DataFrame(
        [
            {name: over_seeds([table[name].iloc[row] for table in tables], 0) for name in tables[0]}
            for row in range(len(tables[0]))
        ],
        index=[wording.span(each) for each in steps] if len(tables) > 1 else tables[0].index,
    )


def sentence(summary: pd.DataFrame, change: Estimate, seeds: int) -> str:
    """Args: as `claims`; of so many seeds."""
    first, last = summary.iloc[0], summary.iloc[-1]
    fork = "fork position (tokens)"
    earlier = {
        "agrees": "earlier, as in the paper",
        "differs": "later, in the paper earlier",
        "open": "not surely earlier; in the paper they do",
    }
    return (
        f"Sampled answers that leave the greedy one do so at token {first[fork]:.1f} before and "
        f"{last[fork]:.1f} after reheating, "
        f"{earlier[directed(change, -1)]} ({change:+.0f}%; the paper: 61.7 to 49.7); edit "
        f"distance goes from {first['edit distance']:.3f} to "
        f"{last['edit distance']:.3f} (the paper: 0.581 to 0.605), and minus the log-probability "
        f"from {first['- log-prob (nats)']:.3f} to {last['- log-prob (nats)']:.3f} nats (0.055 to "
        f"0.077){wording.seeds(seeds)}."
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
    every_seed=True,
)
