"""Table 3: settings of RL."""

from __future__ import annotations

from companion.exhibits import hyperparameters
from companion.exhibits.exhibit import Exhibit, Shown
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    return hyperparameters.make(profile, 3)


EXHIBIT = Exhibit(
    name="table3",
    title="Table 3: settings of RL",
    notebook="10_cost",
    roles=(),
    make=make,
)
