"""Fig. 3: linear CKA between the layers of two policies, streamed over tokens.

Kornblith et al. 2019 (the biased estimator), Song et al. 2012, Eq. 5, and Nguyen et al. 2021 (the
unbiased HSIC, which needs no large number of tokens). With linear kernels both need only sums
over tokens of outer products: O(d^2) memory for a pair of layers, whatever the number of tokens.

`cka` keeps such a matrix for every pair of layers, for every layer with itself, and for every
layer and fold three. With the embeddings, in float64, that is 1334 of d = 1024 for Qwen3-0.6B
(11 GB), 1998 of d = 2560 for 4B (105 GB) and of d = 4096 for 8B (268 GB): in main memory, while
the GPU holds both policies and multiplies one pair of layers at a time.
"""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

from companion.analysis.measure import measured
from companion.analysis.rollouts import roll_out, settings
from companion.runs import Run
from companion.schema import Profile
from companion.stages.reading import read

FOLDS = 5
"""Prompts come a suite after the other, so that every fifth is dealt to the same fold."""


def cka(profile: Profile, before: Path, after: Path) -> Run:
    """CKA of every pair of layers, over the answer tokens that `before` samples at T = 1.

    Measurements: a row for each layer of `before`, layer of `after` (0 the embeddings, the last
    one after the final norm), estimator ("biased", "unbiased") and fold: "all", or, for the same
    layer in both, one of five disjoint parts of the prompts, each with the same share of every
    suite, whose spread shows the sampling noise.
    """

    def compute() -> pd.DataFrame:
        rollouts = roll_out(profile, before)
        total, folds = CKA(), [CKA(same_layer=True) for _ in range(FOLDS)]
        pairs = zip(
            read(before, rollouts, hidden=True), read(after, rollouts, hidden=True), strict=True
        )
        for (_, x, answer), (_, y, _) in pairs:
            assert x is not None and y is not None  # hidden=True
            fold = torch.tensor([rollouts.prompt[i] % FOLDS for i in answer])
            total.update(x, y)
            for number in fold.unique().tolist():
                folds[number].update(x[:, fold == number], y[:, fold == number])
        return pd.concat(
            [total.table().assign(fold="all")]
            + [part.table().assign(fold=str(i)) for i, part in enumerate(folds) if part.tokens > 3],
            ignore_index=True,
        )

    parts = settings(profile) | {"folds": FOLDS}
    return measured(profile, "cka", parts, {"before": before, "after": after}, compute)


class CKA:
    """Accumulates tokens of two policies: for all pairs of layers, or the same layer in both."""

    def __init__(self, *, same_layer: bool = False) -> None:
        self.cross = HSIC(same_layer=same_layer)
        self.own, self.other = HSIC(same_layer=True), HSIC(same_layer=True)

    @property
    def tokens(self) -> int:
        return self.cross.count

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add tokens: x [layers of one, tokens, d], y [layers of the other, tokens, e]."""
        self.cross.update(x, y)
        self.own.update(x, x)
        self.other.update(y, y)

    def values(self, estimator: Literal["biased", "unbiased"]) -> dict[tuple[int, int], float]:
        """CKA by the numbers of the two layers."""
        cross, own, other = (
            getattr(hsic, estimator)() for hsic in (self.cross, self.own, self.other)
        )
        return {
            (i, j): value / math.sqrt(own[i] * other[j])
            for (i, j), value in zip(self.cross.pairs, cross, strict=True)
        }

    def table(self) -> pd.DataFrame:
        return pd.DataFrame(
            [
                {"before": i, "after": j, "estimator": name, "cka": value}
                for name in ("biased", "unbiased")
                for (i, j), value in self.values(name).items()
            ]
        )


class HSIC:
    """The Hilbert-Schmidt independence criterion of linear kernels, from sums over tokens.

    Sums are in float64. Tokens are shifted by about the first batch's mean, which changes no
    estimator and keeps large constant activations from cancelling digits. Products of layers are
    taken where the tokens are, a pair at a time, in the tokens' precision or fp32 if that is less
    (an H800 is 60 times slower in float64), and added up in main memory.
    """

    def __init__(self, *, same_layer: bool = False) -> None:
        self.same_layer = same_layer
        self.count = 0

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add tokens: x [layers, tokens, d] and y [layers, tokens, e], any float dtype.

        Raises:
            ValueError: another number of tokens on either side, or of layers if `same_layer`.
        """
        if x.shape[1] != y.shape[1]:
            raise ValueError(
                f"x has {x.shape[1]} tokens and y {y.shape[1]}; give both the same tokens"
            )
        if not self.count:
            self._start(x, y)
        precision = torch.promote_types(x.dtype, torch.float32)
        for at, (i, j) in enumerate(self.pairs):
            shifted = x[i].double() - self.shift[0][i], y[j].double() - self.shift[1][j]
            batch = _sums(*shifted, precision)
            for total, part in zip(self.sums, batch, strict=True):
                total[at] += part.cpu()
        self.count += x.shape[1]

    def _start(self, x: Tensor, y: Tensor) -> None:
        layers = range(len(x)), range(len(y))
        self.pairs = list(zip(*layers, strict=True) if self.same_layer else product(*layers))
        self.shift = x.mean(1).double(), y.mean(1).double()
        d, e = x.shape[2], y.shape[2]
        shapes = (d, e), (d,), (e,), (), (), (), (d,), (e,)
        # All pairs in one block: a matrix a pair, kept amid large intermediates, would scatter
        # the heap to many times their size.
        self.sums = [torch.zeros(len(self.pairs), *s, dtype=torch.float64) for s in shapes]

    def biased(self) -> list[float]:
        """||Xc' Yc||_F^2 of each pair's centred tokens (unscaled, as CKA needs it)."""
        return [
            float((cross - x.outer(y) / self.count).square().sum())
            for cross, x, y, *_ in zip(*self.sums, strict=True)
        ]

    def unbiased(self) -> list[float]:
        """Song et al. 2012, Eq. 5, without its leading 1 / (n (n - 3)), the same for all pairs.

        Raises:
            ValueError: fewer than four tokens.
        """
        if self.count < 4:
            raise ValueError(f"{self.count} tokens are too few for unbiased CKA; give at least 4")
        return [_unbiased(self.count, *pair) for pair in zip(*self.sums, strict=True)]


def _sums(x: Tensor, y: Tensor, precision: torch.dtype) -> tuple[Tensor, ...]:
    """All that HSIC needs to know of tokens x [tokens, d] and y [tokens, e] of a pair of layers."""
    k, m = x.square().sum(1), y.square().sum(1)  # the kernels' diagonals
    cross = x.to(precision).T @ y.to(precision)
    return cross, x.sum(0), y.sum(0), k.sum(), m.sum(), k @ m, m @ x, k @ y


def _unbiased(
    n: int,
    cross: Tensor,
    x: Tensor,
    y: Tensor,
    k: Tensor,
    m: Tensor,
    km: Tensor,
    xm: Tensor,
    yk: Tensor,
) -> float:
    trace = cross.square().sum() - km
    rows_x, rows_y = x @ x - k, y @ y - m
    both = x @ cross @ y - x @ xm - y @ yk + km
    return float(trace + rows_x * rows_y / ((n - 1) * (n - 2)) - 2 * both / (n - 2))
