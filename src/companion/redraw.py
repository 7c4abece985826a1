"""Tables, figures and report.html again from the published measurements, without training.

    companion figures --profile laptop

Table 1, Fig. 1 and Fig. 2 show all published seeds, the analyses the first seed that has them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from companion import cli, figures, page, paper, params, report, study, tables, tasks, verdicts
from companion.analysis import branching, collect, distribution
from companion.analysis.measure import table
from companion.page import Exhibit
from companion.params import ROOT, Profile
from companion.runs import Run

ORDER = [
    "fig01",
    "table1",
    "fig02",
    "reheating",
    "ood",
    "fig03",
    "fig05",
    "fig04",
    "fig06",
    "table2",
    "fig07",
    "table3",
    "table4",
    "table5",
    "fig08",
    "fig09",
    "fig10",
    "fig11",
    "fig12",
    "fig13",
    "table6",
]
"""As the paper shows them; what reheating itself costs and the OOD suite are ours."""


def redraw(profile: str) -> Path:
    """Write results/<profile>/: tables, figures, report.html; ValueError if nothing is published."""
    settings = params.load(profile)
    target = ROOT / "results" / profile
    index = collect.published(profile)
    seeds = sorted(index["seed"].unique().tolist())
    exhibits = _study(settings, index, target)
    analysed = index[index["role"] == "cka"]["seed"]
    if len(analysed):
        first = index[index["seed"] == analysed.min()]
        roles = {
            role: dict(zip(r["key"], r["run"], strict=True)) for role, r in first.groupby("role")
        }
        exhibits += _analyses(settings, roles, target)
    exhibits.sort(key=lambda exhibit: ORDER.index(exhibit.name))
    page.write(target, profile, seeds, exhibits)
    return target


def _study(settings: Profile, index: pd.DataFrame, target: Path) -> list[Exhibit]:
    runs = {role: list(rows["run"]) for role, rows in index.groupby("role")}
    resamples = settings.evaluation.bootstrap
    samples = collect.samples(runs["evaluations"])
    rows = study.in_order(samples, study.ROWS)
    table1 = tables.table1(rows, tasks.suites(settings), resamples)
    gains = tables.gains(rows, tasks.suites(settings), study.DAPO, resamples)
    by_seed = tables.avg_by_seed(rows, tasks.suites(settings))
    ood = tables.ood(rows, settings)
    cost = tables.gains(
        study.in_order(samples, ["Collapsed", *study.REHEATED]),
        tasks.suites(settings),
        "Collapsed",
        resamples,
    )
    for name, estimates in {
        "table1": table1,
        "ood": ood,
        "gains": gains,
        "reheating": cost,
    }.items():
        report.save_estimates(target / "tables", name, estimates)
    report.save_plain(target / "tables", "avg_by_seed", by_seed.round(2))

    dynamics = collect.dynamics(runs["training"])
    fig01 = figures.fig01(gains.loc[gains.index.isin(study.ARMS)], settings.reheat.tau)
    fig02 = figures.fig02(dynamics, settings.rl.collapse.entropy, settings.reheat.recovery_entropy)
    report.save_figure(target / "figures", "fig01", fig01, tables.tidy(gains))
    report.save_figure(target / "figures", "fig02", fig02, dynamics)

    evaluations, training = _names(runs["evaluations"]), _names(runs["training"])
    verdict = verdicts.table1(gains, by_seed - by_seed.loc[study.DAPO])
    exhibits = [
        Exhibit(
            "fig01",
            "Fig. 1: rollout reheating and policy reheating",
            verdict,
            "04_evaluate",
            evaluations,
            "Sketches of where either acts, then each arm's gain over continued "
            "DAPO in avg@8 and pass@8 with its interval.",
        ),
        Exhibit(
            "table1",
            "Table 1: held-out accuracy (percent)",
            verdict,
            "04_evaluate",
            evaluations,
            table=tables.show(table1[["Avg", *tasks.suites(settings)]]),
            reported=paper.table1_beside(settings.task.base),
        ),
        Exhibit(
            "fig02",
            "Fig. 2: reward and entropy during RL",
            verdicts.fig02(dynamics),
            "03_continue",
            training,
            "Reward and entropy over RL steps: one line to the "
            "collapse, then one line for each arm.",
        ),
        Exhibit(
            "reheating",
            "Reheating alone: points against the collapsed policy",
            verdicts.reheating(cost),
            "04_evaluate",
            evaluations,
            table=tables.show(cost),
        ),
    ]
    if suite := tasks.ood(settings):
        verdict = verdicts.ood(
            ood,
            tables.gains(rows, [suite], study.DAPO, resamples),
            tables.avg_by_seed(rows, [suite]).loc["Collapsed"],
        )
        exhibits.append(
            Exhibit(
                "ood",
                f"Out of distribution: {suite} (percent)",
                verdict,
                "04_evaluate",
                evaluations,
                table=tables.show(ood),
            )
        )
    return exhibits


def _analyses(settings: Profile, runs: dict[str, dict[str, Run]], target: Path) -> list[Exhibit]:
    resamples = settings.evaluation.bootstrap
    threshold, recovery = settings.rl.collapse.entropy, settings.reheat.recovery_entropy
    cka, tokens, answers, gradients, moved = (
        table(runs[role][""])
        for role in ("cka", "distribution", "branching", "gradients", "displacement")
    )
    path = {int(step): run for step, run in runs["along_path"].items()}
    samples = collect.samples(path.values())
    suites, ood = tasks.suites(settings), tasks.ood(settings)
    along = tables.along_path(samples, path, suites, ood, resamples)
    changes = tables.change_along_path(samples, suites, ood, resamples)
    hot = runs["reheated"]["PR-FKL"]
    positions, table2 = branching.by_position(answers), branching.summary(answers, resamples)
    jump = tables.jump(hot.metrics)
    objectives, cooling = collect.paths(runs["objectives"]), collect.paths(runs["cooling"])
    by_tau = collect.paths({float(tau): run for tau, run in runs["temperatures"].items()})
    on_base, long = collect.paths(runs["base"]), collect.paths(runs["long"])
    scarce = collect.scarce(runs["scarce"])
    table6 = tables.cost(runs["training"], hot, settings)

    drawn = {
        "fig03": (figures.fig03(cka), cka),
        "fig04": (figures.fig04(along, hot.metrics), along),
        "fig05": (figures.fig05(tokens), distribution.histograms(tokens)),
        "fig06": (figures.fig06(positions), positions),
        "fig07": (figures.fig07(objectives), objectives),
        "fig08": (figures.fig08(by_tau, gradients), by_tau),
        "fig09": (figures.fig09(on_base), on_base),
        "fig10": (figures.fig10(long, recovery), long),
        "fig11": (figures.fig11(cooling, threshold), cooling),
        "fig12": (figures.fig12(moved), moved),
        "fig13": (figures.fig13(scarce), scarce),
    }
    for name, (figure, data) in drawn.items():
        report.save_figure(target / "figures", name, figure, data)
    report.save_estimates(target / "tables", "table2", table2, ".3f")
    hyperparameters = {f"table{n}": tables.hyperparameters(settings, n) for n in (3, 4, 5)}
    for name, plain in {
        **hyperparameters,
        "table6": table6,
        "jump": jump,
        "gradients": gradients,
    }.items():
        report.save_plain(target / "tables", name, plain)

    def exhibit(
        name: str, title: str, verdict: str, notebook: str, *roles: str, **shown
    ) -> Exhibit:
        behind = _names(run for role in roles for run in runs[role].values())
        return Exhibit(name, title, verdict, notebook, behind, **shown)

    return [
        exhibit(
            "fig03",
            "Fig. 3: CKA between the layers of the collapsed and the reheated policy",
            verdicts.fig03(cka),
            "05_internals",
            "cka",
            alt="Two matrices of linear CKA, biased "
            "and unbiased, with their diagonals' distance from 1.",
        ),
        exhibit(
            "fig04",
            "Fig. 4: accuracy and entropy over reheating checkpoints",
            verdicts.fig04(along, changes),
            "05_internals",
            "along_path",
            alt="avg@8 in-domain and "
            "out of distribution with intervals, and entropy, over reheating steps.",
        ),
        exhibit(
            "fig05",
            "Fig. 5: what changes in the output distribution",
            verdicts.fig05(tokens),
            "05_internals",
            "distribution",
            alt="Histograms over tokens of the KL, the entropy "
            "change, and the share of common top-10 candidates.",
        ),
        exhibit(
            "fig06",
            "Fig. 6: log-probability by token position",
            verdicts.fig06(positions, jump),
            "06_dynamics",
            "branching",
            alt="Mean log-probability over positions, a line with a band for each checkpoint.",
        ),
        exhibit(
            "table2",
            "Table 2: sampled answers against greedy ones",
            verdicts.table2(table2),
            "06_dynamics",
            "branching",
            table=tables.show(table2, ".3f"),
            reported=paper.table2().set_index("checkpoint"),
        ),
        exhibit(
            "fig07",
            "Fig. 7: forward and reverse KL",
            verdicts.fig07(objectives, recovery),
            "07_objectives",
            "objectives",
            alt="Entropy and gradient norm over steps for "
            "both directions, under AdamW and under plain SGD.",
        ),
        *(
            exhibit(
                name, f"Table {name[-1]}: {title}", verdicts.settings(plain), "10_cost", table=plain
            )
            for (name, plain), title in zip(
                hyperparameters.items(),
                ("settings of RL", "settings of reheating", "settings of the evaluation"),
                strict=True,
            )
        ),
        exhibit(
            "fig08",
            "Fig. 8: the teacher's temperature",
            verdicts.fig08(by_tau, gradients),
            "07_objectives",
            "temperatures",
            "gradients",
            alt="Entropy over steps for three "
            "temperatures; distances and norm ratios of their first gradients.",
            more=["gradients"],
        ),
        exhibit(
            "fig09",
            "Fig. 9: reheating a policy that is not collapsed",
            verdicts.fig09(on_base),
            "07_objectives",
            "base",
            alt="Entropy and gradient norm over steps, from the base "
            "policy and from the collapsed one.",
        ),
        exhibit(
            "fig10",
            "Fig. 10: past the stop",
            verdicts.fig10(long, recovery),
            "06_dynamics",
            "long",
            alt="Entropy over many reheating steps, and a zoom on the first ones.",
        ),
        exhibit(
            "fig11",
            "Fig. 11: cooling a reheated policy",
            verdicts.fig11(cooling),
            "08_reversibility",
            "cooling",
            alt="Entropy rising while reheated, then falling while cooled.",
        ),
        exhibit(
            "fig12",
            "Fig. 12: the two updates in the weights",
            verdicts.fig12(moved),
            "08_reversibility",
            "displacement",
            alt="Cosine, projection, norm ratio and residual ratio of the two updates by layer.",
        ),
        exhibit(
            "fig13",
            "Fig. 13: RL on few prompts",
            verdicts.fig13(scarce),
            "09_data_scarce",
            "scarce",
            alt="Entropy, gradient norm and reward over RL steps, plain and reheated.",
        ),
        exhibit(
            "table6",
            "Table 6: cost",
            verdicts.table6(table6),
            "10_cost",
            "training",
            table=table6.round(2).astype(object).fillna(""),
            reported=paper.table6().astype(object).fillna("").set_index("model"),
        ),
    ]


def _names(runs: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(run.name for run in runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=cli.profile, default="laptop")
    target = redraw(parser.parse_args().profile.name)
    print(f"redrawn: {target.relative_to(ROOT)}/tables, figures and report.html")
