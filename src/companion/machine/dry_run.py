"""The commands that a study would run, for a profile; nothing is started."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from companion.schema import Profile
from companion.stages import checks, swift_command, verl_command
from companion.stages.launch import submission

RUN, POLICY = Path("RUN"), Path("POLICY")
"""Stand for a run's folder, which its fingerprint names, and for the policy a stage starts from."""


def commands(profile: Profile) -> dict[str, list[str]]:
    """For a shell: verl's command to collapse and one of an arm, and ms-swift's, an argument a line.

    Each begins with what is added to the environment. Of several nodes' the first command submits
    the job, whose script holds the second.
    """
    checks.settings(profile)
    warm = {"start": POLICY, "folder": RUN, "temperature": profile.rl.rollout_temperature}
    verl = verl_command.environment(profile, RUN)
    return {
        "RL to collapse (verl)": _lines(
            profile,
            "verl",
            verl,
            verl_command.command(
                profile,
                steps=profile.rl.collapse.max_steps,
                stop_entropy=profile.rl.collapse.entropy,
                **warm,
            ),
        ),
        "reheating (ms-swift)": _lines(
            profile,
            "ms-swift",
            swift_command.environment(profile),
            swift_command.command(profile, POLICY, RUN),
        ),
        "RL resumed (verl)": _lines(
            profile,
            "verl",
            verl,
            verl_command.command(profile, steps=profile.rl.continued_steps, **warm),
        ),
    }


def _lines(
    profile: Profile, name: str, environment: Mapping[str, str], words: list[str]
) -> list[str]:
    variables = [f"{variable}={value}" for variable, value in environment.items()]
    made = _command(["env", *variables, *words])
    if profile.hardware.nodes == 1:
        return [made]
    return [_command(submission("RUN", RUN / f"{name}.sh", environment)), made]


def _command(words: list[str]) -> str:
    """The words, quoted, a setting a line: NAME=VALUE, or --name with its value."""
    lines: list[list[str]] = [[]]
    for word in words:
        setting, before = "=" in word or word.startswith("--"), lines[-1]
        if before and (setting or "=" in before[-1]):
            lines.append([])
        lines[-1].append(word)
    return " \\\n  ".join(map(shlex.join, lines))
