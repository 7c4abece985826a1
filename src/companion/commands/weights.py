"""Policies of one's own whose weights are scaled or merged: files into files, no model is loaded."""

from __future__ import annotations

from pathlib import Path

from companion.commands import own
from companion.schema import check_tau
from companion.stages import merge as merging
from companion.stages import scaling


def scale(policy: str, tau: float, out: Path) -> Path:
    """The policy with every logit divided by `tau`, in `out`; ValueError in one sentence."""
    start = own.found(policy)
    check_tau(tau)
    return own.saved(out, lambda folder: scaling.save_scaled(start, tau, folder))


def merge(policy: str, base: str, strength: float, out: Path) -> Path:
    """(1 - strength) x `policy` + strength x `base`, in `out`; ValueError in one sentence."""
    start, other, share = own.found(policy), own.found(base), merging.checked(strength)
    return own.saved(out, lambda folder: merging.save_merged(start, other, share, folder))
