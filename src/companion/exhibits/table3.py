"""Table 3: settings of RL."""

from __future__ import annotations

from companion.exhibits import hyperparameters
from companion.exhibits.exhibit import Exhibit, Shown
from companion.schema import Profile
from companion.study.roles import Evidence


def make(profile: Profile, evidence: Evidence) -> Shown:
    return hyperparameters.make(profile, 3, {"Total epochs": epochs(profile, evidence)})


def epochs(profile: Profile, evidence: Evidence) -> str:
    """How often RL saw each prompt until the end of an arm, by seed: an end that entropy decides."""
    rl, training = profile.rl, evidence.index[evidence.index["key"] == "Collapsed"]
    steps = [run.metrics["step"].max() + rl.continued_steps for run in training["run"]]
    return ", ".join(f"{n * rl.batch_size / profile.task.train_problems:.1f}" for n in steps)


EXHIBIT = Exhibit(
    name="table3",
    title="Table 3: settings of RL",
    notebook="10_cost",
    roles=("training",),
    make=make,
    every_seed=True,
)
