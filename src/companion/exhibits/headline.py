"""What the study says in one sentence: PR-FKL against continued DAPO (Table 1, Fig. 1)."""

from __future__ import annotations

import pandas as pd

from companion import paper, tasks
from companion.analysis import accuracy, collect
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study import arms
from companion.study.roles import Evidence

HEADLINE = "+DAPO w/ PR-FKL"


def samples(evidence: Evidence) -> pd.DataFrame:
    """Every sample of Table 1's policies, in its order."""
    return collect.in_order(collect.samples(evidence.every("evaluations")), arms.ROWS)


def gains(profile: Profile, rows: pd.DataFrame) -> pd.DataFrame:
    """Each policy minus continued DAPO, in points (`accuracy.gains`)."""
    return accuracy.gains(rows, tasks.suites(profile), arms.DAPO, profile.evaluation.bootstrap)


def side(gain: Estimate) -> str:
    """What an interval says about a difference that the paper reports as positive."""
    if gain.low > 0:
        return "agrees with"
    return "contradicts" if gain.high < 0 else "neither confirms nor contradicts"


def sentence(gains: pd.DataFrame, by_seed: pd.DataFrame) -> str:
    """Args: `gains`, and the differences of `accuracy.by_seed`, to continued DAPO."""
    avg, passed = gains.loc[HEADLINE]
    others = ", ".join(
        f"{arm.removeprefix('+DAPO w/ ')} {row.iloc[0]:+.1f}"
        for arm, row in gains.iterrows()
        if arm.startswith("+DAPO w/ ") and arm != HEADLINE
    )
    return (
        f"After equal RL steps PR-FKL stands {avg:+.1f} points avg@8 and {passed:+.1f} pass@8 from "
        f"continued DAPO, which {side(avg)} the paper's {_reported('avg@8')} and {side(passed)} its "
        f"{_reported('pass@8')}.{_seeds(by_seed.loc[HEADLINE])} The other arms' avg@8: {others}."
    )


def _seeds(by_seed: pd.Series) -> str:
    """The values of single seeds, where there are several."""
    if len(by_seed) == 1:
        return ""
    return f" By seed, avg@8: {', '.join(f'{value:+.1f}' for value in by_seed)}."


def _reported(metric: str) -> str:
    average = paper.table1_average().xs(metric, axis=1, level=1)
    gain = average.loc[HEADLINE] - average.loc[arms.DAPO]
    return " and ".join(f"{value:+.2f} ({model[6:8]})" for model, value in gain.items())
