"""The analyses' figures, sentences and page, from measurements written by hand."""

import re

import numpy as np
import pandas as pd
import pytest

from companion import figures, page, params, tables, verdicts
from companion.analysis import branching, distribution
from companion.statistics import Estimate
from companion.page import Exhibit

SMOKE = params.load("smoke")


def path(name, entropies, norms=None):
    steps = len(entropies)
    return pd.DataFrame(
        {
            "run": name,
            "step": range(steps),
            "token_entropy": entropies,
            "entropy_low": np.array(entropies) - 0.01,
            "entropy_high": np.array(entropies) + 0.01,
            "grad_norm": [np.nan, *(norms or [1.0] * (steps - 1))],
            "kl": 0.002,
        }
    )


def paths(**runs):
    return pd.concat([path(name, values) for name, values in runs.items()], ignore_index=True)


def cka(least=0.9995):
    return pd.DataFrame(
        [
            {
                "before": i,
                "after": j,
                "estimator": name,
                "fold": fold,
                "cka": (least if i == 2 else 1.0) if i == j else 0.5,
            }
            for i in range(4)
            for j in range(4)
            for name in ("biased", "unbiased")
            for fold in ("all", "0", "1")
        ]
    )


def test_fig03_names_the_least_alike_layer_and_holds_it_against_the_paper():
    assert len(figures.fig03(cka()).axes) >= 3
    assert "layer 2 with an unbiased CKA of 0.9995" in verdicts.fig03(cka())
    assert "agrees with" in verdicts.fig03(cka()) and "falls below" in verdicts.fig03(cka(0.99))


def test_fig04_draws_both_kinds_of_suite_and_says_what_is_lost():
    along = pd.DataFrame(
        [
            {
                "step": s,
                "suites": kind,
                "metric": "avg@8",
                "value": 50 - s,
                "low": 48 - s,
                "high": 52 - s,
            }
            for kind in ("in-domain", "out of distribution")
            for s in (0, 3, 6)
        ]
    )
    figure = figures.fig04(along, path("x", [0.1, 0.2, 0.3]))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["Accuracy, in-domain", "Accuracy, out of distribution", "Entropy"]
    lost, kept = Estimate(-6, -8, -4), Estimate(-1, -2, 1)
    said = verdicts.fig04(along, {"in-domain": lost, "out of distribution": kept})
    assert (
        "contradicts" in said
        and "out of distribution by -1.0 [-2.0, +1.0] points, from 50.0%" in said
    )
    assert "agrees" in verdicts.fig04(along, {"in-domain": kept, "out of distribution": kept})
    assert "out of distribution" not in verdicts.fig04(along, {"in-domain": kept})  # left out


def test_fig05_counts_every_token():
    rng = np.random.default_rng(0)
    tokens = pd.DataFrame(
        {
            "prompt": np.repeat(range(20), 10),
            "kl": rng.exponential(0.002, 200).astype(np.float32),
            "entropy_change": rng.normal(0.01, 0.02, 200),
            "overlap": 1.0,
            "mass": 1.0,
        }
    )
    tokens.loc[:9, "kl"] = -1e-8  # rounding
    figure = figures.fig05(tokens)
    assert [sum(bar.get_height() for bar in axis.patches) for axis in figure.axes] == [
        200,
        200,
        400,
    ]
    counts = distribution.histograms(tokens)
    assert set(counts.groupby("panel")["tokens"].sum()) == {200}
    first = counts.query("panel == 'kl'").iloc[0]
    assert first["low"] == 1e-7 and first["tokens"] >= 10
    assert "near 1 as in the paper" in verdicts.fig05(tokens)
    assert "not both near 1" in verdicts.fig05(tokens.assign(overlap=0.9))


def answers():
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        [
            {
                "checkpoint": step,
                "prompt": p,
                "edit_distance": 0.1 * (step + 1),
                "fork_position": 20.0 - step,
                "log_probs": list(-rng.exponential(0.1 * (step + 1), 12)),
            }
            for step in (0, 4, 8)
            for p in range(10)
            for _ in range(4)
        ]
    )


