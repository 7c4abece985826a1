"""What arms gain with the seed as the unit: averaged checkpoints, tests, the sentence, the picture."""

import itertools

import numpy as np
import pandas as pd
import pytest

from companion import paired, params
from companion.analysis import accuracy, decided
from companion.exhibits import figA, figD, headline
from companion.study import arms, experiments
from companion.study.roles import Evidence

SUITES = {"in distribution": ["a", "b"], "out of distribution": ["c"]}
SEEDS = [1, 2, 3, 4, 5, 6]


def samples(right, checkpoints=1):
    """`right`: of eight samples of every problem, by (label, seed, suite); four problems a suite."""
    return pd.DataFrame(
        {"label": label + (f", checkpoint {c + 1} of {checkpoints}" if c < checkpoints - 1 else ""),
         "seed": seed, "suite": suite, "problem": f"p{p}", "sample": s,
         "correct": s < min(8, right(label, seed, suite) + p % 2 + c), "ended": True}
        for label, seed, suite, p, s, c in itertools.product(
            ["+DAPO", "+DAPO w/ PR-FKL"], SEEDS, "abc", range(4), range(8), range(checkpoints))
    )  # fmt: skip


def gains_two_points(label, seed, suite):
    return 2 + (2 if "FKL" in label and suite != "c" else 0)


def test_an_arm_is_the_mean_of_its_checkpoints_and_never_their_union():
    """pass@8 of two policies together would be that of sixteen samples."""
    rows = samples(lambda label, *_: 0, checkpoints=2)  # problems 0, 1, 0, 1; then one more each
    averaged = accuracy.averaged(rows, ["a"])
    assert averaged["+DAPO"]["a"].shape == (len(SEEDS), 4, 2, 8)
    table = accuracy.table(rows, ["a"], resamples=50)["Avg"].loc["+DAPO"]
    assert table["avg@8"].value == pytest.approx(100 * (0.5 / 8 + 1.5 / 8) / 2)
    assert table["pass@8"].value == pytest.approx(100 * (0.5 + 1) / 2)
    assert list(accuracy.cut(rows.assign(ended=False), ["a"]).index) == ["+DAPO", "+DAPO w/ PR-FKL"]


def test_gains_are_paired_by_seed_and_kept_apart_by_place():
    table, each = decided.against(samples(gains_two_points), SUITES, "+DAPO")
    gain, detectable = decided.of(table, "+DAPO w/ PR-FKL", "in distribution", "avg@8")
    assert (gain.value, detectable) == (pytest.approx(25), pytest.approx(0, abs=1e-9))
    assert decided.of(table, "+DAPO w/ PR-FKL", "out of distribution", "avg@8")[0].value == 0
    within = each[(each["place"] == "in distribution") & (each["metric"] == "avg@8")]
    assert list(within["seed"]) == SEEDS and np.allclose(within["gain"], 25)
    inside = table[table["place"] == "in distribution"].set_index("metric")
    assert (
        inside.loc["avg@8", "sign_flip"] == pytest.approx(2 / 2**6) == inside.loc["avg@8", "holm"]
    )


def test_detectable_is_of_the_seeds_own_spread():
    noisy = samples(lambda label, seed, _: 2 + (seed % 3 if "FKL" in label else 0))
    table, each = decided.against(noisy, SUITES, "+DAPO")
    gains = each[(each["place"] == "in distribution") & (each["metric"] == "avg@8")]["gain"]
    _, least = decided.of(table, "+DAPO w/ PR-FKL", "in distribution", "avg@8")
    assert least == pytest.approx(paired.smallest_detectable(gains.std(), len(SEEDS)))


def test_holm_is_over_the_arms_of_one_metric_and_place():
    rows = samples(gains_two_points)
    more = [rows[rows["label"] == "+DAPO w/ PR-FKL"].assign(label=f"x{i}") for i in range(3)]
    table, _ = decided.against(pd.concat([rows, *more]), SUITES, "+DAPO")
    inside = table[(table["place"] == "in distribution") & (table["metric"] == "avg@8")]
    assert np.allclose(inside["holm"], 4 * 2 / 2**6)


