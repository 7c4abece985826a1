"""Answers that `companion.tasks.grading` grades in a second, on `--workers` processes.

Two mixes, eight answers a problem as in the evaluation: the integers of AIME 2024 and 2025, and
the 500 golds of MATH-500. Of the eight, in a text of some 400 words: two boxed as the gold is
written, two after "Answer:", one written otherwise (\\dfrac, spaces), two wrong (another
problem's gold) and one without an answer. Every repeat has processes of its own; their start,
once an evaluation, is timed beside.

    COMPANION_DATA_DIR=... python benchmarks/grading_speed.py

writes results/benchmarks/grading_speed.{csv,json}: answers a second, the bars (1000 and 300).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from companion.params import ROOT
from companion.provenance import provenance
from companion.tasks import benchmarks, grading

MIXES = {"integers": (("AIME24", "AIME25"), 1000), "MATH-500": (("MATH-500",), 300)}
"""Data sets, and the bar in answers a second."""
THOUGHT = (
    "Let us write $x$ for the unknown, so that $x^2 = 2x + \\frac{1}{2}$ and hence more. " * 25
)


def answers(names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Answers and their golds, shuffled."""
    folder = Path(os.environ["COMPANION_DATA_DIR"])
    golds = [problem.gold for name in names for problem in benchmarks.load(name, folder)[0]]
    draw = random.Random(0)
    pairs = []
    for gold in golds:
        other = gold.replace("\\frac", "\\dfrac").replace(",", ", ").replace("+", " + ")
        wrong = [f"\\boxed{{{draw.choice(golds)}}}" for _ in range(2)]
        says = [f"\\boxed{{{gold}}}"] * 2 + [f"\nAnswer: ${gold}$"] * 2 + [f"\\boxed{{{other}}}"]
        pairs += [(THOUGHT + end, gold) for end in [*says, *wrong, "and so on"]]
    draw.shuffle(pairs)
    return [answer for answer, _ in pairs], [gold for _, gold in pairs]


def measure(mix: str, workers: int) -> dict[str, float]:
    """In a process of its own: nothing is parsed yet."""
    texts, golds = answers(MIXES[mix][0])
    begun = time.perf_counter()
    grading.grade_all(
        ["\\boxed{\\sqrt{2}/2}"] * workers, ["\\frac{1}{\\sqrt 2}"] * workers, workers
    )
    started = time.perf_counter()
    grades = grading.grade_all(texts, golds, workers)
    seconds = time.perf_counter() - started
    return {
        "mix": mix,
        "answers": len(texts),
        "correct": sum(map(bool, grades)),
        "start_seconds": started - begun,
        "seconds": seconds,
        "a_second": len(texts) / seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--mix", choices=MIXES, help=argparse.SUPPRESS)  # the child's
    asked = parser.parse_args()
    if asked.mix:
        print(json.dumps(measure(asked.mix, asked.workers)))
        return
    rows = []
    for repeat in range(asked.repeats):
        for mix in MIXES:
            words = [sys.executable, __file__, "--mix", mix, "--workers", str(asked.workers)]
            said = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            rows.append(json.loads(said.splitlines()[-1]) | {"repeat": repeat})
    frame = pd.DataFrame(rows)
    median = frame.groupby("mix")["a_second"].median()
    bars = pd.Series({mix: bar for mix, (_, bar) in MIXES.items()})
    summary = {
        "median_answers_a_second": median.round().astype(int).to_dict(),
        "bars": bars.to_dict(),
        "within_bars": bool(median.ge(bars).all()),
        "workers": asked.workers,
        **provenance(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    frame.round(3).to_csv(asked.out / "grading_speed.csv", index=False)
    (asked.out / "grading_speed.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(frame.to_string(), json.dumps(summary["median_answers_a_second"]), sep="\n")


if __name__ == "__main__":
    main()
