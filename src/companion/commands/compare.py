"""This machine's study beside the published one and the paper: what lies where it is expected."""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from companion import paper, tasks
from companion.analysis import accuracy, collect
from companion.commands import agreement
from companion.commands.console import show
from companion.params import ROOT
from companion.runs import finished_only
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study import arms, roles
from companion.study.roles import INDEX, Evidence

EXPECTED = "another seed's, from the published"


def report(profile: Profile) -> pd.DataFrame:
    """Print and return a row a number: yours, where another seed's is expected, inside, the paper's.

    Raises:
        ValueError: nothing of this profile is published, or this seed's study is not finished here.
    """
    published = roles.published(profile.name)
    with finished_only():
        mine = roles.made(profile, roles.STUDY)
    yours = numbers(profile, mine)[profile.seed]
    seeds = numbers(profile, published)
    found = table(yours, seeds.drop(columns=profile.seed, errors="ignore"))
    others = [seed for seed in published.seeds if seed != profile.seed]
    notes = [
        f"{EXPECTED}: of seed{'s' * (len(others) > 1)} {', '.join(map(str, others)) or 'none'}; the "
        "interval that holds the value of 95 in 100 further seeds, if they are alike"
    ]
    if other := next(agreement.differences(profile, mine), None):
        notes.append(
            f"measured otherwise than the published ones, and maybe outside for that alone: {other}"
        )
    if profile.seed in seeds:
        equal = yours.reindex(seeds.index).eq(seeds[profile.seed]).sum()
        notes.append(
            f"seed {profile.seed} is itself published: {equal} of {len(seeds)} numbers are equal to "
            "the last digit"
        )
    show(found, f"{profile.name}, seed {profile.seed}, beside what is published", notes)
    return found


def can_be_made(profile: Profile) -> bool:
    """Whether anything of this profile is published."""
    return (ROOT / "results" / profile.name / INDEX).exists()


def numbers(profile: Profile, evidence: Evidence) -> pd.DataFrame:
    """What a study comes down to: a row a number with its unit, a column a seed."""
    rows = collect.in_order(collect.samples(evidence.every("evaluations")), arms.ROWS)
    scores = accuracy.by_seed(rows, tasks.suites(profile))
    gains = (scores - scores.loc[arms.DAPO]).drop(["Base", "Collapsed", arms.DAPO], errors="ignore")
    metric = f"avg@{rows['sample'].nunique()}"
    training = evidence.index[evidence.index["role"] == "training"]
    before = training[training["key"] == "Collapsed"].set_index("seed")["run"]
    collapse = pd.DataFrame(
        {
            seed: {
                "RL steps to the collapse": int(run.metrics["step"].max()),
                "… and its entropy (millinats)": 1000
                * run.metrics["token_entropy"].dropna().iloc[-1],
            }
            for seed, run in before.items()
        }
    )
    return pd.concat(
        [
            collapse,
            scores.rename(index=lambda label: f"{label}, {metric} (%)"),
            gains.rename(index=lambda arm: f"{arm} minus {arms.DAPO}, {metric} (points)"),
        ]
    )


def table(yours: pd.Series, published: pd.DataFrame) -> pd.DataFrame:
    """Args: `numbers`, one seed's and the others'. Columns yours, EXPECTED, inside, the paper."""
    expected = {name: another(row) for name, row in published.iterrows()}
    rows = {}
    for name, value in yours.items():
        said, inside = "", ""
        there = expected.get(name)
        if there and not math.isnan(there.value):
            known = not math.isnan(there.low)
            said = f"{there:.1f}" if known else f"{there.value:.1f}"
            inside = ("yes" if there.low <= value <= there.high else "NO") if known else ""
        rows[name] = {
            "yours": f"{value:.1f}",
            EXPECTED: said,
            "inside": inside,
            "the paper": _reported(str(name)),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def another(values: pd.Series) -> Estimate:
    """Where one more seed's number is expected: the 95% prediction interval of as many normal draws.

    Its ends are NaN with fewer than two seeds.
    """
    known = values.dropna()
    mean, count = float(known.mean()), len(known)
    if count < 2:
        return Estimate(mean, math.nan, math.nan)
    reach = stats.t.ppf(0.975, count - 1) * known.std(ddof=1) * math.sqrt(1 + 1 / count)
    return Estimate(mean, mean - float(reach), mean + float(reach))


def _reported(name: str) -> str:
    """The paper's number of that name, 4B and 8B, if it gives one."""
    average = paper.table1_average().xs("avg@8", axis=1, level=1)
    gains = average - average.loc[arms.DAPO]
    for arm in average.index:
        if name == f"{arm}, avg@8 (%)":
            return " and ".join(f"{value:.2f}" for value in average.loc[arm])
        if name == f"{arm} minus {arms.DAPO}, avg@8 (points)":
            return " and ".join(f"{value:+.2f}" for value in gains.loc[arm])
    return ""
