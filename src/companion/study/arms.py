"""The study in order (Eq. 4): RL until collapse, reheating, RL resumed, evaluation.

Every function makes what is missing and reuses what is finished, so a notebook, the publisher
and the command line all ask here and never say twice what an arm is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

from companion import params
from companion.params import place
from companion.policies import base
from companion.runs import Run
from companion.schema import Arm, Profile
from companion.stages import evaluate, merge, reheat, rl, scaling

ARMS: list[str] = list(get_args(Arm))
DAPO, RR, *_HOT, EQUAL, KEPT = ARMS
REHEATED = [arm.removeprefix(f"{DAPO} w/ ") for arm in _HOT]
"""What can be made of the collapsed policy, by the name of the arm that goes on from it."""
ALWAYS = ["PR-RKL", "PR-FKL", "PR-scale", "PR-scale*"]
"""Those that tables and figures compare, whatever is continued from them."""
ROWS = ["Base", "Collapsed", *ARMS]
"""The rows of Table 1, in the paper's order; the collapsed row is ours."""


def collapsed(profile: Profile) -> Path:
    """The collapsed policy: this profile's own if its run is finished, else the shipped one.

    Lets a notebook start at any stage; `rl.collapse` makes the profile's own.
    """
    run = rl.collapse_run(profile)
    return run.policy if run.finished else shipped(profile)


def shipped(profile: Profile) -> Path:
    """The collapsed policy in the repository, whatever was trained here; made if there is none."""
    return place(profile.task.collapsed) if profile.task.collapsed else rl.collapse(profile).policy


def example(profile: Profile) -> Path:
    """A policy to look at without training one: the shipped one, else the profile's own, or the base."""
    if profile.task.collapsed:
        return shipped(profile)
    run = rl.collapse_run(profile)
    return run.policy if run.finished else base(profile)


def reheated(profile: Profile) -> dict[str, Run]:
    """The collapsed policy after each reheating that is `asked` for, by the name of its arm."""
    return {name: heated(profile, name) for name in asked(profile)}


def asked(profile: Profile) -> list[str]:
    """Of REHEATED those that are ALWAYS made, and those that an arm of the profile starts from."""
    return [name for name in REHEATED if name in ALWAYS or f"{DAPO} w/ {name}" in profile.rl.arms]


def heated(profile: Profile, name: str) -> Run:
    """The collapsed policy after one reheating of REHEATED, and what it is made from.

    PR-scale divides the final norm's weight by tau, merge takes a part of the base's weights.
    PR-scale* and merge* do so by the number whose entropy equals what PR-FKL reached, so that the
    three differ in how the entropy was raised and in nothing else.
    """
    return _HEATED[name](profile, collapsed(profile))


def with_frozen_teacher(profile: Profile) -> Profile:
    """The profile as reheating towards a teacher that stands still has it (`schema.Frozen`)."""
    rate = profile.frozen.learning_rate or profile.reheat.learning_rate
    still = {"reheat.teacher": "frozen", "reheat.learning_rate": rate}
    return params.change(profile, still | {"reheat.tau": profile.frozen.tau})


def _frozen(profile: Profile, start: Path) -> Run:
    return reheat.reheat(with_frozen_teacher(profile), start, direction="forward")


def _matched_scale(profile: Profile, start: Path) -> Run:
    return scaling.scale(profile, start, scaling.matching_tau(profile, start, _reached(profile)))


def _matched_merge(profile: Profile, start: Path) -> Run:
    return merge.merge(profile, start, merge.matching_strength(profile, start, _reached(profile)))


def _reached(profile: Profile) -> float:
    """The mean token entropy of PR-FKL, in nats."""
    return heated(profile, "PR-FKL").result["token_entropy"]


_HEATED: dict[str, Callable[[Profile, Path], Run]] = {
    "PR-RKL": lambda profile, start: reheat.reheat(profile, start, direction="reverse"),
    "PR-FKL": lambda profile, start: reheat.reheat(profile, start, direction="forward"),
    "PR-scale": lambda profile, start: scaling.scale(profile, start, profile.reheat.tau),
    "PR-scale*": _matched_scale,
    "PR-FKL frozen": _frozen,
    "merge": lambda profile, start: merge.merge(profile, start, profile.merge.strength),
    "merge*": _matched_merge,
}


def continued(profile: Profile) -> dict[str, Run]:
    """RL resumed: the profile's arms for the same steps on the same prompts, by their names."""
    asked_for, made = profile.rl.arms, dict[str, Run]()
    for arm in sorted(asked_for, key=EQUAL.__eq__):  # last: it depends on others
        made[arm] = (
            rl.prolong(profile, made[DAPO], _further_steps(profile, made), arm=arm)
            if arm == EQUAL
            else resumed(profile, arm)
        )
    return {arm: made[arm] for arm in asked_for}


def resumed(profile: Profile, arm: str) -> Run:
    """RL resumed by one arm that depends on no other, from the policy that it starts from."""
    name = arm.removeprefix(f"{DAPO} w/ ")
    return rl.resume(
        profile,
        heated(profile, name).policy if name in REHEATED else collapsed(profile),
        arm=arm,
        temperature=profile.rl.rr_temperature if arm == RR else None,
        keep_optimizer=arm == KEPT,
        goes_on=arm == DAPO and EQUAL in profile.rl.arms,
    )


def _further_steps(profile: Profile, made: Mapping[str, Run]) -> int:
    """Steps of plain DAPO with as many tokens as PR-FKL drew more, in reheating and after it.

    In whole intervals between two checks, rounded up: the rival gets the better of it.
    """
    answers = profile.rl.batch_size * profile.rl.responses_per_prompt
    plain, hot = (answers * _lengths(made[arm]) for arm in (DAPO, f"{DAPO} w/ PR-FKL"))
    reheating = profile.reheat.batch_size * _lengths(heated(profile, "PR-FKL"))
    every = profile.rl.collapse.check_every
    steps = (reheating + hot - plain) / (plain / profile.rl.continued_steps)
    return every * max(1, math.ceil(steps / every))


def _lengths(run: Run) -> float:
    """The mean answer lengths of a run's steps, in tokens, added up."""
    return float(run.metrics["response_length"].sum())


def evaluations(profile: Profile) -> dict[str, Run]:
    """Every policy of the study on the held-out suites, as Table 1 has them; of an arm its `ends`."""
    policies = {
        "Base": base(profile),
        "Collapsed": collapsed(profile),
        **{name: run.policy for name, run in reheated(profile).items()},
    }
    return evaluate.evaluate_each(profile, policies | ends(continued(profile)))


def ends(made: Mapping[str, Run]) -> dict[str, Path]:
    """The policies that arms are judged by, by label: the last `rl.evaluated_checkpoints` of each.

    An arm's very last has the arm's name.
    """
    policies: dict[str, Path] = {}
    for arm, run in made.items():
        *before, last = rl.checkpoints(run).values()
        count = 1 + len(before)
        policies |= {f"{arm}, checkpoint {i + 1} of {count}": p for i, p in enumerate(before)}
        policies[arm] = last
    return policies


def training_runs(profile: Profile) -> dict[str, Run]:
    """The RL runs, by arm: to collapse, then every continued one."""
    return {"Collapsed": rl.collapse(profile), **continued(profile)}
