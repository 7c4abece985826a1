"""The training objective beside what others offer for it, forward and backward, in float32.

`logits`: d KL(softmax(z / tau) || softmax(z)) from logits on, beside ms-swift's `jsd_loss`, TRL's
`generalized_jsd_loss` and plain autograd of the formula, all with the teacher's logits detached.
`head`: the same from hidden states on (`distillation.through_head`), beside the three matrix
products that nobody can avoid (logits, and the gradients of hidden states and head), and the
memory that it takes beyond weights and gradients.

    OMP_NUM_THREADS=2 python benchmarks/objective_speed.py

Contestants take turns; ratios are of one turn, and the median of the turns is reported, in
results/benchmarks/objective_speed.{csv,json} with the hardware and the bars.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from companion import distillation, objective
from companion.params import ROOT
from companion.provenance import provenance

TAU, VOCABULARY, WIDTH = 1.2, 151_936, 2560
"""Qwen3-4B's."""
FASTER, OF_PRODUCTS, GIGABYTES = 3.0, 1.35, 0.4
"""The bars: times as fast as the best of the others; times the products' time; beyond weights."""


def ours(z: Tensor) -> Tensor:
    return distillation.self_distillation(z, TAU, "forward")[0].sum()


def swift(z: Tensor) -> Tensor:
    from swift.rlhf_trainers.gkd_loss import jsd_loss

    return jsd_loss(z, z.detach() / TAU, beta=0)


def trl(z: Tensor) -> Tensor:
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    teacher = z.detach()[None] / TAU
    return GKDTrainer.generalized_jsd_loss(z[None], teacher, beta=0, reduction="sum")


def autograd(z: Tensor) -> Tensor:
    return objective.forward_kl(z, TAU).sum()


def backward(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """The gradient."""
    z.grad = None
    loss(z).backward()
    assert z.grad is not None
    return z.grad


def through_head(hidden: Tensor, head: Tensor) -> None:
    hidden.grad = head.grad = None
    distillation.through_head(hidden, head, TAU, "forward")[0].backward()


@torch.no_grad()
def products(hidden: Tensor, head: Tensor) -> None:
    """The three matrix products, in the same pieces."""
    to_hidden, to_head = torch.empty_like(hidden), torch.zeros_like(head)
    rows = distillation.CPU_LOGITS // len(head)
    for begin in range(0, len(hidden), rows):
        part = slice(begin, begin + rows)
        logits = hidden[part] @ head.T
        torch.mm(logits, head, out=to_hidden[part])
        to_head.addmm_(logits.T, hidden[part])


def timed(call: Callable[..., object], *inputs: object) -> float:
    begun = time.perf_counter()
    call(*inputs)
    return time.perf_counter() - begun


def random(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.empty(shape).normal_(0, scale, generator=generator).requires_grad_()


def memory(rows: int) -> float:
    """Gigabytes of `through_head` beyond inputs and gradients; in a process of its own."""

    def peak() -> int:
        # Not getrusage's, which begins at the parent's.
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    hidden, head = random(rows, WIDTH), random(VOCABULARY, WIDTH, scale=0.02)
    gradients = [torch.ones_like(x) for x in (hidden, head)]  # their pages are there once
    small = random(1, WIDTH)
    through_head(small, random(100, WIDTH))  # what torch allocates for itself
    before = peak()
    del gradients
    through_head(hidden, head)
    return (peak() - before) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512, help="positions, from logits on")
    parser.add_argument("--head-rows", type=int, default=4096, help="positions, from hidden states")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)  # the child's
    asked = parser.parse_args()
    if asked.memory:
        print(memory(asked.head_rows))
        return
    z = random(asked.rows, VOCABULARY, scale=3.0)
    losses = {loss.__name__: loss for loss in (ours, swift, trl, autograd)}
    gradients = {name: backward(loss, z).clone() for name, loss in losses.items()}  # warm, too
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, gradients["ours"], rtol=0, atol=2e-5, msg=name)
    del gradients
    rows = [
        {"part": "logits", "turn": turn, "name": name, "seconds": timed(backward, loss, z)}
        for turn in range(asked.turns)
        for name, loss in losses.items()
    ]
    z.grad = None
    hidden, head = random(asked.head_rows, WIDTH), random(VOCABULARY, WIDTH, scale=0.02)
    for turn in range(asked.turns):
        for call in (products, through_head):
            seconds = timed(call, hidden, head)
            rows.append({"part": "head", "turn": turn, "name": call.__name__, "seconds": seconds})
            print(rows[-1], flush=True)
    frame = pd.DataFrame(rows)
    wide = frame.pivot_table(index="turn", columns="name", values="seconds")
    others = [name for name in losses if name != "ours"]
    child = [sys.executable, __file__, "--memory", "--head-rows", str(asked.head_rows)]
    beyond = float(subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout)
    faster = (wide[others].min(axis=1) / wide["ours"]).median()
    share = (wide["through_head"] / wide["products"]).median()
    summary = {
        "rows": asked.rows,
        "head_rows": asked.head_rows,
        "threads": torch.get_num_threads(),
        "times_as_fast_as_the_best": {"is": round(float(faster), 2), "bar": FASTER},
        "times_the_products": {"is": round(float(share), 3), "bar": OF_PRODUCTS},
        "gigabytes_beyond": {"is": round(beyond, 3), "bar": GIGABYTES},
        "within_bars": bool(faster >= FASTER and share <= OF_PRODUCTS and beyond <= GIGABYTES),
        **provenance(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    frame.round(4).to_csv(asked.out / "objective_speed.csv", index=False)
    (asked.out / "objective_speed.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(wide.round(3).to_string(), json.dumps(summary, indent=1), sep="\n")


if __name__ == "__main__":
    main()
