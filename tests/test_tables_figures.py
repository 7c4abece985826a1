"""Tables and figures from hand-made measurements."""

import re

import numpy as np
import pandas as pd
import pytest

from companion import params, tasks
from companion.analysis import accuracy, collect
from companion.exhibits import (
    fig01,
    fig02,
    fig04,
    files,
    learning,
    limits,
    ood,
    reheating,
    style,
    table3,
    text,
)
from companion.statistics import Estimate
from companion.study import arms, roles
from companion.study.roles import Evidence

SUITES = ["easy", "hard"]


def samples(rates, seeds=(1,), problems=20, k=4):
    """Problem p of a policy is right in the first round(rate * k) of its k samples."""
    return pd.DataFrame(
        [
            {
                "label": label,
                "seed": seed,
                "suite": suite,
                "problem": f"p{problem:02d}",
                "sample": s,
                "correct": s < round(rate * k),
            }
            for label, rate in rates.items()
            for seed in seeds
            for suite in SUITES
            for problem in range(problems)
            for s in range(k)
        ]
    )


def test_numbers_without_an_interval_have_four_digits():
    shown = text.show(pd.DataFrame({"a": [40.625, 0.10142], "b": [12345.6, 0.0], "c": ["x", None]}))
    assert shown.drop(columns="c").to_dict("list") == {"a": [40.62, 0.1014], "b": [12346, 0]}


def test_table1_cells_by_hand():
    frame = samples({"Base": 0.25, "+DAPO": 0.75})
    frame.loc[(frame["label"] == "Base") & (frame["suite"] == "hard"), "correct"] = False
    table = accuracy.table(frame, SUITES)
    assert table.loc["Base", ("easy", "avg@4")].value == 25
    assert table.loc["Base", ("easy", "pass@4")].value == 100
    assert table.loc["Base", ("hard", "pass@4")].value == 0
    assert table.loc["Base", ("Avg", "avg@4")].value == 12.5
    assert table.loc["+DAPO", ("Avg", "pass@4")].value == 100


def test_the_order_of_samples_does_not_matter():
    frame = samples({"Base": 0.25, "+DAPO": 0.75}, seeds=(1, 2))
    shuffled = frame.sample(frac=1, random_state=0)
    ordered = collect.in_order(shuffled, ["Base", "+DAPO"])
    pd.testing.assert_frame_equal(
        text.show(accuracy.table(frame, SUITES)), text.show(accuracy.table(ordered, SUITES))
    )


def without(frame, **place):
    """The frame without the rows at this place."""
    here = np.logical_and.reduce([frame[name] == value for name, value in place.items()])
    return frame[~here]


def renamed(frame, label, **values):
    """The frame in which the first row of a policy stands elsewhere."""
    return frame.assign(
        **{
            name: frame[name].where(frame.index != frame.index[frame["label"] == label][0], value)
            for name, value in values.items()
        }
    )


PLACE = {"label": "b", "seed": 2, "suite": "hard", "problem": "p03"}
ODD = {
    "a lost sample": (
        lambda f: without(f, **PLACE, sample=1),
        "'b' of seed 2 lacks sample 1 of problem 'p03' in suite 'hard', which 'a' of seed 1 has",
    ),
    "a lost problem": (lambda f: without(f, **PLACE), "lacks sample 0 of problem 'p03'"),
    "fewer problems of one policy": (
        lambda f: without(f, label="b", problem="p03"),
        "'b' of seed 1 lacks sample 0 of problem 'p03' in suite 'easy'",
    ),
    "fewer samples of one policy": (
        lambda f: without(f, label="b", sample=3),
        "lacks sample 3 of problem 'p00'",
    ),
    "fewer samples of one problem": (
        lambda f: without(f, problem="p03", sample=3),
        "'a' of seed 1 lacks sample 3 of problem 'p03' in suite 'easy', which every problem has",
    ),
    "another problem": (
        lambda f: f.replace({"problem": {"p03": "p99"}}).where(f["label"] == "b", f),
        "lacks sample 0 of problem 'p03'",
    ),
    "another problem beside": (
        lambda f: pd.concat([f, f[f["label"] == "b"][:4].assign(problem="p99")]),
        "'b' of seed 1 has sample 0 of problem 'p99' in suite 'easy', which 'a' of seed 1 lacks",
    ),
    "a run twice": (
        lambda f: pd.concat([f, f[(f["label"] == "a") & (f["seed"] == 1)]]),
        "'a' of seed 1 has sample 0 of problem 'p00' in suite 'easy' twice; give each run once",
    ),
    "a sample twice": (lambda f: pd.concat([f, f[-1:]]), "has sample 3 .* in suite 'hard' twice"),
    "a lost seed": (lambda f: without(f, label="b", seed=2), "there is no 'b' of seed 2; evaluate"),
    "no such suite": (lambda f: without(f, suite="hard"), "no samples of suite 'hard'; evaluate"),
    "another prompt": (
        lambda f: renamed(f, "b", prompt="3 5 7 -> 37"),
        "problem 'p00' in suite 'easy' has more than one prompt; compare evaluations of the same",
    ),
    "another gold": (lambda f: renamed(f, "b", gold="37"), "has more than one gold"),
}


