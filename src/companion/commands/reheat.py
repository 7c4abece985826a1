"""Reheat a policy of one's own: measured, distilled, measured again, and a card of what it did."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companion import params, policies
from companion.commands import card, own
from companion.objective import Direction
from companion.schema import Profile, Teacher, check_tau
from companion.stages import reheat as stage
from companion.stages import scaling
from companion.stages.entropy import token_entropy

TAUS: dict[Teacher, float] = {"live": 1.2, "frozen": 1.5}
"""The paper's; and one whose fixed point lies well above what is asked for (docs/preregistration.md)."""


def run(
    policy: str,
    prompts: str,
    out: Path,
    *,
    teacher: Teacher = "frozen",
    tau: float | None = None,
    direction: Direction = "forward",
    until: str = "1.5x",
    threshold: float | None = None,
    reference: str | None = None,
    learning_rate: float | None = None,
    changes: Mapping[str, Any] | None = None,
    **asked: Any,
) -> Path:
    """Reheat `policy` on `prompts` until its entropy has risen; the folder with policy and card.

    Args:
        until: mean token entropy to stop at, in nats, or as a factor of today's such as "1.5x".
        threshold: of a live teacher, which diverges on policies that are not collapsed (App. C): the
            nats below which a policy is; or `reference`, a policy whose entropy says it.
        learning_rate: `own.learning_rate` of the policy's size and the teacher if None.
        asked: as `own.profile` takes them.

    Raises:
        ValueError: in one sentence, before anything is trained.
        RuntimeError: ms-swift failed, or entropy diverged.
    """
    own.check_empty(out)
    if teacher not in TAUS:
        raise ValueError(f"--teacher is '{teacher}' and must be frozen or live")
    if teacher == "live" and threshold is None and reference is None:
        raise ValueError(
            "--teacher live needs --threshold in nats, or --reference with a policy, to know what is "
            "collapsed; a frozen teacher needs neither"
        )
    factor, tau = factor_of(until), check_tau(TAUS[teacher] if tau is None else tau)
    settings = own.profile(policy, prompts, **asked)
    start = policies.base(settings)
    size = own.parameters(start)
    rate = own.learning_rate(size, teacher) if learning_rate is None else learning_rate
    before = token_entropy(start, settings)
    count = settings.entropy.prompts
    print(f"{start.name}: {size:,} parameters, entropy {before:.4f} nats on {count} prompts")
    target = factor(before.value)
    if target <= before.value:
        raise ValueError(
            f"--until is {target:.4g} nats and the policy has {before.value:.4g} already; give more"
        )
    if reference is not None:
        threshold = own.COLLAPSED * token_entropy(own.found(reference), settings).value
        print(f"collapsed is what lies below {threshold:.4f} nats, a third of the reference's")
    settings = params.change(
        settings,
        {
            "reheat.teacher": teacher,
            "reheat.tau": tau,
            "reheat.learning_rate": rate,
            "reheat.recovery_entropy": target,
            "reheat.ceiling_entropy": None if teacher == "frozen" else 3 * target,
            "rl.collapse.entropy": threshold or target,
        }
        | dict(changes or {}),
    )
    if teacher == "frozen":
        reachable(settings, start, target)
    print(
        f"to {target:.4f} nats, tau {settings.reheat.tau:g}, learning rate {rate:.2g}", flush=True
    )
    made = stage.reheat(settings, start, direction=direction, force=teacher == "frozen")

    def save(folder: Path) -> None:
        shutil.copytree(made.policy, folder, dirs_exist_ok=True)
        for name in ("run.json", "metrics.jsonl"):
            shutil.copy2(made.folder / name, folder)
        card.write(settings, start, made, folder)

    return own.saved(out, save)


def reachable(profile: Profile, start: Path, target: float) -> None:
    """ValueError if a frozen teacher's fixed point, the scaled policy, has no more entropy than that."""
    tau = profile.reheat.tau
    if not scaling.scalable(start):
        return  # its fixed point cannot be measured beforehand
    fixed = scaling.scale(profile, start, tau).result["token_entropy"]
    if fixed <= target:
        raise ValueError(
            f"--until is {target:.4g} nats, and a frozen teacher at --tau {tau:g} ends at "
            f"{fixed:.4g}; raise --tau, or give less"
        )


def factor_of(until: str) -> Any:
    """From today's entropy in nats to the one to stop at."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(x?)\s*", until)
    if not found or float(found[1]) <= 0:
        raise ValueError(
            f"--until is '{until}' and must be nats such as 0.1, or a factor such as 1.5x"
        )
    number = float(found[1])
    return (lambda today: number * today) if found[2] else (lambda _: number)
