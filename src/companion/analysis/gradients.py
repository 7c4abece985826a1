"""The gradients behind Fig. 7 and 8: how alike are they at the first step, before any update?"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from companion.analysis.measure import measured
from companion.analysis.rollouts import Rollouts, batches, padded, roll_out, settings
from companion.objective import Direction, self_distillation
from companion.params import Profile
from companion.runs import Run
from companion.sampling import load_policy


def at_start(profile: Profile, policy: Path, taus: list[float]) -> Run:
    """Cosine and norm ratio of every two gradients of the objective, for all tau and directions.

    Each is the gradient of the mean token KL with respect to all weights, on the same answers of
    `policy` at T = 1. Measurements: a row a pair, with direction and tau of both, `cosine`,
    `norm_ratio` (second over first), and the norms.
    """

    def compute() -> pd.DataFrame:
        rollouts = roll_out(profile, policy)
        kinds = [(direction, tau) for direction in ("forward", "reverse") for tau in taus]
        return pairs({kind: gradient(policy, rollouts, *kind) for kind in kinds})

    return measured(
        profile, "gradients", {"taus": taus, **settings(profile)}, {"policy": policy}, compute
    )


def pairs(gradients: dict[tuple[Direction, float], Tensor]) -> pd.DataFrame:
    """Every two of the gradients (flat, any dtype) compared in float64; ValueError if one is 0."""
    norms = {kind: float(values.double().norm()) for kind, values in gradients.items()}
    if zero := [kind for kind, norm in norms.items() if norm == 0]:
        raise ValueError(f"the gradient of {zero[0]} is 0 and has no direction; change tau")
    return pd.DataFrame([
        {
            "direction_1": one[0], "tau_1": one[1], "direction_2": two[0], "tau_2": two[1],
            "cosine": float(a.double() @ b.double()) / norms[one] / norms[two],
            "norm_ratio": norms[two] / norms[one], "norm_1": norms[one], "norm_2": norms[two],
        }
        for (one, a), (two, b) in combinations(gradients.items(), 2)
    ])


def gradient(
    policy: Path, rollouts: Rollouts, direction: Direction, tau: float, tokens: int = 8192
) -> Tensor:
    """d (mean token KL) / d weights, flat and float32, over the answers' tokens.

    Args:
        tokens: of a batch, padding included.
    """
    model, _ = load_policy(policy, dtype=torch.float32)
    total = sum(map(len, rollouts.answers))
    for rows in batches(rollouts, tokens):
        inputs, mask, predicts = (
            part.to(model.device) for part in padded(
                [rollouts.prompts[i] for i in rows], [rollouts.answers[i] for i in rows]
            )
        )
        logits = model(inputs, attention_mask=mask).logits[predicts]
        kl, _ = self_distillation(logits, tau, direction)
        (kl.sum() / total).backward()
    return torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
