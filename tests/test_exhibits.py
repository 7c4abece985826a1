"""The analyses' figures, sentences and page, from measurements written by hand."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from companion import exhibits, params
from companion.analysis import branching, distribution
from companion.exhibits import (
    audit,
    fig02,
    fig03,
    fig04,
    fig05,
    fig06,
    fig07,
    fig08,
    fig09,
    fig10,
    fig11,
    fig12,
    fig13,
    files,
    gallery,
    headline,
    hyperparameters,
    ood,
    page,
    registry,
    table2,
    table6,
)
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.page import About
from companion.exhibits.placed import Placed
from companion.runs import Run
from companion.statistics import Estimate
from companion.study import roles
from companion.study.roles import Evidence

SMOKE = params.load("smoke")


def verdicts(claims):
    return [claim.verdict for claim in claims]


def path(name, entropies, norms=None):
    steps = len(entropies)
    return pd.DataFrame(
        {
            "seed": 1,
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
                "seed": 1,
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
    figure = fig03.draw(cka(), "2 parts")
    assert "range over 2 parts" in figure.axes[1].get_legend_handles_labels()[1]
    said = fig03.sentence(cka(), "2 parts")
    assert "layer 2 with an unbiased CKA of 0.9995 ([0.9995, 0.9995] over 2 parts), above" in said
    assert "below the paper's bound of 0.999" in fig03.sentence(cka(0.99), "2 parts")
    assert fig03.finding(cka()).endswith(
        "CKA 0.9995 [0.9995, 0.9995], above the paper's bound of 0.999"
    )
    assert "below the paper's bound" in fig03.finding(cka(0.99))
    assert verdicts(fig03.claims(cka())) == ["agrees"]
    assert verdicts(fig03.claims(cka(0.99))) == ["differs"]


def test_fig03_calls_the_five_suites_of_0_1_0_by_their_name():
    """Its folds were cut from prompts sorted by suite: their spread is difficulty."""
    said = {}
    for name, settings in (("old", {}), ("new", {"folds": 5})):
        run = Run(Path("x"), {"settings": settings}, {})
        said[name] = fig03._parts([run])
    assert said == {"old": "the five suites, no sampling noise", "new": "5 parts of the prompts"}


def test_fig04_draws_both_kinds_of_suite_and_says_what_is_lost():
    along = pd.DataFrame(
        [
            {
                "seed": 1,
                "step": s,
                "suites": kind,
                "metric": "avg@8",
                "value": 50 - s,
                "low": 48 - s,
                "high": 52 - s,
                "change": -s,
                "change_low": -s - 1,
                "change_high": -s + 1,
            }
            for kind in ("in-domain", "out of distribution")
            for s in (0, 3, 6)
        ]
    )
    figure = fig04.draw(along, path("x", [0.1, 0.2, 0.3]))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "In-domain: 50.0% at step 0", "Out of distribution: 50.0% at step 0", "Entropy",
    ]  # fmt: skip
    assert list(figure.axes[0].lines[0].get_ydata()) == [0, -3, -6]
    steeper = along.assign(change=along["change"] * (1 + 2 * (along["suites"] != "in-domain")))
    low, _ = fig04.draw(steeper, path("x", [0.1, 0.2, 0.3])).axes[0].get_ylim()
    assert low < -18  # both panels share it: what falls further in the other one is seen
    lost, kept = Estimate(-6, -8, -4), Estimate(-1, -2, 1)
    said = fig04.sentence(along, {"in-domain": lost, "out of distribution": kept})
    assert "in-domain by -6.0 [-8.0, -4.0] points (which leaves out 0), from 50.0%" in said
    assert "out of distribution by -1.0 [-2.0, +1.0] points (which holds 0), from 50.0%" in said
    assert "out of distribution" not in fig04.sentence(along, {"in-domain": kept})  # left out


def test_fig04_says_whether_accuracy_is_kept_and_claims_it_only_where_it_could_be_lost():
    along = pd.DataFrame(
        {"seed": 1, "step": [0, 6], "suites": fig04.OUT, "metric": "avg@8", "value": [50, 40]}
    )
    lost, kept, wide = Estimate(-6, -8, -4), Estimate(0, -1, 1), Estimate(-1, -4, 2)
    said = {
        name: fig04.finding(along, {fig04.OUT: change})
        for name, change in (("lost", lost), ("kept", kept), ("wide", wide))
    }
    assert said["lost"].startswith(
        "Reheating costs out of distribution accuracy: -6.0 [-8.0, -4.0]"
    )
    assert "leaves out of distribution accuracy as it was" in said["kept"]
    assert "may cost" in said["wide"]
    changes = [{fig04.OUT: change} for change in (lost, kept, wide)]
    found = [verdicts(fig04.claims(along, change)) for change in changes]
    assert found == [["differs"], ["agrees"], ["open"]]
    nothing = along.assign(value=[0.8, 0.4])
    assert verdicts(fig04.claims(nothing, {fig04.OUT: Estimate(-0.4, -1, 0)})) == ["open"]
    assert fig04.claims(along, {"in-domain": lost}) == ()


def test_fig05_counts_every_token():
    rng = np.random.default_rng(0)
    tokens = pd.DataFrame(
        {
            "seed": 1,
            "prompt": np.repeat(range(20), 10),
            "kl": rng.exponential(0.002, 200).astype(np.float32),
            "entropy_change": rng.normal(0.01, 0.02, 200),
            "overlap": 1.0,
            "mass": 1.0,
        }
    )
    tokens.loc[:9, "kl"] = -1e-8  # rounding
    figure = fig05.draw(tokens)
    assert [sum(bar.get_height() for bar in axis.patches) for axis in figure.axes] == [
        200,
        200,
        400,
    ]
    counts = distribution.histograms(tokens)
    assert set(counts.groupby("panel")["tokens"].sum()) == {200}
    first = counts.query("panel == 'kl'").iloc[0]
    assert first["low"] == 1e-7 and first["tokens"] >= 10
    assert "nats, which holds the paper's 0.002; the median" in fig05.sentence(tokens)
    far = tokens.assign(kl=tokens["kl"] + 1)
    assert "which leaves out the paper's 0.002" in fig05.sentence(far)
    assert verdicts(fig05.claims(tokens)) == ["agrees"]
    assert verdicts(fig05.claims(far)) == ["differs"]
    assert fig05.finding(tokens).endswith("nats of KL, about as the paper's 0.002")
    assert fig05.finding(far).endswith("5e+02 times the paper's 0.002")


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
    positions = branching.by_position(answers(), least=10, resamples=50).assign(seed=1)
    figure = fig06.draw(positions)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "checkpoint of step 4", "checkpoint of step 8, 95% over prompts",
    ]  # fmt: skip
    last = positions[positions["checkpoint"] == 8].set_index("position")
    first = positions[positions["checkpoint"] == 0].set_index("position")
    assert np.allclose(last["change"], last["value"] - first["value"])
    assert first["change"].eq(0).all() and (last["change_low"] < last["change_high"]).all()
    summary = branching.summary(answers(), resamples=50)
    assert "token 20.0 [20.0, 20.0] before and 12.0 [12.0, 12.0] after reheating, earlier" in (
        table2.sentence(summary, Estimate(-40, -45, -35), 1)
    )
    jumped = path("x", [0.01 * i + 0.5 * (i >= 6) for i in range(12)])
    assert "beyond its trend within a step on 1 of 1 seed (furthest at step 6" in fig06.sentence(
        positions, fig06.jumps(jumped)
    )
    smooth = fig06.jumps(path("x", [0.1, 0.12, 0.13, 0.15, 0.16, 0.18, 0.19, 0.21, 0.22, 0.24]))
    assert "beyond its trend within a step on 0 of 1 seed" in fig06.sentence(positions, smooth)
    short = fig06.jumps(path("x", [0.1, 0.2]))
    assert short.empty and "no path is long enough" in fig06.sentence(positions, short)
    assert fig06.finding(positions, fig06.jumps(jumped)).endswith("; entropy jumps")
    assert fig06.finding(positions, smooth).endswith("; no entropy jump")
    assert "jump" not in fig06.finding(positions, short) and fig06.claims(short) == ()
    assert verdicts(fig06.claims(fig06.jumps(jumped))) == ["agrees"]
    assert verdicts(fig06.claims(smooth)) == ["differs"]
    assert verdicts(fig06.claims(smooth.assign(**{fig06.MOST: 40}))) == ["open"]
    # A plateau or a fall, however odd, is no jump, nor is a step that stands out and is small.
    stands = path("x", [0.01 * (i - (i >= 10)) for i in range(21)])
    assert verdicts(fig06.claims(fig06.jumps(stands))) == ["differs"]
    small = path("x", [0.01 * i + 0.003 * (i >= 10) for i in range(21)])
    assert (fig06.jumps(small)["p-value"] < 0.05).all()
    assert verdicts(fig06.claims(fig06.jumps(small))) == ["differs"]


def test_fig06_shades_between_the_positions_at_which_many_answers_end():
    reach = pd.Series([10, 10, 5, 5, 5, 2], index=range(6))
    assert fig06.ends(reach) == [2, 5] and fig06.ends(reach[:2]) == []


def test_table2_judges_the_fork_by_its_paired_change():
    earlier = branching.fork_change(answers(), resamples=50)
    assert earlier == Estimate(pytest.approx(-40), pytest.approx(-40), pytest.approx(-40))
    summary = branching.summary(answers(), resamples=50)
    [claim] = table2.claims(summary, earlier)
    assert claim.here == "at token 12.0 instead of 20.0 (-40 [-40, -40]%)"
    assert claim.paper == "at token 49.7 instead of 61.7 (-19%)" and claim.verdict == "agrees"
    assert verdicts(table2.claims(summary, Estimate(10, -3, 27))) == ["differs"]
    assert verdicts(table2.claims(summary, Estimate(-5, -25, 15))) == ["open"]


def test_fig07_compares_directions_under_both_optimizers():
    both = pd.concat(
        [
            path("FKL, AdamW", [0.1, 0.2, 0.3], [4.0, 4.0]),
            path("RKL, AdamW", [0.1, 0.2], [2.0]),
            path("FKL, SGD", [0.1, 0.2, 0.25]),
            path("RKL, SGD", [0.1, 0.11, 0.12]),
        ]
    )
    figure = fig07.draw(both, {"AdamW": 1e-5, "SGD": 0.5}, 0.2)
    assert [len(axis.lines) for axis in figure.axes] == [3, 3, 2, 2]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert "learning rate 1e-05" in figure.axes[0].get_title()
    assert "both recover (2 steps forward, 1 reverse)" in fig07.sentence(both, 0.2)
    assert "not both recover" in fig07.sentence(both, 0.25)
    sentence = fig07.sentence(both, None)
    assert "+0.150" in sentence and "+0.020" in sentence
    assert "2.00 to 2.00 times reverse KL's over 1 common steps" in sentence
    longer = pd.concat([both, path("RKL, AdamW", [0.1, 0.2, 0.3], [2.0, 5.0])])
    longer = longer.drop_duplicates(["run", "step"], keep="last")
    assert "0.80 to 2.00 times reverse KL's over 2 common steps" in fig07.sentence(longer, None)
    assert fig07.finding(both, 0.2).endswith(
        "2.00 to 2.00 times reverse KL's; by AdamW both recover"
    )
    assert fig07.finding(both, 0.25).endswith("not both recover")
    assert verdicts(fig07.claims(both, 0.2)) == ["agrees", "agrees"]
    assert verdicts(fig07.claims(both, 0.25)) == ["agrees", "differs"]
    assert verdicts(fig07.claims(longer, None)) == ["open"]
    smaller = both.assign(grad_norm=both["grad_norm"].where(both["run"] != "FKL, AdamW", 1.0))
    assert verdicts(fig07.claims(smaller, 0.2)) == ["differs", "agrees"]


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
    paths, apart, distances, ratios = fig08.draw(runs, pairs).axes
    assert len(paths.lines) == 2
    drawn = [line.get_ydata() for line in apart.lines if line.get_marker() == "o"]
    assert np.allclose(drawn, [[0, -15], [0, 15]])  # millinats
    assert [line.get_ydata()[0] for line in apart.lines[2:]] == [-5, 5]  # 0.01 nats apart
    # A distance of 0 has no bar to see, so it is written.
    assert [text.get_text() for text in distances.texts] == ["0.1", "0"]
    assert [text.get_text() for text in ratios.texts] == ["0.2", "3.7"]
    sentence = fig08.sentence(runs, pairs)
    assert "Over the 1 steps" in sentence and "at most 0.030" in sentence
    assert "at least 0.900" in sentence and "up to 4.0 times" in sentence
    assert fig08.finding(runs).startswith(
        "The teacher's τ matters: 1.1 to 1.5 differ by at most 0.030"
    )
    close = runs.assign(token_entropy=0.1 + runs["token_entropy"] / 10)
    assert fig08.finding(close).startswith("The teacher's τ hardly matters")
    assert verdicts(fig08.claims(runs)) == ["differs"]
    assert verdicts(fig08.claims(close)) == ["agrees"]


def test_fig09_to_fig11_draw_their_runs():
    forced = pd.concat([path("base", [0.2, 0.4, 0.9], [1.0, 3.0]), path("collapsed", [0.1, 0.1])])
    figure = fig09.draw(forced, 0.15)
    assert len(figure.axes[0].lines) == 3 and figure.axes[0].lines[2].get_ydata()[0] == 0.15
    assert figure.axes[1].lines[2].get_xdata()[0] == 9  # the paper's
    said = fig09.sentence(forced)
    assert "norm from 1.000 to 3.000 (4.50 and 3.00 times)" in said
    long = path("long", [0.1, 0.11, 0.12, 0.5, 1.0])
    figure = fig10.draw(long, 0.12, 256)
    assert figure.axes[1].get_title() == "Its beginning"
    assert "256 answers a step" in figure.axes[0].get_title()
    [paper] = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert paper.get_xydata().tolist() == [[16, 0.15], [31, 2.5]]
    assert "recovery value at step 2, grows 44.0 times" in fig10.sentence(long, 0.12)
    for recovery in (2.0, None):
        assert "does not reach the recovery value, and is 1.00 nats" in fig10.sentence(
            long, recovery
        )
        assert len(fig10.draw(long, recovery, 256).axes) == 2
    there = paths(reheated=[0.1, 0.15], cooled=[0.15, 0.12, 0.1])
    figure = fig11.draw(there, 0.1, (1.2, 1 / 1.2))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["reheating, τ = 1.2", "cooling, τ = 0.83"]
    line = figure.axes[0].lines[1]
    assert list(line.get_xdata()) == [1, 2, 3]  # cooling goes on where reheating ended
    said = fig11.sentence(there)
    assert "from 0.150 to 0.100 [0.090, 0.110] nats" in said and "a fall as" in said
    assert "no fall as in the paper" in fig11.sentence(
        paths(reheated=[0.1, 0.15], cooled=[0.15, 0.3])
    )


def test_fig09_to_fig11_judge_what_entropy_does():
    collapsed = path("collapsed", [0.1, 0.15, 0.2])
    for entropies, verdict, said in (
        ([0.2, 0.3, 0.4], "agrees", "runs away: 0.200 to 0.400"),
        ([0.2, 0.2, 0.21], "differs", "does not run away: 0.200 to 0.210"),
    ):
        forced = pd.concat([path("base", entropies), collapsed])
        assert verdicts(fig09.claims(forced)) == [verdict] and said in fig09.finding(forced)
    slower = pd.concat([path("base", [0.2, 0.25, 0.3]), path("collapsed", [0.1, 0.11, 0.12])])
    assert verdicts(fig09.claims(slower)) == ["open"]  # faster than the collapsed one, not doubled
    slow = path("long", [0.1 * 1.03**step for step in range(40)])  # 1.56-fold in 15 steps
    fast = path("long", [0.1 * 1.2**step for step in range(40)])  # 15-fold
    assert verdicts(fig10.claims(slow)) == ["differs"]
    assert verdicts(fig10.claims(fast)) == ["agrees"]
    assert fig10.claims(slow)[0].here.startswith("at most 1.6-fold in as many steps; 0.32 [")
    assert "does not explode: 0.32 nats at step 39" in fig10.finding(slow)
    assert "entropy explodes" in fig10.finding(fast)
    for cooled, verdict, said in (
        ([0.15, 0.1], "agrees", "A low τ cools the policy: 0.150 to 0.100"),
        ([0.15, 0.14], "open", "may cool the policy"),
        ([0.15, 0.2], "differs", "does not cool it"),
    ):
        there = paths(reheated=[0.1, 0.15], cooled=cooled)
        assert verdicts(fig11.claims(there)) == [verdict] and said in fig11.finding(there)


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
                "update": "cooled",
                "seed": 1,
            }
            for layer in ("embedding", "1", "2", "all")
            for weights in ("as saved", "bfloat16")
        ]
    )
    assert len(fig12.draw(moved).axes) == 4
    assert "another seed" not in fig12.sentence(moved)
    again = moved.assign(update="again", projection=0.7, residual_ratio=0.9)
    both = pd.concat([moved, again])
    assert "a projection of 0.70 and a residual of 0.90" in fig12.sentence(both)
    assert fig12.finding(both) == fig12.finding(moved)
    figure = fig12.draw(both)
    names = [line.get_label() for line in figure.axes[1].lines]
    assert sum("another seed" in name for name in names) == 2
    figure.canvas.draw()
    legend = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 < legend.x0 and legend.x1 < figure.bbox.x1  # long names, none cut off
    assert "cosine is -0.80" in fig12.sentence(moved) and "no interval" in fig12.sentence(moved)
    assert fig12.finding(moved) == (
        "Cooling takes most of the way back: projection 0.80 (the paper 0.89)"
    )
    assert verdicts(fig12.claims(moved)) == ["agrees", "agrees"]
    elsewhere = moved.assign(projection=0.1, residual_ratio=1.2)
    assert verdicts(fig12.claims(elsewhere)) == ["differs", "differs"]
    assert "does not take the way back" in fig12.finding(elsewhere)
    # What the text lost of the paper's four numbers follows from the two that it has.
    assert fig12.PAPER["cosine"] == pytest.approx(-0.88, abs=0.005)
    assert fig12.PAPER["norm_ratio"] == pytest.approx(1.015, abs=0.005)


def of_seeds(*frames):
    """What seeds 1, 2, … measured, as `Evidence.paths` or `Evidence.measured` has it."""
    return pd.concat([frame.assign(seed=i) for i, frame in enumerate(frames, 1)], ignore_index=True)


def test_of_several_seeds_every_one_is_drawn_and_the_interval_is_between_them():
    ends = 0.09, 0.10, 0.11  # t's quantile with 2 degrees of freedom: 4.303
    cooling = of_seeds(*(paths(reheated=[0.1, 0.15], cooled=[0.15, end]) for end in ends))
    figure = fig11.draw(cooling, 0.1, (1.2, 1 / 1.2))
    assert len(figure.axes[0].lines) == 3 + 3 + 1 and not figure.axes[0].collections  # no bands
    assert len(figure.legends[0].get_texts()) == 2  # a label for all of them
    assert "a line a seed" in figure.axes[0].get_ylabel()
    [claim] = fig11.claims(cooling)
    assert claim.here == "0.150 to 0.100 [0.075, 0.125] nats in 1 steps"
    assert claim.verdict == "agrees"
    assert ", means of 3 seeds, a fall as" in fig11.sentence(cooling)
    wide = of_seeds(*(paths(reheated=[0.1, 0.15], cooled=[0.15, e]) for e in (0.05, 0.10, 0.15)))
    assert verdicts(fig11.claims(wide)) == ["open"]


def test_a_rule_without_an_interval_is_open_where_seeds_differ():
    slow, fast = (path("long", [0.1 * by**step for step in range(40)]) for by in (1.03, 1.2))
    for both, verdict in (
        ((slow, slow), "differs"),
        ((fast, fast), "agrees"),
        ((slow, fast), "open"),
    ):
        assert verdicts(fig10.claims(of_seeds(*both))) == [verdict]
    assert "passes the recovery value at step 1 to 7" in fig10.sentence(of_seeds(slow, fast), 0.12)
    collapsed = path("collapsed", [0.1, 0.15, 0.2])
    runs, stays = (
        pd.concat([path("base", b), collapsed]) for b in ([0.2, 0.3, 0.4], [0.2, 0.2, 0.21])
    )
    assert verdicts(fig09.claims(of_seeds(runs, stays))) == ["open"]
    assert verdicts(fig09.claims(of_seeds(stays, stays))) == ["differs"]
    assert "may run away" in fig09.finding(of_seeds(runs, stays))
    assert "does not run away" in fig09.finding(of_seeds(stays, stays))
    assert "explodes on 1 of 2 seeds" in fig10.finding(of_seeds(slow, fast))
    near, far = (
        pd.concat([path(1.1, [0.1, 0.1]), path(1.5, [0.1, 0.1 + d])]) for d in (0.001, 0.02)
    )
    assert verdicts(fig08.claims(of_seeds(near, far))) == ["open"]
    assert "at most 0.020 nats" in fig08.claims(of_seeds(near, far))[0].here
    assert "hardly matters on 1 of 2 seeds" in fig08.finding(of_seeds(near, far))


def test_fig12_over_seeds_has_an_interval():
    moved = of_seeds(*(
        pd.DataFrame({"layer": ["1", "all"], "cosine": -0.8, "projection": along, "norm_ratio": 1.0,
                      "residual_ratio": 0.6, "weights": weights, "update": "cooled"})
        for along in (0.8, 0.9, 1.0) for weights in ("as saved",)
    ))  # fmt: skip
    moved = pd.concat([moved, moved.assign(weights="bfloat16")])
    along, rest = fig12.claims(moved)
    assert along.here == "90 [65, 115]% of the way" and along.verdict == "open"
    assert rest.here == "60% of the way remains" and rest.verdict == "agrees"
    assert "the projection 0.90 [0.65, 1.15]" in fig12.sentence(moved)
    assert "takes most of the way back: projection 0.90 [0.65, 1.15]" in fig12.finding(moved)
    wider = moved.assign(projection=moved["projection"] * moved["seed"] - 0.5)
    assert "may take the way back" in fig12.finding(wider)
    assert "no interval" not in fig12.sentence(moved)
    assert len(fig12.draw(moved).axes[0].lines[0].get_ydata()) == 3  # a mark a seed


def test_measurements_of_several_seeds_are_means_with_an_interval_between_seeds():
    cosines = 0.9990, 0.9992, 0.9994
    several = of_seeds(*map(cka, cosines))
    assert fig03._least(several)[1].value == pytest.approx(0.9992)
    assert "CKA 0.9992 [0.9987, 0.9997], above" in fig03.finding(several)
    assert "over 3 seeds" in fig03.sentence(several, "3 seeds")
    tokens = pd.DataFrame({"prompt": [1, 1, 2], "kl": 0.001, "entropy_change": 0.0, "overlap": 1.0,
                           "mass": 1.0})  # fmt: skip
    three = of_seeds(*(tokens.assign(kl=kl) for kl in (0.001, 0.002, 0.003)))
    assert (
        fig05.claims(three)[0].here == "0.002 [0.000, 0.004] nats a token"
    )  # t's own end is below 0
    assert ", means of 3 seeds" in fig05.sentence(three)


def test_table2_and_fig06_over_seeds():
    later = answers().replace({"checkpoint": {4: 5, 8: 10}}).assign(fork_position=10.0)
    one, other = (branching.summary(rows, resamples=50) for rows in (answers(), later))
    both = table2.together([one, other])
    assert list(both.index) == ["0", "4 to 5", "8 to 10"]
    assert both["fork position (tokens)"].iloc[-1].value == pytest.approx((12 + 10) / 2)
    shorter = table2.together([one, other.iloc[[0, 2]]])
    assert list(shorter.index) == ["0", "8 to 10"]  # both ends, where one path is too short
    said = table2.sentence(both, Estimate(-5, -20, 10), 2)
    assert (
        ", means of 2 seeds" in said
        and "not surely earlier; in the paper they do (-5 [-20, +10]%" in said
    )
    positions = of_seeds(*(
        branching.by_position(rows, least=10, resamples=50) for rows in (answers(), later)
    ))  # fmt: skip
    figure = fig06.draw(positions)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "the reheated policy, a line a seed"
    ]
    jumped = path("x", [0.01 * i + 0.5 * (i >= 6) for i in range(12)])
    smooth = path("x", [0.1, 0.12, 0.13, 0.15, 0.16, 0.18, 0.19, 0.21, 0.22, 0.24])
    found = fig06.jumps(of_seeds(jumped, smooth))
    assert list(found.index) == [1, 2] and verdicts(fig06.claims(found)) == ["open"]
    assert fig06.finding(positions, found).endswith("; a jump is open")


def test_fig13_counts_the_seeds_that_lose_their_reward():
    def steps(plain, hot=(0.9,) * 30):
        runs = {"Collapsed": [0.9] * 30, "+DAPO": plain, "+DAPO w/ PR-FKL": hot}
        return pd.concat(
            pd.DataFrame({"arm": arm, "step": range(first, first + 30), "reward": list(rewards),
                          "grad_norm": 0.3, "rollout_entropy": 0.05, "token_entropy": np.nan})
            for first, (arm, rewards) in zip((0, 30, 30), runs.items(), strict=True)
        )  # fmt: skip

    falls = steps([0.9] * 15 + [0.5] * 15)
    both = of_seeds(steps([0.9] * 30), falls)
    assert "plain RL loses its reward on 1 of 2 seeds" in fig13.finding(both, 16)
    assert verdicts(fig13.claims(both)) == ["open", "open"]
    one = of_seeds(steps([0.9] * 30), steps([0.9] * 30, [0.2] * 30))
    assert fig13.finding(one, 16).endswith("not regained on 1 of 2 seeds")
    assert verdicts(fig13.claims(of_seeds(falls, falls))) == ["agrees", "agrees"]
    assert fig13.claims(both)[0].here == (
        "reward 0.70 at the end, 0.90 at best, in 59 steps (means of 2 seeds)"
    )
    assert (
        len(fig13.draw(both).axes[2].lines) == 6 + 1
    )  # a line a seed and arm, and where arms part


def test_fig13_keeps_the_arms_apart():
    dynamics = pd.concat(
        [
            pd.DataFrame(
                {
                    "seed": 1,
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
    figure = fig13.draw(dynamics)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "until the arms part", "+DAPO", "+DAPO w/ PR-FKL",
    ]  # fmt: skip
    assert figure.axes[2].texts[-1].get_text() == "reheating:\n0.90 to 0.90"
    assert "1.0 times its median" in fig13.sentence(dynamics)


def test_fig13_is_open_on_what_so_few_steps_of_one_seed_cannot_say():
    def steps(plain, hot, count=30):
        arms = {"Collapsed": [0.9] * count, "+DAPO": plain, "+DAPO w/ PR-FKL": hot}
        return pd.concat(
            pd.DataFrame(
                {"seed": 1, "arm": arm, "step": range(first, first + count), "reward": rewards}
            )
            for first, (arm, rewards) in zip((0, count, count), arms.items(), strict=True)
        )

    stable, falls = [0.9] * 30, [0.9] * 15 + [0.5] * 15
    regained = [0.2] * 11 + [0.95] * 19
    found = {
        "stable": fig13.claims(steps(stable, regained)),
        "falls": fig13.claims(steps(falls, regained)),
        "both fall": fig13.claims(steps(falls, falls)),
        "long": fig13.claims(steps([0.9] * 120, [0.9] * 120, 120)),
    }
    assert {name: verdicts(claims) for name, claims in found.items()} == {
        "stable": ["open", "open"],
        "falls": ["agrees", "agrees"],
        "both fall": ["agrees", "differs"],
        "long": ["differs", "open"],
    }
    assert fig13.finding(steps(stable, regained), 64) == (
        "On 64 prompts plain RL stays stable; reheating takes reward to 0.20, regained in 11 steps"
    )
    said = fig13.finding(steps(falls, [0.2] * 30), 64)
    assert "loses its reward" in said and said.endswith("to 0.20, not regained")


def test_fig13_shows_the_steps_without_a_gradient():
    silent = pd.DataFrame(
        {
            "seed": 1,
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
    figure = fig13.draw(dynamics)
    assert "no gradient: all groups agree" in [t.get_text() for t in figure.legends[0].get_texts()]
    lines = figure.axes[1].lines
    assert [list(line.get_xdata()) for line in lines if line.get_marker() == "|"] == [
        [],
        [1, 3],
        [],
    ]
    said = fig13.sentence(dynamics, last=2)
    assert "the mean of its last 2 rewards is 0.500 where its highest was 0.900" in said
    assert "takes the reward on them from 0.50 to 0.90, regained in 0 steps" in said
    assert "In 50% of plain RL's steps, and 0% of the reheated arm's, all groups agree" in said


def gains(value, low, high):
    arms = ["+DAPO w/ RR", "+DAPO w/ PR-FKL"]
    cell = Estimate(value, low, high)
    return pd.DataFrame({"avg@8": [cell, cell], "pass@8": [cell, cell]}, index=arms)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((1, -1, 3), "holds 0, +2.06 (the paper's, 4B) and +2.33 (the paper's, 8B)"),
        (
            (0, -2, 2.3),
            "holds 0 and +2.06 (the paper's, 4B) and leaves out +2.33 (the paper's, 8B)",
        ),
        ((2, 0.2, 4), "holds +2.06 (the paper's, 4B) and +2.33 (the paper's, 8B) and leaves out 0"),
        ((-2, -3, -1), "leaves out 0, +2.06 (the paper's, 4B) and +2.33 (the paper's, 8B)"),
    ],
)
def test_the_headline_says_which_values_its_interval_holds(interval, words):
    by_seed = pd.DataFrame({1: -0.4, 2: 2.0}, index=["+DAPO w/ PR-FKL"])
    assert "By seed, avg@8: -0.4, +2.0." in headline.sentence(gains(*interval), by_seed)
    more = gains(*interval).rename(index={"+DAPO w/ RR": "+DAPO, equal tokens"})
    sentence = headline.sentence(pd.concat([gains(*interval), more.iloc[:1]]), by_seed[[1]])
    assert "By seed" not in sentence
    assert (
        "other arms' avg@8: RR " in sentence and ", equal tokens " in sentence
    )  # no control is left out
    assert f"an interval that {words}, and" in sentence


@pytest.mark.parametrize("number", [3, 4, 5])
def test_every_hyperparameter_of_the_paper_has_its_counterpart(number):
    table = hyperparameters.table(SMOKE, number, {"Total epochs": "7.3, 7.2"})
    assert (table["here"] != "").all()
    same = {3: "Clip ratio high", 4: "Teacher temperature", 5: "Samples per prompt"}[number]
    other = {3: "Learning rate", 4: "Precision", 5: "Max new tokens"}[number]
    assert table.loc[same, "differs"] == "" and table.loc[other, "differs"] == "≠"
    sentence = hyperparameters.sentence(table)
    assert other.lower() in sentence and same.lower() not in sentence


def test_table6_counts_answers_on_both_sides(tmp_path):
    def run(seconds, total):
        return type(
            "R",
            (),
            {
                "metrics": pd.DataFrame({"seconds": [np.nan, *seconds]}),
                "seconds": total,
            },
        )

    training = {"Collapsed": run([2.0, 4.0], 30), "+DAPO": run([3.0], 10)}
    table = table6.cost(training, run([4.0, 4.0], 20), SMOKE)
    answers = SMOKE.rl.batch_size * SMOKE.rl.responses_per_prompt
    assert table.loc["RL", "s a step"] == 3 and table.loc["RL", "steps"] == 3
    assert table.loc["RL", "s per 1,000 answers"] == pytest.approx(3000 / answers)
    assert table.loc["RL", "hours of steps"] == pytest.approx(9 / 3600)
    assert table.loc["RL", "hours in all"] == pytest.approx(40 / 3600)
    killed = table6.cost(training | {"+DAPO": run([3.0], np.nan)}, run([4.0, 4.0], 20), SMOKE)
    assert np.isnan(killed.loc["RL", "hours in all"]) and killed.loc["RL", "hours of steps"] > 0
    assert table.loc["OPSD", "share of RL (%)"] == pytest.approx(100 * 8 / 9)
    assert "take 89% of the time of RL's" in table6.sentence(table, 1)
    [claim] = table6.claims(Estimate(89, 89, 89))
    assert claim.verdict == "differs" and claim.here == "89% of RL's time (of all steps)"
    assert verdicts(table6.claims(Estimate(17, 17, 17))) == ["agrees"]
    [claim] = table6.claims(Estimate(17, 15, 19))
    assert claim.verdict == "open" and claim.here.startswith("17 [15, 19]% of RL's time")


def test_the_sentence_on_the_ood_suite_starts_from_the_base_and_shows_the_seeds():
    table = pd.DataFrame(
        {"avg@8": [Estimate(14, 12, 16), Estimate(11, 0, 31)]}, index=["Base", "Collapsed"]
    )
    said = ood.sentence(table, gains(2, -1, 7), pd.Series({1: 0.8, 2: 33.2, 3: 0.0}))
    assert "base policy gets 14.0 [12.0, 16.0]%" in said and "(by seed: 0.8, 33.2, 0.0)" in said
    assert "On problems of a kind that RL never trained on" in said
    assert "minus continued DAPO is then +2.0 [-1.0, +7.0] points, which holds 0" in said


def test_steps_of_one_run_are_not_taken_for_independent_seeds():
    """Fig. 2's reward gap: seeds that disagree widen the interval, however many steps there are."""
    steps = pd.MultiIndex.from_product([[1, 2, 3], range(20)], names=["seed", "step"]).to_frame(
        index=False
    )
    plain = steps.assign(arm="+DAPO", reward=0.5)
    hot = steps.assign(arm="+DAPO w/ PR-FKL", reward=0.5 + 0.1 * (steps["seed"] - 2))
    gap = fig02._reward_gap(pd.concat([plain, hot]), last=10)
    # t's, of three seeds: a bootstrap of so few covers 78% instead of 95.
    half = 4.303 * 0.1 / 3**0.5
    assert (gap.value, gap.low, gap.high) == pytest.approx((0, -half, half), abs=1e-4)


