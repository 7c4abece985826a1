"""What the study says in one sentence: PR-FKL against continued DAPO (Table 1, Fig. 1)."""

from __future__ import annotations

import pandas as pd

from companion import paper, tasks
from companion.analysis import collect, decided
from companion.exhibits.exhibit import Claim
from companion.exhibits.wording import holds, judged
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study import arms
from companion.study.roles import Evidence

HEADLINE = "+DAPO w/ PR-FKL"
CLAIMS = {
    arms.DAPO: (
        "After equal RL steps, reheating first (PR-FKL) beats going on without it",
        "reheating first beats going on",
    ),
    "+DAPO w/ RR": (
        "Reheating the policy (PR-FKL) beats sampling at a higher temperature (RR)",
        "policy reheating beats rollout reheating",
    ),
    "+DAPO w/ PR-RKL": (
        "Forward KL is the better way to reheat: PR-FKL beats PR-RKL",
        "forward KL beats reverse",
    ),
}
"""What the paper says that PR-FKL is better than: the claim, and in brief."""
IN, OUT = "in distribution", "out of distribution"


def places(profile: Profile) -> dict[str, list[str]]:
    """The suites to average over, in distribution and, unless it is left out, out of it."""
    ood = tasks.ood(profile)
    return {IN: tasks.suites(profile)} | ({OUT: [ood]} if ood else {})


def samples(evidence: Evidence) -> pd.DataFrame:
    """Every sample of Table 1's policies, in its order."""
    return collect.in_order(collect.samples(evidence.every("evaluations")), arms.ROWS)


def gains(profile: Profile, rows: pd.DataFrame) -> pd.DataFrame:
    """Each policy minus continued DAPO, in points (`decided.gains`)."""
    return decided.gains(rows, tasks.suites(profile), arms.DAPO, profile.evaluation.bootstrap)


def gain(profile: Profile, rows: pd.DataFrame, ours: str, other: str) -> tuple[str, Estimate]:
    """The name of avg@k, and what `ours` gains over `other` in it: points, in distribution.

    By `decided.gains`, as all differences of all seeds.
    """
    pair = collect.in_order(rows, [ours, other])
    row = decided.gains(pair, tasks.suites(profile), other, profile.evaluation.bootstrap).loc[ours]
    return str(row.index[0]), row.iloc[0]


def claims(profile: Profile, rows: pd.DataFrame) -> tuple[Claim, ...]:
    """The paper's headline, and what it says of its arms; only those that were trained.

    Args:
        rows: `samples`.
    """
    trained = set(rows["label"].map(collect.arm_of))
    said = []
    for other, (words, brief) in CLAIMS.items():
        if {HEADLINE, other} <= trained:
            metric, found = gain(profile, rows, HEADLINE, other)
            paper_has = in_the_paper("avg@8", HEADLINE, other)
            theirs = ", ".join(f"{value:+.2f} ({model})" for model, value in paper_has.items())
            here = f"{found:+.1f} points ({metric})"
            verdict = judged(found, paper_has.values())
            said.append(Claim(words, brief, f"{theirs} points of accuracy", here, verdict))
    return tuple(said)


def sentence(gains: pd.DataFrame, by_seed: pd.DataFrame) -> str:
    """Args: `gains`, and the differences of `accuracy.by_seed`, to continued DAPO."""
    avg, passed = gains.loc[HEADLINE]
    others = {
        arm.removeprefix("+DAPO w/ ").removeprefix("+DAPO, "): row.iloc[0]
        for arm, row in gains.iterrows()
        if arm in arms.ARMS and arm != HEADLINE
    }
    each = ", ".join(f"{arm} {gain:+.1f}" for arm, gain in others.items())
    one = " (RR and PR-scale are one optimisation)" if {"RR", "PR-scale"} <= others.keys() else ""
    return (
        f"After equal RL steps PR-FKL minus continued DAPO is {avg:+.1f} points of avg@8, an "
        f"interval that {holds(avg, {'0': 0} | reported('avg@8'))}, and {passed:+.1f} of pass@8, which "
        f"{holds(passed, {'0': 0} | reported('pass@8'))}.{_seeds(by_seed.loc[HEADLINE])} The other "
        f"arms' avg@8: {each}{one}."
    )


def _seeds(by_seed: pd.Series) -> str:
    """The values of single seeds, where there are several."""
    if len(by_seed) == 1:
        return ""
    return f" By seed, avg@8: {', '.join(f'{value:+.1f}' for value in by_seed)}."


def reported(metric: str) -> dict[str, float]:
    """The paper's gains of this arm, by what a sentence calls them; none of another metric."""
    gains = in_the_paper(metric, HEADLINE, arms.DAPO)
    return {f"{value:+.2f} (the paper's, {model})": value for model, value in gains.items()}


def in_the_paper(metric: str, ours: str, other: str) -> dict[str, float]:
    """What the paper's Table 1 gives `ours` over `other` on average: points, by "4B" and "8B".

    Empty for a metric or an arm that it does not have.
    """
    average = paper.table1_average()
    if metric not in average.columns.unique(1) or not {ours, other} <= set(average.index):
        return {}
    average = average.xs(metric, axis=1, level=1)
    gain = average.loc[ours] - average.loc[other]
    return {str(model)[6:8]: float(value) for model, value in gain.items()}
