"""What the study says in one sentence: PR-FKL against continued DAPO (Table 1, Fig. 1)."""

from __future__ import annotations

import pandas as pd

from companion import paper, tasks
from companion.analysis import accuracy, collect
from companion.exhibits.wording import holds
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence

HEADLINE = "+DAPO w/ PR-FKL"
IN, OUT = "in distribution", "out of distribution"


def places(profile: Profile) -> dict[str, list[str]]:
    """The suites to average over, in distribution and, unless it is left out, out of it."""
    ood = tasks.ood(profile)
    return {IN: tasks.suites(profile)} | ({OUT: [ood]} if ood else {})


def samples(evidence: Evidence) -> pd.DataFrame:
    """Every sample of Table 1's policies, in its order."""
    return collect.in_order(collect.samples(evidence.every("evaluations")), arms.ROWS)


def gains(profile: Profile, rows: pd.DataFrame) -> pd.DataFrame:
    """Each policy minus continued DAPO, in points (`accuracy.gains`)."""
    return accuracy.gains(rows, tasks.suites(profile), arms.DAPO, profile.evaluation.bootstrap)


def sentence(gains: pd.DataFrame, by_seed: pd.DataFrame) -> str:
    """Args: `gains`, and the differences of `accuracy.by_seed`, to continued DAPO."""
    avg, passed = gains.loc[HEADLINE]
    others = {
        arm.removeprefix("+DAPO w/ "): row.iloc[0]
        for arm, row in gains.iterrows()
        if arm.startswith("+DAPO w/ ") and arm != HEADLINE
    }
    each = ", ".join(f"{arm} {gain:+.1f}" for arm, gain in others.items())
    one = " (RR and PR-scale are one optimisation)" if {"RR", "PR-scale"} <= others.keys() else ""
    return (
        f"After equal RL steps PR-FKL stands {avg:+.1f} points avg@8 from continued DAPO, an "
        f"interval that {holds(avg, {'0': 0} | reported('avg@8'))}, and {passed:+.1f} pass@8, which "
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
    average = paper.table1_average()
    if metric not in average.columns.unique(1):
        return {}
    average = average.xs(metric, axis=1, level=1)
    gain = average.loc[HEADLINE] - average.loc[arms.DAPO]
    return {f"{value:+.2f} (the paper's, {model[6:8]})": value for model, value in gain.items()}