@pytest.mark.parametrize("odd", ODD)
def test_policies_that_were_not_asked_the_same_are_not_compared(odd):
    frame = samples({"a": 0.25, "b": 0.75}, seeds=(1, 2), problems=5)
    frame = frame.assign(prompt="3 5 7 -> 36", gold="36")
    accuracy.gains(frame, SUITES, against="a")
    change, sentence = ODD[odd]
    for measure in (
        accuracy.table,
        accuracy.by_seed,
        lambda *asked: accuracy.gains(*asked, against="a"),
    ):
        with pytest.raises(ValueError, match=sentence):
            measure(change(frame), SUITES)


def test_samples_are_paired_by_their_keys_and_not_by_their_places():
    """The same problems in another order, and of them other ones right."""
    frame = samples({"a": 0.5, "b": 0.5}, problems=4)
    right = frame["problem"].isin(["p00", "p01"])
    frame["correct"] = right.where(frame["label"] == "a", ~right)
    by_key = accuracy.joined(frame, SUITES)
    flipped = pd.concat([frame[frame["label"] == "a"], frame[frame["label"] == "b"][::-1]])
    for label, suites in accuracy.joined(flipped, SUITES).items():
        for suite, correct in suites.items():
            assert (correct == by_key[label][suite]).all()
    assert by_key["a"]["easy"][0, :, 0].tolist() == [True, True, False, False]
    assert by_key["b"]["easy"][0, :, 0].tolist() == [False, False, True, True]


def test_gains_are_against_the_named_policy_and_leave_it_out():
    gains = accuracy.gains(samples({"a": 0.25, "b": 0.75}), SUITES, against="a")
    assert list(gains.index) == ["b"]
    assert gains.loc["b", "avg@4"].value == 50 and gains.loc["b", "pass@4"].value == 0


def test_a_suite_that_is_left_out_has_nothing_to_show():
    few = params.load("smoke", {"task.leave_out": [tasks.ood(params.load("smoke"))]})
    assert ood.make(few, Evidence(pd.DataFrame(columns=["seed", "role", "key", "run"]))) is None


def test_the_path_loses_points_on_each_kind_of_suite_that_is_asked():
    frame = samples({"Collapsed": 0.75, "PR-FKL": 0.25})
    groups = {"in-domain": SUITES[:1], "out of distribution": SUITES[1:]}
    change = fig04.change(frame, groups)
    assert {name: row.value for name, row in change.items()} == {
        "in-domain": -50,
        "out of distribution": -50,
    }


def test_single_seeds_average_to_the_whole():
    frame = samples({"Base": 0.25, "+DAPO": 0.75}, seeds=(1, 2))
    frame.loc[(frame["seed"] == 2) & (frame["label"] == "Base"), "correct"] = False
    by_seed = accuracy.by_seed(frame, SUITES)
    assert by_seed.loc["Base"].to_dict() == {1: 25, 2: 0}
    whole = accuracy.table(frame, SUITES)["Avg", "avg@4"]
    for label in ("Base", "+DAPO"):
        assert by_seed.loc[label].mean() == pytest.approx(whole[label].value)


def test_tidy_keeps_every_number_and_csv_reads_back(tmp_path):
    table = accuracy.table(samples({"Base": 0.25, "+DAPO": 0.75}), SUITES)
    files.save_table(tmp_path, "table1", table)
    rows = pd.read_csv(tmp_path / "table1.csv")
    assert len(rows) == 2 * 3 * 2
    row = rows.query("policy == 'Base' and suite == 'easy' and metric == 'avg@4'").iloc[0]
    assert row["value"] == 25 and row["low"] <= 25 <= row["high"]
    assert "| Base" in (tmp_path / "table1.md").read_text()


