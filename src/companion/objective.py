"""The self-temperature KL of TS-OPSD, its closed-form gradients, and entropy (Eq. 6 to 20).

z are the logits of one token position, p = softmax(z) is the student, q = softmax(z / tau) the
self-teacher: the same logits, flattened (tau > 1) or sharpened (tau < 1), behind a stop-gradient.

    forward KL(q || p)    d/dz = p - q                              (8), (10)
    reverse KL(p || q)    d/dz = p (log p - log q - KL(p || q))     (13), (15)
    entropy H(p)          d/dz = -p (log p + H)                     (19)

and the reverse gradient is -(1 - 1/tau) times the entropy's (20): reverse KL to the self-teacher
is entropy ascent.

Logits have shape [..., vocabulary] and any float dtype; a value or gradient is computed over the
full vocabulary in float64 where the logits are, in float32 otherwise. Values are in nats, one per
position. A token masked with -inf has probability 0 on both sides and gradient 0.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

VERSION = 1
"""Raised by hand when the same logits give another value or gradient, here or in `distillation`
(tests/test_versions.py)."""

Direction = Literal["forward", "reverse"]

MASKED = -1e30
"""Stands in for -inf: its probability is exactly 0, and 0 times its logarithm is 0, not NaN."""


def log_probs(logits: Tensor, tau: float = 1.0) -> Tensor:
    """log softmax(z / tau): the student (6) at tau = 1, the self-teacher (7) otherwise.

    Over a vocabulary of 150,000, torch.log_softmax on CPU is off by up to 1e-5 nats in float32
    (it adds up one running sum a lane); logsumexp sums in a tree and stays below 1e-6.
    """
    exact = logits if logits.dtype == torch.float64 else logits.float()
    exact = exact.clamp(min=MASKED) / tau
    exact = exact - exact.detach().amax(-1, keepdim=True)
    return exact - exact.exp().sum(-1, keepdim=True).log()


def forward_kl(logits: Tensor, tau: float) -> Tensor:
    """KL(q || p) of each position, [...] (8)."""
    log_p, log_q = log_probs(logits), log_probs(logits.detach(), tau)
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def reverse_kl(logits: Tensor, tau: float) -> Tensor:
    """KL(p || q) of each position, [...] (13)."""
    log_p, log_q = log_probs(logits), log_probs(logits.detach(), tau)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """H(p) of each position, [...]."""
    log_p = log_probs(logits)
    return -(log_p.exp() * log_p).sum(-1)


def forward_kl_gradient(logits: Tensor, tau: float) -> Tensor:
    """d KL(q || p) / dz = p - q, [..., vocabulary] (10)."""
    return log_probs(logits).exp() - log_probs(logits, tau).exp()


def reverse_kl_gradient(logits: Tensor, tau: float) -> Tensor:
    """d KL(p || q) / dz = p (log p - log q - KL(p || q)), [..., vocabulary] (15)."""
    log_p, log_q = log_probs(logits), log_probs(logits, tau)
    p, ratio = log_p.exp(), log_p - log_q
    return p * (ratio - (p * ratio).sum(-1, keepdim=True))


def entropy_gradient(logits: Tensor) -> Tensor:
    """dH / dz = -p (log p + H), [..., vocabulary] (19)."""
    log_p = log_probs(logits)
    p = log_p.exp()
    return -p * (log_p - (p * log_p).sum(-1, keepdim=True))