def test_the_sentence_follows_the_measurements():
    table, each = decided.against(samples(gains_two_points), SUITES, "+DAPO")
    said = figA.sentence(table, each)
    assert (
        "in distribution +25.0 [+25.0, +25.0] points of avg@8, an interval that leaves out 0"
        in said
    )
    assert "tells from 0: +DAPO w/ PR-FKL in distribution (+25.0" in said
    table, each = decided.against(samples(lambda *_: 2), SUITES, "+DAPO")
    said = figA.sentence(table, each)
    assert (
        "in distribution +0.0 [+0.0, +0.0] points of avg@8, an interval that holds 0 and leaves"
        in said
    )
    assert said.endswith("tells no arm from 0.")


def claims(monkeypatch, right, seeds=SEEDS):
    """The headline's claims on these samples, with RR as a third arm that is plain DAPO again."""
    monkeypatch.setattr(headline, "places", lambda _: SUITES)
    monkeypatch.setattr(headline.tasks, "suites", lambda _: SUITES["in distribution"])
    rows = samples(right)
    rr = rows[rows["label"] == arms.DAPO].assign(label="+DAPO w/ RR")
    rows = pd.concat([rows, rr], ignore_index=True)
    return headline.claims(params.load("laptop"), rows[rows["seed"].isin(seeds)])


def test_the_headlines_claims_follow_the_measurements(monkeypatch):
    better, than_rr = claims(monkeypatch, gains_two_points)
    assert better.here == "+25.0 [+25.0, +25.0] points (avg@8)" == than_rr.here
    assert better.paper == "+2.06 (4B), +2.33 (8B) points of accuracy"
    assert than_rr.paper == "+0.60 (4B), +0.67 (8B) points of accuracy"
    assert better.verdict == than_rr.verdict == "agrees"
    same = claims(monkeypatch, lambda *_: 2)
    assert [claim.verdict for claim in same] == ["differs", "differs"]
    noisy = claims(monkeypatch, lambda label, seed, _: 2 + (seed % 3 - 1 if "FKL" in label else 0))
    assert [claim.verdict for claim in noisy] == ["open", "open"]


def test_the_headlines_claim_is_what_fig_a_says(monkeypatch):
    """Of several seeds; of one it is the bootstrap over problems, which is narrower."""

    def uneven(label, seed, _):
        return 2 + (seed % 3 if "FKL" in label else 0)

    table, _ = decided.against(samples(uneven), SUITES, "+DAPO")
    gain, _ = decided.of(table, "+DAPO w/ PR-FKL", "in distribution", "avg@8")
    assert claims(monkeypatch, uneven)[0].here == f"{gain:+.1f} points (avg@8)"
    assert claims(monkeypatch, uneven, seeds=[1])[0].here == "+12.5 [+12.5, +12.5] points (avg@8)"


def test_fig_as_finding_counts_the_arms_that_are_told():
    table, _ = decided.against(samples(gains_two_points), SUITES, "+DAPO")
    assert figA.finding(table, len(SEEDS)) == (
        "1 of 1 arms is told from plain DAPO; PR-FKL +25.0 [+25.0, +25.0] points (the paper "
        "+2.1, +2.3)"
    )
    table, _ = decided.against(samples(lambda *_: 2), SUITES, "+DAPO")
    assert figA.finding(table, 3).startswith("3 seeds can tell no arm apart; PR-FKL +0.0 [")
    assert figA.can_tell(1, 6) and not figA.can_tell(2, 6)  # 2 / 64, which two arms double
    assert figA.finding(table, len(SEEDS)).startswith(
        "No arm is told from plain DAPO; PR-FKL +0.0 ["
    )


def test_of_one_seed_nothing_is_decided(monkeypatch):
    rows = samples(gains_two_points)
    monkeypatch.setattr(headline, "samples", lambda _: rows[rows["seed"] == 1])
    assert figA.make(params.load("laptop"), None) is None


