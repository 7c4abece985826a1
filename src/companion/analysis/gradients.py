"""The gradients behind Fig. 7 and 8: how alike are they at the first step, before any update?"""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from companion import objective
from companion.analysis.measure import measured
from companion.analysis.rollouts import roll_out, settings
from companion.distillation import self_distillation
from companion.objective import Direction
from companion.policies import load_policy
from companion.runs import Run
from companion.schema import Profile
from companion.stages.reading import Rollouts, batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POSITIONS = 1024
"""Answer tokens whose logits exist at a time: 0.6 GB for Qwen3's vocabulary, and their gradient."""


def at_start(profile: Profile, policy: Path, taus: list[float]) -> Run:
    """Cosine and norm ratio of every two gradients of the objective, for all tau and directions.

    Each is the gradient of the mean token KL with respect to all weights, on the same answers of
    `policy` at T = 1, and all are kept in main memory at once: six of 4B weights are 96 GB in fp32.
    Measurements: a row a pair, with direction and tau of both, `cosine`, `norm_ratio` (second over
    first), and the norms.
    """

    def compute() -> pd.DataFrame:
        rollouts = roll_out(profile, policy)
        model, _ = load_policy(policy, dtype=torch.float32)
        directions: tuple[Direction, ...] = ("forward", "reverse")
        kinds = [(direction, tau) for direction in directions for tau in taus]
        return pairs({kind: gradient(model, rollouts, *kind) for kind in kinds})

    asked = {"taus": taus, **settings(profile), "objective_version": objective.VERSION}
    return measured(profile, "gradients", asked, {"policy": policy}, compute)


def pairs(gradients: dict[tuple[Direction, float], list[Tensor]]) -> pd.DataFrame:
    """Every two of the gradients compared in float64, one parameter at a time.

    Args:
        gradients: the same parameters in each, of any shape and dtype.

    Raises:
        ValueError: a gradient is 0.
    """
    norms = {kind: math.sqrt(_dot(values, values)) for kind, values in gradients.items()}
    if zero := [kind for kind, norm in norms.items() if norm == 0]:
        raise ValueError(f"the gradient of {zero[0]} is 0 and has no direction; change tau")
    return pd.DataFrame(
        [
            {
                "direction_1": one[0],
                "tau_1": one[1],
                "direction_2": two[0],
                "tau_2": two[1],
                "cosine": _dot(a, b) / norms[one] / norms[two],
                "norm_ratio": norms[two] / norms[one],
                "norm_1": norms[one],
                "norm_2": norms[two],
            }
            for (one, a), (two, b) in combinations(gradients.items(), 2)
        ]
    )


def _dot(one: list[Tensor], other: list[Tensor]) -> float:
    return sum(
        float(a.double().flatten() @ b.double().flatten()) for a, b in zip(one, other, strict=True)
    )


def gradient(
    model: PreTrainedModel, rollouts: Rollouts, direction: Direction, tau: float
) -> list[Tensor]:
    """d (mean token KL) / d weights over the answers' tokens, of each parameter, on the CPU.

    Beside weights and gradients (8 bytes a parameter in fp32: 32 GB for 4B) there are only the
    layers' inputs, one layer's activations and the logits of POSITIONS tokens; everything else
    is computed again on the way back.
    """
    model.zero_grad()
    model.train()  # or transformers ignores the next line; Qwen3 has no dropout to switch on
    model.gradient_checkpointing_enable()
    total = sum(map(len, rollouts.answers))

    def summed(states: Tensor) -> Tensor:
        kl, _ = self_distillation(model.get_output_embeddings()(states), tau, direction)
        return kl.sum()

    for _, inputs, mask, predicts in batches(rollouts, model.device):
        output = model.base_model(inputs, attention_mask=mask, use_cache=False)
        states = output.last_hidden_state[predicts].split(POSITIONS)
        (sum(checkpoint(summed, part, use_reentrant=False) for part in states) / total).backward()
    return [p.grad.cpu() for p in model.parameters()]
