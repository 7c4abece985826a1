"""Tables and figures again from the published measurements, over all seeds, without training.

    python -m companion.redraw --profile laptop
"""

from __future__ import annotations

import argparse
from pathlib import Path

from companion import evaluate, figures, params, report, study, tables
from companion.analysis import collect
from companion.params import ROOT


def redraw(profile: str) -> Path:
    """Write results/<profile>/tables and figures; ValueError if nothing is published."""
    settings = params.load(profile)
    target = ROOT / "results" / profile
    runs = collect.published(profile)
    evaluations = [run for run in runs if run.identity["stage"] == "evaluate"]
    held_out = [run for run in evaluations if run.identity["settings"]["split"] == "test"]
    training = [run for run in runs if run.identity["stage"] == "rl"]

    samples = collect.samples(held_out)
    resamples = settings.evaluation.bootstrap
    rows = study.in_order(samples, study.ROWS)
    gains = tables.gains(rows, evaluate.SUITES, study.DAPO, resamples)
    for name, table in {
        "table1": tables.table1(rows, evaluate.SUITES, resamples),
        "ood": tables.table1(rows, [evaluate.OOD], resamples),
        "gains": gains,
    }.items():
        report.save_estimates(target / "tables", name, table)

    dynamics = collect.dynamics(training)
    figure = figures.fig2(dynamics, settings.rl.collapse.entropy, settings.reheat.recovery_entropy)
    report.save_figure(target / "figures", "fig02", figure, dynamics)
    figure = figures.fig1(gains.loc[gains.index.isin(study.ARMS)], settings.reheat.tau)
    report.save_figure(target / "figures", "fig01", figure, tables.tidy(gains))
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    target = redraw(parser.parse_args().profile)
    print(f"redrawn: {target.relative_to(ROOT)}/tables and figures")


if __name__ == "__main__":
    main()