def test_every_seed_is_drawn():
    table, each = decided.against(samples(gains_two_points), SUITES, "+DAPO")
    figure = figA.draw(table, each)
    assert [axis.get_title() for axis in figure.axes] == [
        "avg@8, in distribution", "avg@8, out of distribution",
        "pass@8, in distribution", "pass@8, out of distribution",
    ]  # fmt: skip
    diamonds = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata().round(2).tolist() for line in diamonds] == [[2.06, 2.33]]
    drawn = [line.get_xdata() for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert [len(x) for x in drawn] == [len(SEEDS)] and arms.DAPO not in set(table["policy"])


# --- Fig. D -----------------------------------------------------------------------------------


def rivals(frozen, scaled):
    """+DAPO, and beside it two arms whose samples of every problem are right so many times, by seed."""
    rows = samples(lambda *_: 4)
    plain = rows[rows["label"] == arms.DAPO]
    arm = {figD.FROZEN: frozen, figD.FIXED_POINT: scaled}
    more = [
        plain.assign(label=label, correct=plain["sample"] < 4 + plain["seed"].map(right))
        for label, right in arm.items()
    ]
    return pd.concat([plain, *more], ignore_index=True)


@pytest.mark.parametrize(
    ("apart", "verdict"), [(0, "are equivalent"), (1, "are not shown to be equivalent")]
)
def test_a_frozen_teacher_is_held_against_its_fixed_point(apart, verdict):
    rows = rivals(lambda seed: 1, lambda seed: 1 + apart)  # of eight: 12.5 points
    said = figD.distilling(rows, {"in distribution": ["a", "b"]})
    assert f"{verdict} within 1.5 points after RL ({0 - 12.5 * apart:+.1f} [" in said
    without = rows[rows["label"] != figD.FIXED_POINT]
    assert figD.distilling(without, {"in distribution": ["a", "b"]}) == ""


def test_rivals_stand_beside_the_studys_arms(monkeypatch):
    """A bonus has a name of its own, and the seeds that lack a rival do not count."""
    both = samples(gains_two_points)
    more = both[both["label"] == arms.DAPO].assign(label=experiments.bonus(0.01))
    monkeypatch.setattr(headline, "samples", lambda _: both)
    monkeypatch.setattr(headline, "places", lambda _: SUITES)
    monkeypatch.setattr(figD.collect, "samples", lambda _: more)
    evidence = Evidence(pd.DataFrame({"seed": SEEDS, "role": "rival_ends", "run": None}))
    shown = figD.make(params.load("laptop"), evidence)
    # Six seeds reach 2 / 64, which two arms double.
    assert "On the 6 seeds" in shown.sentence
    assert "avg@8 in distribution beside plain DAPO: PR-FKL +25.0 [" in shown.sentence
    assert "entropy bonus 0.01 +0.0 [" in shown.sentence
    labels = [label.get_text() for label in shown.figure.axes[0].get_yticklabels()]
    assert labels == ["PR-FKL", "entropy bonus 0.01"]
    lacking = pd.concat([more, more[more["seed"] == SEEDS[0]].assign(label=experiments.bonus(0.1))])
    monkeypatch.setattr(figD.collect, "samples", lambda _: lacking)
    drawn = figD.make(params.load("laptop"), evidence).figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in drawn] == labels  # a rival of one seed is no row
    assert (
        shown.finding
        == "PR-FKL ends highest; 6 seeds can tell no arm apart: +25.0 [+25.0, +25.0] points"
    )


def test_of_several_seeds_a_seed_is_the_unit_and_of_one_the_problems():
    rows = samples(gains_two_points)
    table, _ = decided.against(rows, {"x": ["a", "b"]}, "+DAPO")
    found = decided.gains(rows, ["a", "b"], "+DAPO")
    assert found.loc["+DAPO w/ PR-FKL"].tolist() == table["gain"].tolist()
    assert found.columns.tolist() == ["avg@8", "pass@8"]
    one = rows[rows["seed"] == 1]
    alone = accuracy.gains(one, ["a", "b"], "+DAPO")
    assert decided.gains(one, ["a", "b"], "+DAPO").equals(alone)
