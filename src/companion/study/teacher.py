"""The runs behind Fig. B: the paper's teacher, which moves along, beside one that stands still.

Each pair differs in the teacher, and in the temperature and learning rate that `arms` gives a frozen
one; where the paper finds a limit of reheating (App. C and D), both are taken past it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from companion import params, policies
from companion.analysis import leak
from companion.runs import Run
from companion.schema import Profile
from companion.stages import evaluate, reheat, scaling
from companion.study import arms, experiments


def runs(profile: Profile) -> dict[str, Run]:
    """Reheating without stop and guard, by "base live", "base frozen", "past live", "past frozen".

    base: from the base policy, which is not collapsed (Fig. 9); past: from the collapsed one, far
    beyond the stop, in smaller batches (Fig. 10). A frozen one takes as many steps of as many answers.
    """
    extra = profile.analysis
    return {
        "base live": experiments.on_base(profile),
        "base frozen": _frozen(
            profile, policies.base(profile), {"reheat.max_steps": extra.base_steps}, force=True
        ),
        "past live": experiments.long_horizon(profile),
        "past frozen": _frozen(
            profile,
            arms.collapsed(profile),
            {"reheat.batch_size": extra.long_batch_size, "reheat.max_steps": extra.long_steps},
        ),
    }


def _frozen(profile: Profile, start: Path, more: dict[str, Any], *, force: bool = False) -> Run:
    still = params.change(
        arms.with_frozen_teacher(profile),
        experiments.ENDLESS | {"reheat.keep_checkpoints": False} | more,
    )
    return reheat.reheat(still, start, force=force)


def evaluations(profile: Profile) -> dict[str, Run]:
    """What the four ended with on the held-out suites, by the keys of `runs`; and beside them, by
    "base start", "base scaled", "past start" and "past scaled", where they began, and the frozen
    teacher's fixed point."""
    starts = {"base": policies.base(profile), "past": arms.collapsed(profile)}
    labels = {"base": "Base", "past": "Collapsed"}  # the study's own
    made = evaluate.evaluate_each(profile, {labels[name]: starts[name] for name in starts})
    ends = {
        f"{name} scaled": scaling.scale(profile, start, profile.frozen.tau).policy
        for name, start in starts.items()
    } | {name: run.policy for name, run in runs(profile).items()}
    return {f"{name} start": made[labels[name]] for name in starts} | evaluate.evaluate_each(
        profile, ends, words=False
    )


def leaks(profile: Profile) -> dict[str, Run]:
    """Where both reheatings moved the collapsed policy, token by token, each at its stop."""
    after = {
        "live": arms.heated(profile, "PR-FKL").policy,
        "frozen": arms.heated(profile, "PR-FKL frozen").policy,
    }
    return {"": leak.measure(profile, arms.collapsed(profile), after)}
