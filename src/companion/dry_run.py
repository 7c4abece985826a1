"""What a study would take and which commands it would run; nothing is started.

companion plan --profile qwen3-4b
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path

from companion import cli, plan, reheat, rl
from companion.launch import submission
from companion.params import Profile

RUN, POLICY = Path("RUN"), Path("POLICY")
"""Stand for a run's folder, which its fingerprint names, and for the policy a stage starts from."""


def show(profile: Profile) -> None:
    """Print the plan, then the commands."""
    plan.report(profile)
    for name, lines in commands(profile).items():
        print(f"\n{name}:", *lines, sep="\n")


def commands(profile: Profile) -> dict[str, list[str]]:
    """As lines for a shell: verl's command to collapse and one of an arm, and ms-swift's.

    Each begins with what is added to the environment. Of several nodes' the first line submits
    the job, whose script holds the second.
    """
    rl.check(profile)
    warm = {"start": POLICY, "folder": RUN, "temperature": profile.rl.rollout_temperature}
    verl = rl.environment(profile, RUN)
    return {
        "RL to collapse (verl)": _lines(
            profile,
            "verl",
            verl,
            rl.command(
                profile,
                steps=profile.rl.collapse.max_steps,
                stop_entropy=profile.rl.collapse.entropy,
                **warm,
            ),
        ),
        "reheating (ms-swift)": _lines(
            profile, "ms-swift", reheat.environment(profile), reheat.command(profile, POLICY, RUN)
        ),
        "RL resumed (verl)": _lines(
            profile, "verl", verl, rl.command(profile, steps=profile.rl.continued_steps, **warm)
        ),
    }


def _lines(
    profile: Profile, name: str, environment: Mapping[str, str], words: list[str]
) -> list[str]:
    variables = [f"{variable}={value}" for variable, value in environment.items()]
    line = shlex.join(["env", *variables, *words])
    if profile.hardware.nodes == 1:
        return [line]
    return [shlex.join(submission("RUN", RUN / f"{name}.sh", environment)), line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=cli.profile, default="laptop")
    show(parser.parse_args().profile)