def test_fig06_and_table2_show_every_checkpoint():
    positions = branching.by_position(answers(), least=10, resamples=50)
    figure = figures.fig06(positions)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "collapsed",
        "step 4",
        "step 8",
    ]
    summary = branching.summary(answers(), resamples=50)
    assert "token 20.0 [20.0, 20.0] before and 12.0 [12.0, 12.0] after reheating, earlier" in (
        verdicts.table2(summary)
    )
    jumped = path("x", [0.01 * i + 0.5 * (i >= 6) for i in range(12)])
    assert "entropy jumps within a step (oddest at step 6" in verdicts.fig06(
        positions, tables.jump(jumped)
    )
    smooth = tables.jump(path("x", [0.1, 0.12, 0.13, 0.15, 0.16, 0.18, 0.19, 0.21, 0.22, 0.24]))
    assert "no jump of entropy is detected" in verdicts.fig06(positions, smooth)
    short = tables.jump(path("x", [0.1, 0.2]))
    assert short.empty and "no path long enough" in verdicts.fig06(positions, short)


def test_fig07_compares_directions_under_both_optimizers():
    both = pd.concat(
        [
            path("FKL, AdamW", [0.1, 0.2, 0.3], [4.0, 4.0]),
            path("RKL, AdamW", [0.1, 0.2], [2.0]),
            path("FKL, SGD", [0.1, 0.2, 0.25]),
            path("RKL, SGD", [0.1, 0.11, 0.12]),
        ]
    )
    figure = figures.fig07(both)
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 2, 2]
    assert "both recover (2 steps forward, 1 reverse)" in verdicts.fig07(both, 0.2)
    assert "not both recover" in verdicts.fig07(both, 0.25)
    sentence = verdicts.fig07(both, None)
    assert "2.0 times reverse KL's" in sentence and "+0.150" in sentence and "+0.020" in sentence
    assert "larger throughout, as here" in sentence
    smaller = both.assign(grad_norm=both["grad_norm"].where(both["run"] != "FKL, AdamW", 1.0))
    assert "larger throughout, unlike here" in verdicts.fig07(smaller, None)


def test_fig08_says_how_far_tau_matters():
    runs = pd.concat([path(1.1, [0.1, 0.15, 0.2]), path(1.5, [0.1, 0.18])], ignore_index=True)
    pairs = pd.DataFrame(
        [
            {
                "direction_1": d,
                "tau_1": 1.1,
                "direction_2": d,
                "tau_2": 1.5,
                "cosine": c,
                "norm_ratio": r,
                "norm_1": 1.0,
                "norm_2": r,
            }
            for d, c, r in (("forward", 0.9, 0.25), ("reverse", 1.0, 3.7))
        ]
    )
    paths, distances, ratios = figures.fig08(runs, pairs).axes
    assert len(paths.lines) == 2
    # A distance of 0 has no bar to see, so it is written.
    assert [text.get_text() for text in distances.texts] == ["0.1", "0"]
    assert [text.get_text() for text in ratios.texts] == ["0.2", "3.7"]
    sentence = verdicts.fig08(runs, pairs)
    assert "Over the 1 steps" in sentence and "at most 0.030" in sentence
    assert "at least 0.900" in sentence and "up to 4.0 times" in sentence


def test_fig09_to_fig11_draw_their_runs():
    forced = pd.concat([path("base", [0.2, 0.4, 0.9], [1.0, 3.0]), path("collapsed", [0.1, 0.1])])
    assert len(figures.fig09(forced).axes[0].lines) == 2
    said = verdicts.fig09(forced)
    assert "from 1.000 to 3.000" in said and "here entropy and gradient more than doubled" in said
    calm = forced.assign(token_entropy=0.2, grad_norm=1.0)
    assert "here neither doubled" in verdicts.fig09(calm)
    long = path("long", [0.1, 0.11, 0.12, 0.5, 1.0])
    assert figures.fig10(long, 0.12).axes[1].get_title() == "Its beginning"
    assert "recovery value at step 2, grows 44.0 times" in verdicts.fig10(long, 0.12)
    for recovery in (2.0, None):
        assert "does not reach the recovery value, and is 1.00 nats" in verdicts.fig10(
            long, recovery
        )
        assert len(figures.fig10(long, recovery).axes) == 2
    there = paths(reheated=[0.1, 0.15], cooled=[0.15, 0.12, 0.1])
    line = figures.fig11(there, 0.1).axes[0].lines[1]
    assert list(line.get_xdata()) == [1, 2, 3]  # cooling goes on where reheating ended
    assert "from 0.150 to 0.100 nats" in verdicts.fig11(there) and "a fall as" in verdicts.fig11(
        there
    )
    assert "no fall as in the paper" in verdicts.fig11(
        paths(reheated=[0.1, 0.15], cooled=[0.15, 0.3])
    )


