"""What a study would take and which commands it would run; nothing is started.

    python -m companion.reproduce --profile qwen3-4b --dry-run
"""

from __future__ import annotations

import shlex
from pathlib import Path

from companion import plan, reheat, rl
from companion.params import Profile


def show(profile: Profile) -> None:
    """Print the plan, then the commands."""
    plan.report(profile)
    for name, words in commands(profile).items():
        print(f"\n{name}:\n{shlex.join(words)}")


def commands(profile: Profile) -> dict[str, list[str]]:
    """verl's command to collapse and one of an arm, and ms-swift's.

    Where a run's fingerprint decides on the folder, it stands as `RUN`; the policy that a stage
    starts from as `POLICY`.
    """
    rl.check(profile)
    run, policy = Path("RUN"), Path("POLICY")
    warm = {"start": policy, "folder": run, "temperature": profile.rl.rollout_temperature}
    return {
        "RL to collapse (verl)": rl.command(
            profile, steps=profile.rl.collapse.max_steps,
            stop_entropy=profile.rl.collapse.entropy, **warm,
        ),
        "reheating (ms-swift)": reheat.command(profile, policy, run),
        "RL resumed (verl)": rl.command(profile, steps=profile.rl.continued_steps, **warm),
    }
