"""Table 5: settings of the evaluation."""

from __future__ import annotations

from companion.exhibits import hyperparameters
from companion.exhibits.exhibit import Exhibit, Shown
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    return hyperparameters.make(profile, 5)


EXHIBIT = Exhibit(
    name="table5",
    title="Table 5: settings of the evaluation",
    notebook="10_cost",
    roles=(),
    make=make,
)