def test_the_page_holds_every_exhibit_and_asks_no_network(tmp_path):
    figure = Exhibit("fig03", "Fig. 3: layers", "05_internals", ("cka",), None, alt="A matrix.")
    table = Exhibit("table2", "Table 2: forks", "06_dynamics", (), None)
    run = type("Run", (), {"name": "cka-1"})
    rows = [(2, "cka", "", run)]
    behind = Evidence(pd.DataFrame(rows, columns=["seed", "role", "key", "run"]))
    drawn = Shown(
        figure=fig03.draw(cka(), "2 parts"),
        data=cka(),
        sentence="They agree.",
        more={"layers": cka()},
    )
    cells = pd.DataFrame({"a <b>": ["1 & 2"]}, index=["row"])
    for name, shown in (("fig03", drawn), ("table2", Shown(table=cells))):
        files.save(tmp_path, name, shown)
    written = page.write(
        tmp_path,
        About("smoke", [1, 2], "a model", executed={"05_internals": ["notebooks/seed2/05.ipynb"]}),
        [
            Placed(figure, drawn, behind),
            Placed(
                table, Shown(table=cells, sentence="They fork."), behind.of([], every_seed=True)
            ),
        ],
    ).read_text()
    assert 'aria-label="A matrix."' in written and "They fork." in written
    assert (
        "seeds 1, 2" in written and '<a href="notebooks/seed2/05.ipynb">executed, seed 2' in written
    )
    assert "a &lt;b&gt;" in written and "1 &amp; 2" in written
    assert 'href="runs/cka-1/run.json"' in written and 'href="tables/layers.csv"' in written
    assert "seed 2 ·" in written  # the one it was drawn from
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', written)
    twin = (tmp_path / "README.md").read_text()
    assert "![A matrix.](figures/fig03.png)" in twin and "| row | 1 & 2 |" in twin
    assert "[executed with seed 2](notebooks/seed2/05.ipynb)" in twin