def dynamics(seeds):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": seed,
                "step": step,
                "reward": rng.random(),
                "token_entropy": 0.3 / step if step % 5 == 0 else np.nan,
            }
            for arm in ("Collapsed", *arms.ARMS)
            for seed in seeds
            for step in range(1, 21)
        ]
    )


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_fig02_draws_every_arm_once_and_a_band_over_seeds(seeds):
    figure = fig02.draw(dynamics(seeds), 0.1, 0.15)
    rising, falling, reward, entropy = figure.axes
    stops = [line for line in rising.lines if line.get_marker() == "X"]
    assert len(stops) == len(seeds) and {line.get_xdata()[0] for line in stops} == {20}
    # Of rewards the raw line lies under the smoothed one; beside entropy's are the levels.
    assert len(rising.lines) == 3 * len(seeds) and len(falling.lines) == 2 * len(seeds) + 4
    assert len(reward.lines) == 2 * len(arms.ARMS) and len(entropy.lines) == len(arms.ARMS) + 2
    assert len(reward.collections) == (len(arms.ARMS) if len(seeds) > 1 else 0)
    assert "nats" in entropy.get_ylabel()


def test_fig02_counts_the_arms_steps_from_each_seeds_own_collapse():
    early, late = dynamics((1,)), dynamics((2,))
    late["step"] += 30
    both = fig02.draw(pd.concat([early, late]), 0.1, 0.15)
    one = fig02.draw(early, 0.1, 0.15)
    assert list(both.axes[2].lines[0].get_xdata()) == list(one.axes[2].lines[0].get_xdata())


def test_fig02_draws_no_reward_before_it_was_earned():
    """The line starts at the first step's own reward: 0.679 for PR-FKL, which 0.1.0 drew as 0.738."""
    steps = dynamics((1,))
    line = fig02.draw(steps, 0.1, 0.15).axes[2].lines[1]
    first = steps[steps["arm"] == arms.ARMS[0]]["reward"]
    assert line.get_ydata()[0] == first.iloc[0]
    assert line.get_ydata()[14] == pytest.approx(first.iloc[5:15].mean())


def test_fig02_judges_the_collapse_and_the_reward_after_it():
    steps = dynamics((1, 2))  # until 0.3 / 20 nats
    hot = steps["arm"] == "+DAPO w/ PR-FKL"
    plain = steps.loc[steps["arm"] == arms.DAPO, "reward"].to_numpy()

    def judged(shift, collapse):
        steps.loc[hot, "reward"] = plain + shift
        found = fig02.claims(steps, collapse)
        return [claim.verdict for claim in found], fig02.finding(steps)

    assert judged(0.1, 0.02)[0] == ["agrees", "agrees"]
    verdicts, said = judged(-0.1, 0.01)
    assert verdicts == ["differs", "differs"] and said.endswith("its reward is lower")
    late = (steps["seed"] == 2) & (steps["arm"] == "Collapsed")
    steps.loc[late, "token_entropy"] += 0.1
    verdicts, said = judged(0, 0.02)
    assert verdicts == ["open", "open"] and said.endswith("rewards are not told apart")
    assert said.startswith("When RL ends PR-FKL has 0.015 nats and plain DAPO 0.015;")


def test_fig02_says_for_how_long_rr_and_pr_scale_are_the_same():
    steps = dynamics((1, 2))
    rr, scale = (steps["arm"] == f"+DAPO w/ {name}" for name in ("RR", "PR-scale"))
    steps.loc[scale, "reward"] = steps.loc[rr, "reward"].to_numpy()
    steps.loc[scale & (steps["seed"] == 1) & (steps["step"].isin((5, 9))), "reward"] += 1e-9
    steps.loc[scale & (steps["seed"] == 2) & (steps["step"] == 8), "reward"] += 1e-9
    assert "their first 4, 7 rewards (by seed) are equal to the last digit" in fig02.sentence(steps)
    assert "optimisation" not in fig02.sentence(steps[~scale])


def test_table3_counts_the_epochs_that_ran_not_their_bound():
    """10.2 was the bound of the published seeds, of which 7.3, 7.2 and 5.9 ran."""
    published = roles.published("laptop")
    training = published.of(["training"], every_seed=True)
    found = table3.make(roles.settings("laptop"), training).table.loc["Total epochs"]
    assert found.tolist() == ["2", "7.3, 7.2, 5.9", "≠"]