def test_fig12_shows_every_layer_and_the_whole():
    moved = pd.DataFrame(
        [
            {
                "layer": layer,
                "cosine": -0.8,
                "projection": 0.8,
                "norm_ratio": 1.0,
                "residual_ratio": 0.6,
                "weights": weights,
            }
            for layer in ("embedding", "1", "2", "all")
            for weights in ("as saved", "bfloat16")
        ]
    )
    assert len(figures.fig12(moved).axes) == 4
    assert "cosine is -0.80" in verdicts.fig12(moved) and "agrees with" in verdicts.fig12(moved)


def test_fig13_keeps_the_arms_apart():
    dynamics = pd.concat(
        [
            pd.DataFrame(
                {
                    "arm": arm,
                    "step": range(first, first + 12),
                    "rollout_entropy": 0.05,
                    "token_entropy": np.nan,
                    "grad_norm": 0.3,
                    "reward": 0.9,
                }
            )
            for arm, first in (("Collapsed", 0), ("+DAPO", 12), ("+DAPO w/ PR-FKL", 12))
        ]
    )
    assert figures.fig13(dynamics).axes[0].get_legend_handles_labels()[1] == [
        "until the arms part",
        "+DAPO",
        "+DAPO w/ PR-FKL",
    ]
    assert "1.0 times its median" in verdicts.fig13(dynamics)


def test_fig13_shows_the_steps_without_a_gradient():
    silent = pd.DataFrame(
        {
            "step": range(4),
            "rollout_entropy": 0.05,
            "token_entropy": np.nan,
            "grad_norm": [0.3, 0.0, 0.3, 0.0],
            "reward": [0.9, 0.9, 0.5, 0.5],
        }
    )
    dynamics = pd.concat(
        [
            silent.assign(arm=arm, grad_norm=silent["grad_norm"] + shift)
            for arm, shift in (("Collapsed", 1), ("+DAPO", 0), ("+DAPO w/ PR-FKL", 1))
        ]
    )
    lines = figures.fig13(dynamics).axes[1].lines
    assert [list(line.get_xdata()) for line in lines if line.get_marker() == "|"] == [
        [],
        [1, 3],
        [],
    ]
    said = verdicts.fig13(dynamics, last=2)
    assert "its reward falls" in said
    assert "In 50% of plain RL's steps, and 0% of the reheated arm's, all groups agree" in said


def gains(value, low, high):
    arms = ["+DAPO w/ RR", "+DAPO w/ PR-FKL"]
    cell = Estimate(value, low, high)
    return pd.DataFrame({"avg@8": [cell, cell], "pass@8": [cell, cell]}, index=arms)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((1, 0.2, 2), "agrees with"),
        ((1, -1, 3), "neither confirms nor contradicts"),
        ((-2, -3, -1), "contradicts"),
    ],
)
def test_the_interval_decides_whether_the_headline_agrees(interval, words):
    by_seed = pd.DataFrame({1: -0.4, 2: 2.0}, index=["+DAPO w/ PR-FKL"])
    assert "By seed, avg@8: -0.4, +2.0." in verdicts.table1(gains(*interval), by_seed)
    sentence = verdicts.table1(gains(*interval), by_seed[[1]])
    assert "By seed" not in sentence
    assert f"which {words} the paper's +2.06 (4B) and +2.33 (8B)" in sentence


