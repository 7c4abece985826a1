"""Fig. 12: does cooling undo in the weights what reheating did? (App. E)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from torch import Tensor

from companion.analysis.measure import measured
from companion.runs import Run
from companion.schema import Profile


def reversal(profile: Profile, way: dict[str, Path]) -> Run:
    """`displacement` of the weights as saved, and rounded to bfloat16 (column `weights`).

    Args:
        way: three policies by name, one after the other. From the collapsed one to the reheated and
            the cooled one it says how far cooling goes back; from one reheated policy to the collapsed
            and another reheated one, how alike two reheatings are, had one of them been undone exactly.
    """
    first, second, third = way.values()

    def compute() -> pd.DataFrame:
        return pd.concat(
            [
                displacement(first, second, third, dtype).assign(weights=name)
                for name, dtype in {"as saved": None, "bfloat16": torch.bfloat16}.items()
            ],
            ignore_index=True,
        )

    return measured(profile, "displacement", {}, way, compute)


def displacement(
    first: Path, second: Path, third: Path, round_to: torch.dtype | None = None
) -> pd.DataFrame:
    """The two updates of a way, high = second - first and low = third - second, compared.

    A row for each layer that both updates move (without one there is no angle), and for `all`:

        cosine           <low, high> / (|low| |high|)      -1 an exact way back
        projection      -<low, high> / |high|^2             1 an exact way back
        norm_ratio       |low| / |high|
        residual_ratio   |low + high| / |high|              0 back at the first policy

    Tensors are read one at a time, sums are float64.

    Args:
        first, second, third: Hugging Face folders with the same tensors.
        round_to: round the weights to this dtype first, to see whether that matters.

    Raises:
        ValueError: a tensor that only one of them has, or no difference to compare.
    """
    sums: dict[str, Tensor] = {}
    for name, *weights in _together([first, second, third]):
        start, middle, end = ((w.to(round_to) if round_to else w).double() for w in weights)
        high, low = (middle - start).flatten(), (end - middle).flatten()
        products = torch.stack([low @ high, low @ low, high @ high, (low + high) @ (low + high)])
        for row in (layer(name), "all"):
            sums[row] = sums.get(row, 0) + products
    if sums["all"][2] == 0 or sums["all"][1] == 0:
        raise ValueError(
            "the policies do not differ; give one, its reheated and its cooled version"
        )
    return pd.DataFrame(
        [
            {
                "layer": row,
                "cosine": both / (low * high) ** 0.5,
                "projection": -both / high,
                "norm_ratio": (low / high) ** 0.5,
                "residual_ratio": (rest / high) ** 0.5,
            }
            for row, (both, low, high, rest) in ((r, s.tolist()) for r, s in sums.items())
            if low and high
        ]
    )


def layer(name: str) -> str:
    """The layer a tensor belongs to: "embedding", "1" to "n", "final norm" or "head"."""
    if number := re.search(r"layers\.(\d+)\.", name):
        return str(int(number[1]) + 1)
    kinds = {"embed_tokens": "embedding", "norm": "final norm", "lm_head": "head"}
    return kinds[name.split(".")[-2]]


def _together(folders: list[Path]) -> Iterator[tuple[str, *tuple[Tensor, ...]]]:
    """Every tensor's name and its values in each folder, sharded or not."""
    where = [_index(folder) for folder in folders]
    names = [set(files) for files in where]
    if odd := set[str]().union(*names) - names[0].intersection(*names):
        raise ValueError(f"tensor '{min(odd)}' is not in every policy; give policies of one kind")
    for name in sorted(where[0], key=_in_order):
        yield name, *(_read(files[name], name) for files in where)


def _in_order(name: str) -> list[int | str]:
    """Sorts layer 10 behind layer 9."""
    return [int(part) if part.isdigit() else part for part in name.split(".")]


def _index(folder: Path) -> dict[str, Path]:
    """The file that holds each tensor."""
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with safe_open(file, "pt") as tensors:
            found |= dict.fromkeys(tensors.keys(), file)
    return found


def _read(file: Path, name: str) -> Tensor:
    with safe_open(file, "pt") as tensors:
        return tensors.get_tensor(name)
