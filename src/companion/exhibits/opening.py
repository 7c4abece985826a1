"""What stands before the first number: the model, a problem, a right answer to it."""

from __future__ import annotations

import math
from pathlib import Path

from safetensors import safe_open

from companion import params
from companion.analysis import collect
from companion.exhibits.page import About
from companion.schema import Profile
from companion.study.roles import Evidence


def about(profile: Profile, evidence: Evidence, published: Path) -> About:
    """Args: evidence: all published runs; published: where they are."""
    problem, answer = example(evidence)
    return About(profile.name, evidence.seeds, model(profile), problem, answer, executed(published))


def model(profile: Profile) -> str:
    """What is trained: its size where its weights are at hand, else its name."""
    weights = params.place(profile.task.base) / "model.safetensors"
    if not weights.exists():
        return profile.task.base.partition("@")[0]
    with safe_open(weights, "pt") as file:
        sizes = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    return f"a Qwen3 of {sum(sizes) / 1e6:.1f}M parameters"


def example(evidence: Evidence) -> tuple[str, str]:
    """The first problem that a policy got right here, and that answer; empty if there is none."""
    evaluations = evidence.every("evaluations")
    if not evaluations:
        return "", ""
    samples = collect.samples(evaluations[-1:])
    right = samples[samples["correct"]]
    if right.empty:
        return "", ""
    return right.iloc[0]["prompt"], " ".join(right.iloc[0]["answer"].split())


def executed(published: Path) -> dict[str, list[str]]:
    """By notebook, its executed copies in `published`, relative to it."""
    found: dict[str, list[str]] = {}
    for path in sorted((published / "notebooks").glob("seed*/*.ipynb")):
        found.setdefault(path.stem, []).append(str(path.relative_to(published)))
    return found
