"""Table 1: held-out accuracy of every policy."""

from __future__ import annotations

from companion import paper, tasks
from companion.analysis import accuracy
from companion.exhibits import headline, limits, text
from companion.exhibits.exhibit import Exhibit, Shown
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    rows, suites = headline.samples(evidence), tasks.suites(profile)
    table = accuracy.table(rows, suites, profile.evaluation.bootstrap)
    seeds, passes = accuracy.by_seed(rows, suites), accuracy.curve(rows, suites)
    cut = accuracy.cut(rows, suites)
    return Shown(
        table=table,
        as_text=text.show(table[["Avg", *suites]]),
        sentence=headline.sentence(headline.gains(profile, rows), seeds - seeds.loc[arms.DAPO]),
        claims=headline.claims(profile, rows),
        reported=paper.table1_beside(profile.task.base),
        note=limits.note(profile, cut),
        more={"avg_by_seed": seeds.round(2), "pass_at_k": passes.round(2), "cut": cut.round(2)},
    )


EXHIBIT = Exhibit(
    name="table1",
    title="Table 1: held-out accuracy (percent)",
    notebook="04_evaluate",
    roles=("evaluations",),
    make=make,
    every_seed=True,
)
