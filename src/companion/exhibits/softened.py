"""Notebook 00: the self-teacher at one token position, and which way each KL pulls."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from companion import objective
from companion.exhibits.style import FKL, RKL, canvas

SLIDER = 0.7, 2.0
"""Temperatures that notebook 00 moves between: axes are as high as they need, whatever is chosen."""


def draw(logits: np.ndarray, tau: float, tokens: list[str], shown: int = 8) -> Figure:
    """A student, its self-teacher, and where each KL pushes the logits (Eq. 7, 10, 18).

    Args:
        logits: [V], of one token position.
        tokens: the V tokens as text.
        shown: the most likely tokens drawn.
    """
    z = torch.as_tensor(logits, dtype=torch.float64)
    order = z.argsort(descending=True)[:shown]
    p, q = objective.log_probs(z).exp()[order], objective.log_probs(z, tau).exp()[order]
    figure, axes = canvas(1, 2, figsize=(10, 3.4))
    places = np.arange(shown)
    axes[0].bar(places - 0.2, p, 0.4, color="#0072B2", label="student p, T = 1")
    axes[0].bar(places + 0.2, q, 0.4, color="#E69F00", label=f"self-teacher q, τ = {tau:.2f}")
    axes[0].set(
        title=f"Student entropy {objective.entropy(z):.3f} nats, teacher "
        f"{objective.entropy(z / tau):.3f}",
        ylabel="probability",
    )
    for shift, gradient, colour, name in (
        (-0.2, objective.forward_kl_gradient(z, tau), FKL, "forward KL"),
        (0.2, objective.reverse_kl_gradient(z, tau), RKL, "reverse KL"),
    ):
        axes[1].bar(places + shift, -gradient[order], 0.4, color=colour, label=name)
    axes[1].axhline(0, color="0.6", linewidth=1)
    most = max(
        float(gradient(z, limit).abs().max())
        for limit in (*SLIDER, tau)
        for gradient in (objective.forward_kl_gradient, objective.reverse_kl_gradient)
    )
    axes[0].set(ylim=(0, 1))
    axes[1].set(
        title="Descent direction on the logits", ylabel="nats per logit", ylim=(-most, most)
    )
    for axis in axes:
        axis.set_xticks(places, [tokens[i] for i in order])
        axis.set_xlabel("token, most likely first")
        axis.legend()
    return figure
