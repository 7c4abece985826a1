"""Copy what this machine measured to results/<profile>/, then redraw from there.

    python -m companion.publish --profile laptop [--seed 2]

Training never touches results/. A run that is already published is left as it is; another
measurement of the same thing (same stage, settings and seed from other inputs) is refused.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from companion import params, redraw, study
from companion.params import ROOT, Profile
from companion.runs import Run, read_run

KEPT = ("run.json", "metrics.jsonl", "samples.parquet")
"""What is published of a run. Checkpoints are not (the base and one collapsed policy apart)."""


def publish(profile: Profile) -> Path:
    """Publish the study of one seed: its runs, its executed notebooks, and redrawn results.

    Raises:
        ValueError: the study of this seed is not finished here, or another measurement of one of
            its runs is published already.
    """
    target = ROOT / "results" / profile.name
    runs = study.finished(profile)
    for run in runs:
        _refuse_second_measurement(run, target / "runs")
    for run in runs:
        folder = target / "runs" / run.name
        if not folder.exists():
            folder.mkdir(parents=True)
            for name in KEPT:
                if (run.folder / name).exists():
                    shutil.copy2(run.folder / name, folder / name)
    executed = ROOT / "runs" / profile.name / f"notebooks-seed{profile.seed}"
    if executed.exists():
        shutil.copytree(
            executed, target / "notebooks" / f"seed{profile.seed}", dirs_exist_ok=True
        )
    redraw.redraw(profile.name)
    return target


def _refuse_second_measurement(run: Run, published: Path) -> None:
    for path in published.glob("*/run.json"):
        other = read_run(path.parent)
        same = all(other.identity[k] == run.identity[k] for k in ("stage", "settings"))
        if same and other.name != run.name:
            raise ValueError(
                f"results hold {other.name}, another measurement of {run.name}; to replace it, "
                f"remove results/{published.parent.name}/runs/{other.name} by hand"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    target = publish(params.load(arguments.profile, {"seed": arguments.seed}))
    print(f"published to {target.relative_to(ROOT)}/")


if __name__ == "__main__":
    main()
