"""Table 4: settings of reheating."""

from __future__ import annotations

from companion.exhibits import hyperparameters
from companion.exhibits.exhibit import Exhibit, Shown
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    return hyperparameters.make(profile, 4)


EXHIBIT = Exhibit(
    name="table4",
    title="Table 4: settings of reheating",
    notebook="10_cost",
    roles=(),
    make=make,
)