@pytest.mark.parametrize("number", [3, 4, 5])
def test_every_hyperparameter_of_the_paper_has_its_counterpart(number):
    table = tables.hyperparameters(SMOKE, number)
    assert (table["here"] != "").all()
    same = {3: "Clip ratio high", 4: "Teacher temperature", 5: "Samples per prompt"}[number]
    other = {3: "Learning rate", 4: "Precision", 5: "Max new tokens"}[number]
    assert table.loc[same, "differs"] == "" and table.loc[other, "differs"] == "≠"
    sentence = verdicts.settings(table)
    assert other.lower() in sentence and same.lower() not in sentence


def test_table6_counts_answers_on_both_sides(tmp_path):
    def run(seconds, total):
        return type(
            "R",
            (),
            {
                "metrics": pd.DataFrame({"seconds": [np.nan, *seconds]}),
                "record": {"seconds": total},
            },
        )

    training = {"Collapsed": run([2.0, 4.0], 30), "+DAPO": run([3.0], 10)}
    table = tables.cost(training, run([4.0, 4.0], 20), SMOKE)
    answers = SMOKE.rl.batch_size * SMOKE.rl.responses_per_prompt
    assert table.loc["RL", "s a step"] == 3 and table.loc["RL", "steps"] == 3
    assert table.loc["RL", "s per 1,000 answers"] == pytest.approx(3000 / answers)
    assert table.loc["RL", "hours of steps"] == pytest.approx(9 / 3600)
    assert table.loc["RL", "hours in all"] == pytest.approx(40 / 3600)
    assert table.loc["OPSD", "share of RL (%)"] == pytest.approx(100 * 8 / 9)


def test_the_sentence_on_the_ood_suite_starts_from_the_base_and_shows_the_seeds():
    table = pd.DataFrame(
        {"avg@8": [Estimate(14, 12, 16), Estimate(11, 0, 31)]}, index=["Base", "Collapsed"]
    )
    said = verdicts.ood(table, gains(2, -1, 7), pd.Series({1: 0.8, 2: 33.2, 3: 0.0}))
    assert "base policy gets 14.0 [12.0, 16.0]%" in said and "(by seed: 0.8, 33.2, 0.0)" in said
    assert "+2.0 [-1.0, +7.0] points from continued DAPO" in said


def test_steps_of_one_run_are_not_taken_for_independent_seeds():
    """Fig. 2's reward gap: seeds that disagree widen the interval, however many steps there are."""
    steps = pd.MultiIndex.from_product([[1, 2, 3], range(20)], names=["seed", "step"]).to_frame(
        index=False
    )
    plain = steps.assign(arm="+DAPO", reward=0.5)
    hot = steps.assign(arm="+DAPO w/ PR-FKL", reward=0.5 + 0.1 * (steps["seed"] - 2))
    gap = verdicts._reward_gap(pd.concat([plain, hot]), last=10)
    assert (
        gap.value == pytest.approx(0)
        and gap.high == pytest.approx(0.1)
        and gap.low == pytest.approx(-0.1)
    )


def test_the_page_holds_every_exhibit_and_asks_no_network(tmp_path):
    (tmp_path / "figures").mkdir()
    figures.fig03(cka()).savefig(tmp_path / "figures" / "fig03.png")
    text = pd.DataFrame({"a <b>": ["1 & 2"]}, index=["row"])
    written = page.write(
        tmp_path,
        "smoke",
        [1, 2],
        [
            Exhibit(
                "fig03",
                "Fig. 3: layers",
                "They agree.",
                "05_internals",
                ["cka-1"],
                alt="A matrix.",
                more=["layers"],
            ),
            Exhibit("table2", "Table 2: forks", "They fork.", "06_dynamics", [], table=text),
        ],
    ).read_text()
    assert 'alt="A matrix."' in written and "They fork." in written and "seeds\n1, 2" in written
    assert "a &lt;b&gt;" in written and "1 &amp; 2" in written
    assert 'href="runs/cka-1/run.json"' in written and 'href="tables/layers.csv"' in written
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', written)
