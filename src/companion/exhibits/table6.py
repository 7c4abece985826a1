"""Table 6: what reheating costs beside RL."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from companion import paper
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.wording import directed, seeds, written
from companion.paired import over_seeds
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    each = [
        cost(one.by_key("training"), one.by_key("reheated")["PR-FKL"], profile)
        for one in evidence.each().values()
    ]
    # Hours in all of some seeds beside hours of steps of others would compare two studies.
    table = pd.concat(each).groupby(level=0, sort=False).agg(lambda of: of.mean(skipna=False))
    share = over_seeds([_share(one) for one in each], 0)
    return Shown(
        table=table,
        as_text=table.round(2).astype(object).fillna(""),
        sentence=sentence(table, len(each)),
        claims=claims(share),
        reported=paper.table6().astype(object).fillna("").set_index("model"),
    )


def cost(training: Mapping[str, Run], reheated: Run, profile: Profile) -> pd.DataFrame:
    """Table 6: what reheating costs beside RL, from the clocks of one seed's runs.

    A row a stage. RL is the whole of the run to collapse and its plain continuation. Seconds a
    step are the median without starting up, saving and measuring, hours of steps their sum (the
    paper's hours) and hours in all the runs' own, with all of that (NaN where a try was killed, whose
    seconds nobody wrote). The paper divides reheating's seconds by 1024 / 64, answers by prompts; the
    last column is per answer on both sides, RL's being prompts x responses.
    """
    rl, heat = profile.rl, profile.reheat
    stages = {
        "RL": (
            [training["Collapsed"], training["+DAPO"]],
            rl.batch_size,
            rl.batch_size * rl.responses_per_prompt,
        ),
        "OPSD": ([reheated], heat.batch_size, heat.batch_size),
    }
    rows = {}
    for stage, (made, batch, answers) in stages.items():
        seconds = pd.concat([run.metrics["seconds"].dropna() for run in made])
        rows[stage] = {
            "batch size": batch,
            "steps": len(seconds),
            "s a step": seconds.median(),
            "hours of steps": seconds.sum() / 3600,
            "hours in all": sum(run.seconds for run in made) / 3600,
            "s a step at RL's batch size": seconds.median() * rl.batch_size / batch,
            "s per 1,000 answers": 1000 * seconds.median() / answers,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    share = 100 * table.loc["OPSD", "hours of steps"] / table.loc["RL", "hours of steps"]
    return table.assign(**{"share of RL (%)": [None, share]})


def _share(cost: pd.DataFrame) -> float:
    return float(cost.loc["OPSD", "share of RL (%)"])


def sentence(cost: pd.DataFrame, count: int) -> str:
    """Args: `cost`, or the mean of so many seeds'."""
    answers = cost["s per 1,000 answers"]
    return (
        f"Reheating's steps take {_share(cost):.0f}% of the time of RL's here (the paper: 15 to 17%), "
        f"and {answers['OPSD']:.1f} s per 1,000 answers beside RL's {answers['RL']:.1f}"
        f"{seeds(count)}; the paper's own comparison divides answers by prompts (see the audit in "
        "notebook 10)."
    )


def claims(share: Estimate) -> tuple[Claim, ...]:
    """Args: in percent."""
    low, high = paper.table6()["overhead_percent"].dropna().agg(["min", "max"])
    return (
        Claim(
            "One reheating costs little beside RL itself",
            "one reheating is cheap",
            f"{low:g}% and {high:g}% of RL's time (4B, 8B)",
            f"{written(share, '.0f')}% of RL's time (of all steps)",
            directed(share, side=-1, null=high),
        ),
    )


EXHIBIT = Exhibit(
    name="table6",
    title="Table 6: cost",
    notebook="10_cost",
    roles=("training", "reheated"),
    make=make,
    every_seed=True,
)
