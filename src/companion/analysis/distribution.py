"""Output distributions at single token positions: what reheating changes in them (Fig. 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from companion import objective
from companion.analysis.measure import measured
from companion.analysis.rollouts import roll_out, settings
from companion.runs import Run
from companion.schema import Profile
from companion.stages.reading import read

POSITIONS = 1024
CANDIDATES = 10
"""The most likely tokens whose overlap Fig. 5(c) shows."""


def change(profile: Profile, before: Path, after: Path) -> Run:
    """What `after` changed at every answer token that `before` samples at T = 1.

    Measurements: a row a token, with the number of its prompt and the columns of `compare`. Both
    policies read the same tokens; full vocabulary, a batch of answers in memory at a time.
    """

    def compute() -> pd.DataFrame:
        rollouts = roll_out(profile, before)
        prompt = rollouts.prompt
        return pd.concat(
            [
                pd.DataFrame(
                    {"prompt": [prompt[i] for i in answer]}
                    | {name: values.cpu().numpy() for name, values in _compared(old, new).items()}
                )
                for (old, _, answer), (new, _, _) in zip(
                    read(before, rollouts), read(after, rollouts), strict=True
                )
            ],
            ignore_index=True,
        )

    asked = {**settings(profile), "objective_version": objective.VERSION}
    return measured(profile, "distribution", asked, {"before": before, "after": after}, compute)


def _compared(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """`compare`, POSITIONS at a time: of the paper's vocabulary, each takes a few megabytes."""
    parts = zip(before.split(POSITIONS), after.split(POSITIONS), strict=True)
    pieces = [compare(*part) for part in parts]
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def compare(before: Tensor, after: Tensor, candidates: int = CANDIDATES) -> dict[str, Tensor]:
    """Per position, from logits [positions, vocabulary] of two policies over the same tokens:

    kl: KL(before || after) in nats. entropy_change: H(after) - H(before) in nats. overlap: the
    share of the most likely `candidates` that both have. mass: of the probability `after` gives
    its candidates, the share on common ones. With fewer tokens than `candidates` all of them are
    candidates, and so is every token that ties with the last one, whatever its place.

    Raises:
        ValueError: the two have other shapes.
    """
    if before.shape != after.shape:
        raise ValueError(
            f"before has the shape {tuple(before.shape)} and after {tuple(after.shape)}; give "
            "both policies the same tokens and vocabulary"
        )
    log_p, log_q = objective.log_probs(before), objective.log_probs(after)
    top_p, top_q = _candidates(log_p, candidates), _candidates(log_q, candidates)
    common, q = top_p & top_q, log_q.exp()
    return {
        "kl": (log_p.exp() * (log_p - log_q)).sum(-1),
        "entropy_change": objective.entropy(after) - objective.entropy(before),
        "overlap": common.sum(-1) / torch.maximum(top_p.sum(-1), top_q.sum(-1)),
        "mass": (q * common).sum(-1) / (q * top_q).sum(-1),
    }


def _candidates(log_p: Tensor, count: int) -> Tensor:
    """Which tokens are among the `count` most likely, [positions, vocabulary] of bool."""
    least = log_p.topk(min(count, log_p.shape[-1]), dim=-1).values[..., -1:]
    return log_p >= least


def histograms(tokens: pd.DataFrame, bins: int = 60) -> pd.DataFrame:
    """What Fig. 5 draws: columns panel, low, high (the bin's edges), tokens (how many are in it).

    Every token is in one bin of each panel; the outermost ones hold what lies beyond them. A KL
    below 1e-7 nats is the rounding of fp32 logits.

    Args:
        tokens: measurements of `change`.
    """
    change = tokens["entropy_change"]
    shares = np.linspace(0, 1, bins // 2 + 1)
    low, high = map(float, np.quantile(change, [0.001, 0.999]))
    edges = {
        "kl": np.logspace(-7, 1, bins + 1),
        "entropy_change": np.linspace(low, high, bins + 1),
        "overlap": shares,
        "mass": shares,
    }
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "panel": panel,
                    "low": at[:-1],
                    "high": at[1:],
                    "tokens": np.histogram(tokens[panel].astype(float).clip(at[0], at[-1]), at)[0],
                }
            )
            for panel, at in edges.items()
        ],
        ignore_index=True,
    )
