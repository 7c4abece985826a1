"""Fig. 3: linear CKA between the layers of two policies, streamed over tokens.

Kornblith et al. 2019 (the biased estimator), Song et al. 2012, Eq. 5, and Nguyen et al. 2021 (the
unbiased HSIC, which needs no large number of tokens). With linear kernels both need only sums
over tokens of outer products: O(d^2) memory for a pair of layers, whatever the number of tokens.
For 28 x 28 layers of d = 1024 that is 6.6 GB in float64.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from companion.analysis.measure import measured
from companion.analysis.rollouts import read, roll_out, settings
from companion.params import Profile
from companion.runs import Run

FOLDS = 5


def cka(profile: Profile, before: Path, after: Path) -> Run:
    """CKA of every pair of layers, over the answer tokens that `before` samples at T = 1.

    Measurements: a row for each layer of `before`, layer of `after` (0 the embeddings, the last
    one after the final norm), estimator ("biased", "unbiased") and fold: "all", or one of five
    disjoint parts of the prompts, whose spread shows the sampling noise.
    """

    def compute() -> pd.DataFrame:
        rollouts = roll_out(profile, before)
        prompts = len(set(rollouts.prompt))
        total, folds = CKA(), [CKA() for _ in range(FOLDS)]
        pairs = zip(
            read(before, rollouts, hidden=True), read(after, rollouts, hidden=True), strict=True
        )
        for (_, x, answer), (_, y, _) in pairs:
            fold = torch.tensor([rollouts.prompt[i] * FOLDS // prompts for i in answer])
            total.update(x, y)
            for number in fold.unique().tolist():
                folds[number].update(x[:, fold == number], y[:, fold == number])
        return pd.concat(
            [total.table().assign(fold="all")]
            + [part.table().assign(fold=str(i)) for i, part in enumerate(folds) if part.tokens > 3],
            ignore_index=True,
        )

    return measured(
        profile, "cka", settings(profile), {"before": before, "after": after}, compute
    )


class CKA:
    """Accumulates tokens of two policies; `biased` and `unbiased` are [layers, layers]."""

    def __init__(self) -> None:
        self.cross, self.own, self.other = HSIC(), HSIC(), HSIC()

    @property
    def tokens(self) -> int:
        return self.cross.count

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add tokens: x [layers of one, tokens, d], y [layers of the other, tokens, e]."""
        self.cross.update(x[:, None], y[None])
        self.own.update(x, x)
        self.other.update(y, y)

    @property
    def biased(self) -> Tensor:
        scale = self.own.biased()[:, None] * self.other.biased()[None]
        return self.cross.biased() / scale.sqrt()

    @property
    def unbiased(self) -> Tensor:
        scale = self.own.unbiased()[:, None] * self.other.unbiased()[None]
        return self.cross.unbiased() / scale.sqrt()

    def table(self) -> pd.DataFrame:
        return pd.DataFrame([
            {"before": i, "after": j, "estimator": name, "cka": float(value)}
            for name in ("biased", "unbiased")
            for i, row in enumerate(getattr(self, name)) for j, value in enumerate(row)
        ])


class HSIC:
    """The Hilbert-Schmidt independence criterion of linear kernels, from sums over tokens.

    Float64 throughout. Tokens are shifted by the first batch's mean, which changes no estimator
    and keeps large constant activations from cancelling digits.
    """

    def __init__(self) -> None:
        self.count = 0

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add tokens: x [..., tokens, d] and y [..., tokens, e], leading sizes broadcast.

        Raises:
            ValueError: another number of tokens on either side.
        """
        if x.shape[-2] != y.shape[-2]:
            raise ValueError(
                f"x has {x.shape[-2]} tokens and y {y.shape[-2]}; give both the same tokens"
            )
        x, y = x.double(), y.double()
        if not self.count:
            self.shift = x.mean(-2, keepdim=True), y.mean(-2, keepdim=True)
        x, y = x - self.shift[0], y - self.shift[1]
        k, m = x.square().sum(-1), y.square().sum(-1)  # the kernels' diagonals
        sums = (
            x.mT @ y, x.sum(-2), y.sum(-2), k.sum(-1), m.sum(-1), (k * m).sum(-1),
            (x * m[..., None]).sum(-2), (y * k[..., None]).sum(-2),
        )
        self.sums = sums if not self.count else tuple(
            old + new for old, new in zip(self.sums, sums, strict=True)
        )
        self.count += x.shape[-2]

    def biased(self) -> Tensor:
        """||Xc' Yc||_F^2 of the centred tokens (unscaled, as CKA needs it)."""
        cross, x, y, *_ = self.sums
        return (cross - x[..., :, None] * y[..., None, :] / self.count).square().sum((-2, -1))

    def unbiased(self) -> Tensor:
        """Song et al. 2012, Eq. 5, without its leading 1 / (n (n - 3)), the same for all pairs.

        Raises:
            ValueError: fewer than four tokens.
        """
        n = self.count
        if n < 4:
            raise ValueError(f"{n} tokens are too few for unbiased CKA; give at least 4")
        cross, x, y, k, m, km, xm, yk = self.sums
        trace = cross.square().sum((-2, -1)) - km
        rows_x, rows_y = x.square().sum(-1) - k, y.square().sum(-1) - m
        both = ((x[..., None, :] @ cross)[..., 0, :] * y).sum(-1)
        both = both - (x * xm).sum(-1) - (y * yk).sum(-1) + km
        return trace + rows_x * rows_y / ((n - 1) * (n - 2)) - 2 * both / (n - 2)