def test_a_notebook_shows_picture_tables_paper_and_sentence_in_this_order():
    paper_says = pd.DataFrame({"CKA": [0.999]}, index=["8B"])
    shown = Shown(
        figure=fig03.draw(cka(), "2 parts"), data=cka(), sentence="So it is.", reported=paper_says,
        more={"layers": pd.DataFrame({"x": [0.123456]})},
    )  # fmt: skip
    kinds = [next(iter(bundle)) for bundle in shown.displays()]
    assert kinds == [
        "image/png", "text/markdown", "text/html", "text/markdown", "text/html", "text/markdown",
    ]  # fmt: skip
    texts = [bundle["text/plain"] for bundle in shown.displays()]
    assert "0.1235" in texts[2] and "0.999" in texts[4] and texts[5] == "> So it is."
    assert shown.displays() == shown.displays()  # the same picture to the last byte


def test_an_exhibit_is_one_module(tmp_path, monkeypatch):
    """A throw-away one: drawn for the page and shown in a notebook with nothing else touched."""

    def make(profile, evidence):
        frame = pd.DataFrame({"runs": [len(evidence.every("training"))]})
        return Shown(table=frame, sentence=f"{profile.name} has {frame['runs'].item()} runs.")

    ours = Exhibit("throwaway", "Ours: a count", "03_continue", ("training",), make)
    monkeypatch.setattr(registry, "EXHIBITS", [ours])
    index = pd.DataFrame(
        [
            (seed, "training", arm, type("Run", (), {"name": arm, "shortfalls": lambda **_: []}))
            for seed in (1, 2)
            for arm in "ab"
        ],
        columns=["seed", "role", "key", "run"],
    )
    monkeypatch.setattr(gallery, "ROOT", tmp_path)
    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setattr(roles, "published", lambda profile: Evidence(index))
    monkeypatch.setattr(roles, "settings", lambda profile: SMOKE)
    monkeypatch.setattr(roles, "made", lambda profile, roles: Evidence(index[:2]))
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    written = (exhibits.redraw("smoke") / "report.html").read_text()
    assert "smoke has 2 runs." in written and 'id="throwaway"' in written
    assert exhibits.show(SMOKE, "throwaway").sentence == "smoke has 2 runs."
    assert len(list(tmp_path.rglob("throwaway.csv"))) == 2
    with pytest.raises(ValueError, match="exhibit is 'fig8', which does not exist; use one of thr"):
        exhibits.show(SMOKE, "fig8")


