"""The study in order (Eq. 4): RL until collapse, reheating, RL resumed, evaluation.

Every function makes what is missing and reuses what is finished, so a notebook, the publisher
and the command line all ask here and never say twice what an arm is.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from companion.params import place
from companion.policies import base
from companion.runs import Run
from companion.schema import Arm, Profile
from companion.stages import evaluate, reheat, rl, scaling

ARMS: list[str] = list(get_args(Arm))
DAPO, RR, *_, KEPT = ARMS
REHEATED = ["PR-RKL", "PR-FKL", "PR-scale", "PR-scale*"]
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
    """The collapsed policy after each reheating, by the name of its arm.

    PR-scale divides the final norm's weight by tau; PR-scale* by the tau whose entropy equals
    what PR-FKL reached, so that the two differ in how the entropy was raised and in nothing else.
    """
    start, tau = collapsed(profile), profile.reheat.tau
    forward = reheat.reheat(profile, start, direction="forward")
    matched = scaling.matching_tau(profile, start, forward.result["token_entropy"])
    return {
        "PR-RKL": reheat.reheat(profile, start, direction="reverse"),
        "PR-FKL": forward,
        "PR-scale": scaling.scale(profile, start, tau),
        "PR-scale*": scaling.scale(profile, start, matched),
    }


def continued(profile: Profile) -> dict[str, Run]:
    """RL resumed: the profile's arms for the same steps on the same prompts, by their names."""
    start = collapsed(profile)
    hot = {f"{DAPO} w/ {name}": run.policy for name, run in reheated(profile).items()}
    return {
        arm: rl.resume(
            profile,
            hot.get(arm, start),
            arm=arm,
            temperature=profile.rl.rr_temperature if arm == RR else None,
            keep_optimizer=arm == KEPT,
        )
        for arm in profile.rl.arms
    }


def evaluations(profile: Profile) -> dict[str, Run]:
    """Every policy of the study on the held-out suites, in the order of Table 1."""
    policies = {
        "Base": base(profile),
        "Collapsed": collapsed(profile),
        **{name: run.policy for name, run in reheated(profile).items()},
        **{name: run.policy for name, run in continued(profile).items()},
    }
    return evaluate.evaluate_each(profile, policies)


def reheated_rows(evaluations: dict[str, Run]) -> list[Run]:
    """Of all evaluations, the collapsed policy and what each reheating made of it."""
    return [evaluations[label] for label in ("Collapsed", *REHEATED)]


def training_runs(profile: Profile) -> dict[str, Run]:
    """The RL runs, by arm: to collapse, then every continued one."""
    return {"Collapsed": rl.collapse(profile), **continued(profile)}