def test_a_table_says_whose_answers_were_cut():
    frame = samples({"Base": 0.25, "+DAPO": 0.75}, seeds=(1, 2))
    cut = (frame["label"] == "Base") & (frame["suite"] == SUITES[0]) & (frame["sample"] == 0)
    shares = accuracy.cut(frame.assign(ended=~cut), SUITES)
    assert shares.loc["Base"].tolist() == [
        pytest.approx(25 / len(SUITES)),
        25,
        *[0] * (len(SUITES) - 1),
    ]
    assert shares.loc["+DAPO"].eq(0).all()
    said = limits.note(params.load("smoke"), shares)
    share = f"{25 / len(SUITES):.0f}"
    assert f"as they stand: Base {share}% of the answers (of the others' at most 0.0%)" in said
    assert limits.note(params.load("smoke"), shares / 4) == ""  # 5% and less are not said


def test_pass_at_k_goes_up_to_the_samples_of_a_problem():
    curve = accuracy.curve(samples({"Base": 0.25, "+DAPO": 0.75}, seeds=(1, 2)), SUITES)
    assert curve.columns.tolist() == ["pass@1", "pass@2", "pass@4"]
    assert curve["pass@1"].tolist() == [25, 75] and curve["pass@4"].tolist() == [100, 100]
    assert curve.loc["Base", "pass@2"] == pytest.approx(50)  # 1 - C(3, 2) / C(4, 2)


def test_what_rl_adds_is_against_the_policy_that_it_started_from():
    frame = samples({"Base": 0.25, "Collapsed": 0.5, "+DAPO": 0.75})
    table = learning.table(frame, SUITES, resamples=50)
    assert [round(cell.value, 6) for cell in table["avg@4"]] == [25, 25]
    said = learning.sentence(table, 50)
    assert "RL adds +25.0 [" in said and "50 further steps of plain DAPO add +25.0 [" in said
    assert "+11.75 and +7.34 (4B) and +16.41 and +16.57 (8B)" in said
    [claim] = learning.claims(table)
    assert claim.paper == "+11.75 (4B), +16.41 (8B) points of accuracy"
    assert claim.here == "+25.0 [+25.0, +25.0] points (avg@4)" and claim.verdict == "agrees"
    lost = learning.table(frame.replace({"Base": "Collapsed", "Collapsed": "Base"}), SUITES, 50)
    assert learning.claims(lost)[0].verdict == "differs"


@pytest.mark.parametrize(
    ("change", "verdict"),
    [((-0.5, -1, 0), "agrees"), ((-10, -13, -7), "differs"), ((-1, -3, 1), "open")],
)
def test_reheating_is_free_only_if_it_is_shown_to_be(change, verdict):
    cost = pd.DataFrame({"avg@8": [Estimate(*change)]}, index=["PR-FKL"])
    [claim] = reheating.claims(cost)
    assert claim.verdict == verdict and claim.here.endswith("points (avg@8)")


def test_fig1_marks_each_gain_with_its_interval(tmp_path):
    rates = {arm: 0.25 + 0.25 * (i % 3) for i, arm in enumerate(arms.ARMS)}
    gains = accuracy.gains(samples(rates), SUITES, against=arms.DAPO)
    figure = fig01.draw(gains, 1.2)
    papers = [line for line in figure.axes[2].lines if line.get_marker() == "D"]
    assert [line.get_ydata().tolist() for line in papers] == []  # of avg@4 it has none
    assert [t.get_text() for t in figure.axes[2].get_yticklabels()] == [
        arm.removeprefix("+DAPO w/ ") for arm in arms.ARMS[1:]
    ]
    files.save_figure(tmp_path, "fig01", figure, text.tidy(gains))
    assert {p.name for p in tmp_path.iterdir()} == {"fig01.png", "fig01.svg", "fig01.csv"}


def test_svg_is_the_same_twice_and_on_another_machine(tmp_path):
    for name in ("one", "two"):
        figure = fig02.draw(dynamics((1,)), 0.1, 0.15)
        files.save_figure(tmp_path, name, figure, dynamics((1,)))
    svg = (tmp_path / "one.svg").read_text()
    assert svg == (tmp_path / "two.svg").read_text()
    assert set(re.findall('font-family: ([^;"]+)', svg)) == {"'DejaVu Sans'"}


def test_every_arm_has_its_own_colour():
    colours = [style.COLOURS[arm] for arm in arms.ARMS]
    assert len(set(colours)) == len(colours)
