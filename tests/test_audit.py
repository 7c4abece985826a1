"""The paper's numbers as files, and the audit of them, against hand-computed values."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.stats import binomtest

from companion import paper
from companion.analysis import audit, noise
from companion.params import ROOT

FILES = sorted((ROOT / "results" / "paper").glob("*.csv"))
DAPO, RR, RKL, FKL = "+DAPO", "+DAPO w/ RR", "+DAPO w/ PR-RKL", "+DAPO w/ PR-FKL"
M4, M8 = "Qwen3-4B-Base", "Qwen3-8B-Base"


def table1(*rows):
    """Table 1 with the given (arm, benchmark, avg@8, pass@8) rows of one model."""
    columns = ["model", "arm", "benchmark", "avg@8", "pass@8"]
    return pd.DataFrame([("M", *row) for row in rows], columns=columns)


def suites(arm, avg, solved):
    """An arm with the same score in all five suites, as its average too."""
    return [(arm, suite, avg, solved) for suite in [*audit.PROBLEMS, "Avg"]]


# The files


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_csv_parses_without_duplicates_and_with_finite_numbers(file):
    table = pd.read_csv(file)
    assert len(table) and not table.duplicated().any()
    numbers = table.select_dtypes("number")
    assert np.isfinite(numbers.stack().dropna()).all()


def test_every_table_and_the_text_are_there():
    assert [file.stem for file in FILES] == [*(f"table{n}" for n in range(1, 7)), "text"]
    assert paper.table2().shape == (7, 4) and paper.table6().shape == (4, 8)
    assert set(paper.hyperparameters()["table"]) == {3, 4, 5}


@pytest.mark.parametrize("table", [paper.hyperparameters(), paper.text()])
def test_a_missing_value_is_explained(table):
    notes = table.loc[table["value"].isna(), "note"]
    assert len(notes) and notes.str.contains("lost in the text|not in the table").all()


def test_text_names_each_number_once_with_a_known_relation_and_unit():
    text = paper.text()
    assert not text.duplicated(["location", "quantity", "model"]).any()
    assert set(text["relation"]) == {"=", "~", "<", ">"}
    assert text.loc[text["value"].notna(), "unit"].notna().all()
    ranges = text.dropna(subset="value_high")
    assert (ranges["value"] < ranges["value_high"]).all()


def test_only_overhead_of_rl_is_missing_in_the_numeric_tables():
    assert paper.table1().notna().all(axis=None) and paper.table2().notna().all(axis=None)
    cost = paper.table6()
    assert cost.drop(columns="overhead_percent").notna().all(axis=None)
    assert (cost["overhead_percent"].isna() == (cost["stage"] == "RL")).all()


# Averages, grid, exceptions


def test_one_of_twenty_averages_disagrees():
    table = audit.averages(paper.table1())
    odd = table[~table["agrees"]]
    assert len(table) == 20 and len(odd) == 1
    assert tuple(odd.iloc[0][["model", "arm", "metric"]]) == (M8, DAPO, "avg@8")
    # 87.65 + 24.58 + 23.33 + 25.42 + 10.25 = 171.23
    assert odd.iloc[0]["recomputed"] == pytest.approx(34.246)
    assert odd.iloc[0]["difference"] == pytest.approx(0.024)


@pytest.mark.parametrize(("reported", "agrees"), [(20.01, True), (19.99, True), (20.02, False)])
def test_average_agrees_up_to_rounding(reported, agrees):
    rows = [("a", suite, 20.0, 50.0) for suite in audit.PROBLEMS]
    table = audit.averages(table1(*rows, ("a", "Avg", reported, 50.0)))
    assert table["agrees"].tolist() == [agrees, True]


def test_one_cell_is_off_the_grid():
    table = audit.off_grid(paper.table1())
    assert table[["model", "arm", "benchmark", "metric"]].values.tolist() == [
        [M8, FKL, "OlymMATH", "avg@8"]
    ]
    assert table["value"].item() == 11.93 and table["nearest"].item() == 100 * 191 / 1600


def test_grid_by_hand():
    """One answer of 240 is 0.4167 %, one problem of 30 is 3.3333 %."""
    assert audit.off_grid(table1(("a", "AIME24", 0.42, 3.33))).empty
    odd = audit.off_grid(table1(("a", "AIME24", 0.43, 3.35)))
    assert odd["nearest"].tolist() == pytest.approx([100 / 240, 100 / 30])


def test_solved_problems_and_right_answers_are_compatible():
    """A solved problem has one to eight right answers."""
    table = paper.table1()
    assert (table["avg@8"] <= table["pass@8"]).all()
    assert (table["pass@8"] <= 8 * table["avg@8"]).all()


def test_pr_fkl_does_not_always_beat_pr_rkl():
    table = audit.exceptions(paper.table1(), FKL, RKL)
    assert table.values.tolist() == [
        [M4, "AIME24", "avg@8", 24.17, 25.00, -0.83],
        [M8, "AIME26", "avg@8", 25.00, 25.83, -0.83],
        [M4, "AIME24", "pass@8", 43.33, 43.33, 0.0],
        [M4, "AIME26", "pass@8", 30.00, 33.33, -3.33],
    ]


def test_pr_rkl_is_below_dapo_in_average_pass_at_8():
    table = audit.exceptions(paper.table1(), RKL, DAPO).query("benchmark == 'Avg'")
    assert table.values.tolist() == [[M8, "Avg", "pass@8", 50.12, 51.60, -1.48]]


def test_exceptions_by_hand():
    ours = [("a", "AIME24", 1, 2), ("a", "AIME25", 3, 3)]
    theirs = [("b", "AIME24", 2, 1), ("b", "AIME25", 2, 3)]
    table = audit.exceptions(table1(*ours, *theirs), "a", "b")
    assert table[["benchmark", "metric", "difference"]].values.tolist() == [
        ["AIME24", "avg@8", -1],
        ["AIME25", "pass@8", 0],
    ]


# Noise


def test_trials_by_hand():
    """30 problems, a quarter of the answers right, half of the problems solved."""
    table = noise.spreads(table1(("a", "AIME24", 25.0, 50.0))).set_index("spread")
    always = (8 * 0.25 - 0.5) / 7
    least = 0.5 * 0.5**2 - 0.25**2  # half of the problems score 1/2
    most = always + (0.5 - always) / 64 - 0.25**2
    within = (0.5 * 0.5 * 0.5) * 8 / 7  # variance of an answer; 8/7 unbiased
    variances = {
        "known": 0.5 * 0.5,
        "least": 0.25 * 0.75 / 8,
        "most": 0.25 * 0.75,
        "least given pass@8": least,
        "most given pass@8": most,
        "problems held fixed": within / 8,
    }
    for spread, variance in variances.items():
        share = table.loc[spread, "value"] / 100
        assert share * (1 - share) / table.loc[spread, "trials"] == pytest.approx(variance / 30)


@given(npst.arrays(int, st.integers(2, 60), elements=st.integers(0, 8)))
def test_spreads_bound_the_variance_of_any_scores(right):
    """For problems with any numbers of right answers, by what avg@8 and pass@8 tell of them."""
    scores = right / 8
    mean, solved = scores.mean(), (scores > 0).mean()
    assume(0 < mean < solved < 1)
    table = noise.spreads(table1(("a", "AIME24", 100 * mean, 100 * solved)))
    trials = table.set_index("spread")["trials"] / 30
    variance = mean * (1 - mean) / trials
    slack = 1e-9
    assert variance["least given pass@8"] - slack <= scores.var()
    assert scores.var() <= variance["most given pass@8"] + slack
    assert variance["most given pass@8"] <= variance["most"] + slack
    assert (scores * (1 - scores)).mean() / 7 <= variance["problems held fixed"] + slack


def test_spreads_of_the_paper_run_from_least_to_most():
    table = noise.spreads(paper.table1()).query("metric == 'avg@8'")
    wide = table.pivot(index=["model", "arm", "benchmark"], columns="spread", values="trials")
    order = ["most", "most given pass@8", "least given pass@8", "least"]
    assert len(wide) == 50 and (wide[order].diff(axis=1).iloc[:, 1:] > 0).all(axis=None)


@pytest.mark.parametrize(("right", "trials"), [(0, 30), (8, 30), (200, 200), (12, 240)])
def test_wilson_is_scipys(right, trials):
    expected = binomtest(right, trials).proportion_ci(method="wilson")
    assert noise.wilson(right / trials, trials) == pytest.approx(tuple(expected), abs=1e-6)


def test_intervals_of_the_paper_hold_their_values():
    table = noise.intervals(paper.table1())
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    dapo = table.query(f"model == '{M8}' and arm == '{DAPO}' and benchmark == 'AIME24'")
    expected = binomtest(15, 30).proportion_ci(method="wilson")  # pass@8 is 50 %
    low, high = dapo.loc[dapo["spread"] == "known", ["low", "high"]].iloc[0]
    assert (low / 100, high / 100) == pytest.approx(tuple(expected), abs=1e-6)


def test_macro_interval_by_hand():
    table = noise.macro_intervals(table1(*suites("a", 20.0, 50.0))).set_index("spread")
    inverse = 1 / 500 + 3 / 30 + 1 / 200
    assert table.loc["known", "error"] == pytest.approx(100 * math.sqrt(0.25 * inverse) / 5)
    assert table.loc["most", "error"] == pytest.approx(100 * math.sqrt(0.16 * inverse) / 5)
    least = 100 * math.sqrt(0.16 * inverse / 8) / 5
    assert table.loc["least", "error"] == pytest.approx(least)
    assert table.loc["least", "low"] == pytest.approx(20 - 1.96 * least, abs=1e-3)


def test_gains_by_hand():
    rows = [*suites(DAPO, 20.0, 50.0), *suites(RR, 30.0, 50.0), *suites("Base", 10.0, 50.0)]
    gains = noise.gains(table1(*rows)).set_index("spread")
    assert set(gains["arm"]) == {RR}
    error = 20 * math.sqrt((0.16 + 0.21) * (1 / 500 + 3 / 30 + 1 / 200))
    assert gains.loc["most", "difference"] == pytest.approx(10)
    assert gains.loc["most", "error"] == pytest.approx(error)
    assert gains.loc["most", "high"] == pytest.approx(10 + 1.96 * error, abs=1e-3)


def test_no_gain_of_the_paper_exceeds_the_noise_between_problems():
    gains = noise.gains(paper.table1())
    between = gains[gains["spread"] != "problems held fixed"]
    assert len(between) == 2 * 3 * 5  # models, arms, and four spreads of avg@8, one of pass@8
    assert ((between["low"] < 0) & (between["high"] > 0)).all()


# Appendix E


def test_geometry_of_appendix_e():
    found = audit.geometry(0.89, 0.5)
    assert found.norm_ratio == pytest.approx(math.sqrt(1.03))
    assert found.cosine == pytest.approx(-0.89 / math.sqrt(1.03))
    assert found.along == pytest.approx(0.11)
    assert found.across == pytest.approx(math.sqrt(0.25 - 0.0121))


def test_exact_inverse_leaves_nothing():
    assert audit.geometry(1, 0) == audit.Geometry(1, -1, 0, 0)


@given(
    npst.arrays(float, 4, elements=st.floats(-10, 10)),
    npst.arrays(float, 4, elements=st.floats(-10, 10)),
)
def test_geometry_gives_vectors_back(high, low):
    size, other = np.linalg.norm(high), np.linalg.norm(low)
    assume(size > 1e-2 and other > 1e-2)
    cosine = low @ high / (size * other)
    assume(abs(cosine) < 0.999)  # else rounding decides whether the input is possible
    projection, residual = -(low @ high) / size**2, np.linalg.norm(high + low) / size
    found = audit.geometry(projection, residual)
    assert found.norm_ratio == pytest.approx(other / size, rel=1e-6)
    assert found.cosine == pytest.approx(cosine, abs=1e-6)
    assert math.hypot(found.along, found.across) == pytest.approx(residual)


@pytest.mark.parametrize(
    ("projection", "residual"),
    [
        (0.0, 0.5),  # negative under the root
        (0.3, 0.65),  # |cosine| > 1
        (1.0, -0.5),
        (0.0, 1.0),
        (math.nan, 0.5),
        (0.89, math.inf),
        (math.inf, math.inf),
    ],
)
def test_impossible_geometry_is_refused(projection, residual):
    with pytest.raises(ValueError, match="residual .* is impossible with projection"):
        audit.geometry(projection, residual)


# Cost, epochs, Table 2


def test_table6_is_consistent_up_to_rounding():
    table = audit.cost(paper.table6())
    small = table["quantity"].str.contains("seconds")
    tolerance = np.where(small, 0.5, 0.05)
    assert len(table) == 8
    assert ((table["reported"] - table["recomputed"]).abs() <= tolerance).all()
    assert table.loc[small, "recomputed"].tolist() == [1035 / 16, 1370 / 16]


def test_used_steps_cost_less_than_charged_for_4b():
    table = audit.used_cost(paper.table6(), paper.text()).set_index("model")
    assert table.loc[M4, "used_hours"] == pytest.approx(6 * 1035 / 3600)
    assert table.loc[M4, "used_overhead_percent"] == pytest.approx(6.2, abs=0.01)
    assert table.loc[M8, "used_steps"] == table.loc[M8, "charged_steps"] == 15


def test_a_response_of_opsd_is_dearer_than_one_of_rl():
    table = audit.seconds_per_response(paper.table6(), 8).set_index("model")
    assert table.loc[M4].tolist() == pytest.approx([1035 / 1024, 200 / 512])
    assert (table["OPSD"] > table["RL"]).all()


def test_the_data_scarce_run_passes_its_prompts_more_than_twice():
    table = audit.epochs(paper.table6(), paper.text()).set_index("run")
    assert table.loc["data-scarce", "epochs"] == 200 * 64 / 2048 == 6.25
    assert table.loc["main", "epochs"] == pytest.approx(32 / 17)


def test_changes_by_hand():
    table = audit.changes(paper.table2())
    assert table.loc["Ckpt-9"].tolist() == [0.01, -6.5, 0.0125]
    assert table.loc["Ckpt-6"].tolist() == [0.01, -5.3, 0.0052]


# Bad input


def test_unknown_arms_and_benchmarks_are_refused():
    known = table1(("a", "AIME24", 25.0, 50.0))
    with pytest.raises(ValueError, match="arm 'PR-XKL' is not in Table 1"):
        audit.exceptions(known, "a", "PR-XKL")
    with pytest.raises(ValueError, match="arm '\\+DAPO' is not in Table 1"):
        noise.gains(known)
    for check in (audit.off_grid, noise.spreads):
        with pytest.raises(ValueError, match="GSM8K.* is unknown"):
            check(table1(("a", "GSM8K", 25.0, 50.0)))


def test_the_papers_own_model_has_all_its_benchmarks_beside_it():
    beside = paper.table1_beside("Qwen/Qwen3-8B-Base@main")
    assert beside.loc[FKL, ("Avg", "avg@8")] == 36.60 and beside.shape[1] == 12
    assert list(beside.columns.get_level_values(0)[:3]) == ["Avg", "Avg", "MATH-500"]
    assert paper.table1_beside("results/checkpoints/countdown-base").equals(paper.table1_average())
