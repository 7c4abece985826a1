"""CKA of two policies by streamed sums over tokens, beside the textbook's kernels of all tokens.

Both in float64, on random layers of the laptop policy's shape; all pairs of layers, biased
estimator (Kornblith et al. 2019, Eq. 4). The textbook's n x n kernels of one pair of layers take
16 n^2 bytes, the streamed sums 8 d^2 a pair, whatever n.

    python benchmarks/cka_speed.py

Contestants take turns; writes results/benchmarks/cka_speed.{csv,json}: seconds, their ratio, the
largest difference between the two.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from companion.analysis.representation import CKA
from companion.params import ROOT
from companion.provenance import provenance

LAYERS, WIDTH = 6, 128


def streamed(x: Tensor, y: Tensor) -> dict[tuple[int, int], float]:
    cka = CKA()
    for part in range(0, x.shape[1], 1024):
        cka.update(x[:, part : part + 1024], y[:, part : part + 1024])
    return cka.values("biased")


def textbook(x: Tensor, y: Tensor) -> dict[tuple[int, int], float]:
    def centred(layer: Tensor) -> Tensor:
        kernel = layer @ layer.T
        rows = kernel.mean(0, keepdim=True)
        return kernel - rows - rows.T + kernel.mean()

    found = {}
    for i, one in enumerate(x):
        k = centred(one)
        for j, other in enumerate(y):
            m = centred(other)
            found[i, j] = float((k * m).sum() / (k.norm() * m.norm()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    asked = parser.parse_args()
    torch.manual_seed(0)
    x = torch.randn(LAYERS, asked.tokens, WIDTH, dtype=torch.float64) + 3
    y = x + torch.randn_like(x)
    rows, apart = [], 0.0
    for turn in range(asked.turns):
        values = {}
        for contestant in (streamed, textbook):
            begun = time.perf_counter()
            values[contestant.__name__] = contestant(x, y)
            seconds = time.perf_counter() - begun
            rows.append({"turn": turn, "name": contestant.__name__, "seconds": seconds})
            print(rows[-1], flush=True)
        ours, other = values.values()
        apart = max(apart, *(abs(ours[pair] - other[pair]) for pair in ours))
    frame = pd.DataFrame(rows)
    seconds = frame.pivot(index="turn", columns="name", values="seconds")
    summary = {
        "median_seconds": seconds.median().round(3).to_dict(),
        "times_as_fast": round(float((seconds["textbook"] / seconds["streamed"]).median()), 2),
        "largest_difference": apart,
        "tokens": asked.tokens,
        "layers": LAYERS,
        "width": WIDTH,
        **provenance(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(asked.out / "cka_speed.csv", index=False)
    (asked.out / "cka_speed.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
