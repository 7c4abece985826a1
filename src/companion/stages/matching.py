"""The number by which a policy is made, such as a temperature, that gives it a certain entropy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from companion.schema import Profile
from companion.stages.entropy import token_entropy

VERSION = 1
"""Raised by hand when the same policies give another number (tests/test_versions.py)."""


def search(
    profile: Profile,
    entropy: float,
    folder: Path,
    save: Callable[[float, Path], None],
    bracket: tuple[float, float],
    what: str,
) -> float:
    """The x within `bracket`, to 0.001, at which `save(x, folder)` saves a policy of this entropy.

    Every trial answers the same prompts with the same uniforms (`token_entropy`), so that the
    search follows x and not the sampling noise.

    Args:
        entropy: mean token entropy, in nats.
        folder: of a trial, whose policy may be large; removed at the end.
        what: what a refusal calls the bracket, such as "strength between 0 and 1".

    Raises:
        ValueError: the policies at both ends lie on the same side of `entropy`.
    """
    from scipy.optimize import brentq

    @cache  # both ends are asked for twice
    def excess(x: float) -> float:
        save(x, folder)
        return token_entropy(folder, profile).value - entropy

    shutil.rmtree(folder, ignore_errors=True)  # of a search that was killed
    try:
        if excess(bracket[0]) * excess(bracket[1]) > 0:
            raise ValueError(f"entropy is {entropy:.3f} nats, which no {what} gives this policy")
        return float(brentq(excess, *bracket, xtol=1e-3))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
