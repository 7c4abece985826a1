"""Tables and figures again from the published measurements, without training.

    python -m companion.redraw --profile laptop

Table 1, Fig. 1 and Fig. 2 show all published seeds, the analyses the first seed that has them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from companion import evaluate, figures, params, report, study, tables
from companion.analysis import branching, collect
from companion.analysis.measure import table
from companion.params import ROOT, Profile
from companion.runs import Run


def redraw(profile: str) -> Path:
    """Write results/<profile>/tables and figures; ValueError if nothing is published."""
    settings = params.load(profile)
    target = ROOT / "results" / profile
    index = collect.published(profile)
    _study(settings, index, target)
    analysed = index[~index["role"].isin(["training", "reheated", "evaluations"])]
    if len(analysed):
        first = index[index["seed"] == analysed["seed"].min()]
        roles = {role: dict(zip(r["key"], r["run"])) for role, r in first.groupby("role")}
        _analyses(settings, roles, target)
    return target


def _study(settings: Profile, index: pd.DataFrame, target: Path) -> None:
    runs = {role: list(rows["run"]) for role, rows in index.groupby("role")}
    resamples = settings.evaluation.bootstrap
    rows = study.in_order(collect.samples(runs["evaluations"]), study.ROWS)
    gains = tables.gains(rows, evaluate.SUITES, study.DAPO, resamples)
    for name, estimates in {
        "table1": tables.table1(rows, evaluate.SUITES, resamples),
        "ood": tables.table1(rows, [evaluate.OOD], resamples),
        "gains": gains,
    }.items():
        report.save_estimates(target / "tables", name, estimates)

    dynamics = collect.dynamics(runs["training"])
    figure = figures.fig02(dynamics, settings.rl.collapse.entropy, settings.reheat.recovery_entropy)
    report.save_figure(target / "figures", "fig02", figure, dynamics)
    figure = figures.fig01(gains.loc[gains.index.isin(study.ARMS)], settings.reheat.tau)
    report.save_figure(target / "figures", "fig01", figure, tables.tidy(gains))


def _analyses(settings: Profile, runs: dict[str, dict[str, Run]], target: Path) -> None:
    resamples = settings.evaluation.bootstrap
    measured = {
        role: table(runs[role][""])
        for role in ("cka", "distribution", "branching", "gradients", "displacement")
    }
    path = {int(step): run for step, run in runs["along_path"].items()}
    along = tables.along_path(
        collect.samples(path.values()), path, evaluate.SUITES, evaluate.OOD, resamples
    )
    hot = runs["reheated"]["PR-FKL"]
    positions = branching.by_position(measured["branching"])
    objectives, cooling = collect.paths(runs["objectives"]), collect.paths(runs["cooling"])
    by_tau = collect.paths({float(tau): run for tau, run in runs["temperatures"].items()})
    on_base, long = collect.paths(runs["base"]), collect.paths(runs["long"])
    scarce = collect.scarce(runs["scarce"])
    for name, figure, data in (
        ("fig03", figures.fig03(measured["cka"]), measured["cka"]),
        ("fig04", figures.fig04(along, hot.metrics), along),
        ("fig05", figures.fig05(measured["distribution"]), measured["distribution"].describe()),
        ("fig06", figures.fig06(positions), positions),
        ("fig07", figures.fig07(objectives), objectives),
        ("fig08", figures.fig08(by_tau, measured["gradients"]), by_tau),
        ("fig09", figures.fig09(on_base), on_base),
        ("fig10", figures.fig10(long, settings.reheat.recovery_entropy), long),
        ("fig11", figures.fig11(cooling, settings.rl.collapse.entropy), cooling),
        ("fig12", figures.fig12(measured["displacement"]), measured["displacement"]),
        ("fig13", figures.fig13(scarce), scarce),
    ):
        report.save_figure(target / "figures", name, figure, data)
    report.save_estimates(
        target / "tables", "table2", branching.summary(measured["branching"], resamples)
    )
    for number in (3, 4, 5):
        report.save_plain(target / "tables", f"table{number}", tables.hyperparameters(settings, number))
    report.save_plain(target / "tables", "table6", tables.cost(runs["training"], hot, settings))
    report.save_plain(target / "tables", "jump", tables.jump(hot.metrics))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    target = redraw(parser.parse_args().profile)
    print(f"redrawn: {target.relative_to(ROOT)}/tables and figures")


if __name__ == "__main__":
    main()
