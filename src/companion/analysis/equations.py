"""Appendix B live: each equation's two sides on given logits; and where two teachers lead them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.func import grad

from companion import objective
from companion.schema import check_tau


def check(logits: Tensor | np.ndarray, tau: float) -> pd.DataFrame:
    """Compare closed forms with autograd on one position's logits [V] (float64 for exactness).

    The closed forms of Eq. 10, 15 and 19 are `objective`'s own; with the first two it trains.

    Returns a row an equation: equation, claim, and the largest absolute difference of its two
    sides over the vocabulary (nats, or nats per logit), rounded to 1e-12.

    Raises:
        ValueError: tau is 1 or not positive, or logits are not one position's, or not finite.
    """
    z = torch.as_tensor(logits).double()
    if z.ndim != 1 or len(z) < 2 or not z.isfinite().all():
        raise ValueError(
            f"logits has shape {list(z.shape)} and must be one position's [V], V > 1, all finite"
        )
    check_tau(tau)
    p, q = objective.log_probs(z).exp(), objective.log_probs(z, tau).exp()
    h, kl = objective.entropy(z), objective.reverse_kl(z, tau)
    forward = grad(lambda x: objective.forward_kl(x, tau))(z)
    reverse = grad(lambda x: objective.reverse_kl(x, tau))(z)
    dh = grad(objective.entropy)(z)
    power = p ** (1 / tau)
    scale = 1 - 1 / tau
    rows = [
        ("§3.2", "the teacher is a power transform of the student", q, power / power.sum()),
        (
            "§3.2",
            "teacher and student rank the tokens alike",
            q.argsort(stable=True).double(),
            p.argsort(stable=True).double(),
        ),
        ("10", "gradient of forward KL is p − q", forward, objective.forward_kl_gradient(z, tau)),
        ("12", "q/p is a decreasing function of p", q / p, p ** (1 / tau - 1) / power.sum()),
        (
            "15",
            "gradient of reverse KL is p (log p/q − KL)",
            reverse,
            objective.reverse_kl_gradient(z, tau),
        ),
        ("17", "KL(p‖q) is the mean of log p/q under p", kl, (p * (p / q).log()).sum()),
        ("18", "… which is (1 − 1/τ) p (log p + H)", reverse, scale * p * (p.log() + h)),
        ("19", "gradient of entropy is −p (log p + H)", dh, objective.entropy_gradient(z)),
        ("20", "reverse KL descends where entropy ascends", reverse, -scale * dh),
    ]
    return pd.DataFrame(
        [
            (eq, claim, round(float((left - right).abs().max()), 12))
            for eq, claim, left, right in rows
        ],
        columns=["equation", "claim", "largest difference"],
    )


def descend(
    logits: Tensor | np.ndarray, tau: float, steps: int = 1000, rate: float = 1.0
) -> pd.DataFrame:
    """Gradient descent on one position's logits [V] by forward KL, towards either teacher.

    The live one is softmax(z / tau) of the logits as they move, the frozen one softmax(z0 / tau) of
    those it began with, whose gradient p - q0 vanishes at p = q0 alone.

    Returns entropies in nats, of the start and after the 1st, 10th, 100th, … step: columns live,
    frozen, and scaled, the frozen one's fixed point.
    """
    z = torch.as_tensor(logits).double()
    check_tau(tau)
    target, fixed = objective.log_probs(z, tau).exp(), float(objective.entropy(z / tau))
    live, frozen, rows = z.clone(), z.clone(), {}
    for step in range(steps + 1):
        if step == 0 or step in {10**i for i in range(10)}:
            rows[step] = [float(objective.entropy(live)), float(objective.entropy(frozen)), fixed]
        live = live - rate * objective.forward_kl_gradient(live, tau)
        frozen = frozen - rate * (objective.log_probs(frozen).exp() - target)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["live", "frozen", "scaled"])
