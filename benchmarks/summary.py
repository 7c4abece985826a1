"""The benchmarks' figures as README's table: `python benchmarks/summary.py`, after `make bench`."""

from __future__ import annotations

import json
from typing import Any

from companion.params import ROOT


def table() -> str:
    """Markdown, from results/benchmarks/*.json."""
    objective, trl, bare, arm, rollouts, graders, cka = (
        _read(name)
        for name in (
            "objective_speed",
            "verl_vs_trl",
            "verl_vs_bare",
            "arm_overhead",
            "rollouts_speed",
            "grading_speed",
            "cka_speed",
        )
    )
    speed, graded = rollouts["median_tokens_a_second"], graders["median_answers_a_second"]
    rows = [
        (
            "a late RL step, against TRL's GRPOTrainer " + trl["trl"],
            f"{trl['ratio']:.2f} of its time",
            "0.5",
        ),
        (
            "… against a bare PyTorch loop of the same step",
            f"{bare['ratio']:.2f} times its time",
            "1.25",
        ),
        (
            f"of an arm of {arm['steps']} steps, what is not steps",
            f"{arm['median_seconds']['not_steps']:.0f} s",
            f"{arm['bar']:.0f} s",
        ),
        (
            f"self-distillation, forward and backward, {objective['rows']} × 151,936, against the best "
            "of ms-swift, TRL, autograd",
            f"{objective['times_as_fast_as_the_best']['is']:.2f} times as fast",
            "3",
        ),
        (
            f"… fused with the head, {objective['head_rows']:,} tokens, against its three products",
            f"{objective['times_the_products']['is']:.2f} times their time; "
            f"{objective['gigabytes_beyond']['is']:.2f} GB beyond weights and gradients",
            "1.35; 0.4",
        ),
        (
            "rollouts, against vLLM on the same cores",
            f"{speed['transformers']:,} tokens/s, {rollouts['times_as_fast']:.1f} times as fast",
            "",
        ),
        (
            "graders",
            f"{graded['MATH-500']:,} (MATH-500), {graded['integers']:,} (integers) answers/s",
            "300; 1,000",
        ),
        ("CKA, against kernels of all tokens", f"{cka['times_as_fast']:.1f} times as fast", ""),
    ]
    lines = ["| what | measured | bar |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"results/benchmarks/{name}.json").read_text())
    return found


if __name__ == "__main__":
    print(table())