def index(*rows):
    return Evidence(pd.DataFrame(rows, columns=["seed", "role", "key", "run"]))


def test_an_exhibit_of_one_seed_takes_the_first_that_has_all_its_runs():
    found = index(
        (1, "a", "x", 1), (2, "a", "x", 2), (2, "b", "", 3), (3, "a", "x", 4), (3, "b", "", 5)
    )
    assert found.of(["a", "b"], every_seed=False).by_key("a") == {"x": 2}
    assert found.of(["a", "b"], every_seed=True).every("a") == [2, 4]
    assert found.of(["a"], every_seed=False).seeds == [1]
    assert found.of(["c"], every_seed=False) is None and found.of([], every_seed=False) is not None


def test_every_exhibit_is_listed_once_and_asks_for_roles_that_exist():
    names = [exhibit.name for exhibit in registry.EXHIBITS]
    assert len(set(names)) == len(names) and {f"fig{i:02}" for i in range(1, 14)} <= set(names)
    assert {f"table{i}" for i in range(1, 7)} | {"learning", "reheating", "ood", "audit"} <= set(
        names
    )
    for exhibit in registry.EXHIBITS:
        assert set(exhibit.roles) <= {*roles.STUDY, *roles.ANALYSES}
        notebook = (params.ROOT / "notebooks" / f"{exhibit.notebook}.ipynb").read_text()
        assert f'exhibits.show(settings, \\"{exhibit.name}\\")' in notebook


def test_the_audits_sentence_counts_the_intervals_that_hold_0():
    said = audit.EXHIBIT.make(SMOKE, index()).sentence
    assert "12 of 12 intervals" in said
    assert "PR-FKL on Qwen3-4B-Base (avg@8 +2.06 [0.02, 4.10])" in said and "8B" not in said


def test_no_two_exhibits_write_one_file(tmp_path, monkeypatch):
    """Fig. A once wrote its gains over Fig. 1's."""
    shown = Shown(more={"gains": pd.DataFrame({"a": [1]})})
    one, other = (
        Exhibit(name=name, title=name, notebook="x", roles=(), make=lambda *_: shown)
        for name in ("fig01", "figA")
    )
    monkeypatch.setattr(gallery.registry, "EXHIBITS", [one, other])
    with pytest.raises(ValueError, match="two exhibits write the table 'gains'"):
        gallery.redraw("laptop", tmp_path)
