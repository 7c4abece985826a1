"""Fig. C from hand-made runs, whose numbers can be worked out on paper."""

import numpy as np
import pandas as pd
import pytest
from hand_made import PROFILE, run

from companion import paired, params, runs, tasks
from companion.analysis import frontier
from companion.exhibits import figC
from companion.exhibits.figC import IN, OUT
from companion.statistics import Estimate
from companion.study.roles import Evidence

SUITES, OOD = tasks.suites(PROFILE), tasks.ood(PROFILE)
GROUPS = {IN: SUITES, OUT: [OOD]}

# Of four samples to each of two problems: how many are right, in distribution and out of it.
COUNTS = {
    "Base": (0.30, (2, 1), (2, 1)),
    "Collapsed": (0.10, (4, 2), (0, 0)),
    "scaling 1.2": (0.20, (4, 0), (0, 0)),
    "scaling 1.5": (0.40, (0, 0), (0, 0)),
    "frozen step 3": (0.15, (4, 2), (0, 0)),
    "frozen step 6": (0.20, (3, 1), (0, 0)),
    "live step 2": (0.12, (2, 2), (0, 0)),
    "live step 4": (0.16, (2, 0), (0, 0)),
    "merge 0.2": (0.14, (4, 3), (1, 0)),
    "merge 0.5": (0.18, (4, 1), (3, 2)),
}


def samples(inside, outside):
    return pd.DataFrame(
        {"suite": suite, "problem": f"p{p}", "sample": s, "correct": s < right, "prompt": f"{p}",
         "gold": f"{p}", "ended": s > 0}
        for suite in (*SUITES, OOD)
        for p, right in enumerate(outside if suite == OOD else inside)
        for s in range(4)
    )  # fmt: skip


def made(root, counts=COUNTS, seed=7, **settings):
    """Evaluations of the role, by key."""
    asked = {"label": "", "data": "a", "samples": 4, "temperature": 1.0, "top_p": 0.7} | settings
    profile = params.change(PROFILE, {"seed": seed})
    return {
        key: run(profile, root, "evaluate", f"{i}-seed{seed}", asked | {"label": key},
                 samples=samples(inside, outside), entropy=entropy)
        for i, (key, (entropy, inside, outside)) in enumerate(counts.items())
    }  # fmt: skip


def evidence(*seeds):
    rows = [
        (seed, "frontier", key, run) for seed, runs in enumerate(seeds, 1) for key, run in runs.items()
    ]  # fmt: skip
    return Evidence(pd.DataFrame(rows, columns=["seed", "role", "key", "run"]))


@pytest.fixture(autouse=True)
def without_git(monkeypatch):
    here = {"git": {"revision": "a", "dirty": False}, "versions": {}, "hardware": {}}
    monkeypatch.setattr(runs, "provenance", lambda: here)  # git takes its time


@pytest.fixture
def policies(place):
    return frontier.read(made(place), [*SUITES, OOD])[0]


def values(scores, metric, suite):
    return scores[metric][suite].tolist()


def test_each_policys_point_is_what_its_samples_say(policies):
    drawn = frontier.points(policies, GROUPS).set_index(["key", "place", "metric"]).sort_index()
    shown = drawn.loc["merge 0.5", "value"].to_dict()
    assert shown == pytest.approx(
        {(IN, "avg"): 62.5, (IN, "pass"): 100, (OUT, "avg"): 62.5, (OUT, "pass"): 100}
    )
    assert drawn.loc[("live step 4", IN), "value"].tolist() == [25, 50]
    assert drawn.loc[("Base", OUT, "avg"), ["way", "entropy"]].tolist() == ["Base", 0.3]
    assert (drawn["low"] <= drawn["value"]).all() and (drawn["value"] <= drawn["high"]).all()


def test_pass_at_k_is_of_all_the_samples_and_no_other_k(policies):
    first = next(policy for policy in policies if policy.key == "merge 0.2")
    assert values(first.scores, "pass", OOD) == [[1.0, 0.0]]
    assert values(first.scores, "avg", OOD) == [[0.25, 0.0]]


def test_ways_are_compared_where_all_of_them_have_been(policies):
    assert frontier.level(policies) == 0.16  # where the live one ends
    shorter = [p for p in policies if p.key not in ("frozen step 6", "live step 4")]
    assert frontier.level(shorter) == 0.12


def test_between_two_policies_a_way_lies_in_proportion(policies):
    """Scaling has 0.10 and 0.20 nats, so that 0.16 is six tenths of the way."""
    scaled = frontier.at(policies, "scaling", 0.16)
    assert np.allclose(scaled["avg"][SUITES[0]], [[1, 0.4 * 0.5]])
    assert np.allclose(scaled["pass"][SUITES[0]], [[1, 0.4]])
    assert np.allclose(frontier.at(policies, "merge", 0.16)["avg"][OOD], [[0.5, 0.25]])
    for policy in policies[2:]:  # at a policy's own entropy its own numbers
        assert np.allclose(
            frontier.at(policies, policy.way, policy.entropy)["avg"][OOD], policy.scores["avg"][OOD]
        )
    assert np.allclose(frontier.at(policies, "live", 9)["avg"][SUITES[0]], [[0.5, 0]])  # its end


def test_a_way_is_followed_by_entropy_whatever_the_order_of_its_keys(policies):
    for order in (policies, policies[::-1]):
        keys = [policy.key for policy in frontier.way(order, "frozen")]
        assert keys == ["Collapsed", "frozen step 3", "frozen step 6"]
        frozen = frontier.at(order, "frozen", 0.16)["avg"][SUITES[0]]
        assert np.allclose(frozen, [[0.95, 0.45]])  # a fifth of the way to (3, 1)


def test_what_each_way_changes_is_paired_with_the_collapsed_policy(policies):
    table = frontier.compared([policies], GROUPS, 200)
    change = {way: table.loc[way, (IN, "avg")].value for way in table.index}
    frozen = (100 + 50) / 2 - 0.2 * 25  # a fifth of the way to (3, 1)
    assert change == pytest.approx({
        "scaling": -15, "frozen": frozen - 75, "live": -50, "merge": 0, "merge - scaling": 15,
    })  # fmt: skip
    assert table.loc["merge", (OUT, "pass")].value == pytest.approx(75)
    assert table.loc["scaling", (OUT, "pass")] == Estimate(0, 0, 0)


def test_seeds_are_compared_each_at_its_own_entropy_with_the_spread_of_seeds(place, policies):
    other = {
        key: (entropy + 0.01, *counts) for key, (entropy, *counts) in COUNTS.items()
    } | {"live step 9": (0.19, (0, 0), (0, 0))}  # fmt: skip
    second, _ = frontier.read(made(place, other, seed=8), [*SUITES, OOD])
    assert frontier.level(second) == 0.19
    table = frontier.compared([policies, second], GROUPS)
    rows = [frontier.at(policies, "merge", 0.16), frontier.at(second, "merge", 0.19)]
    ours = {s: np.concatenate([row["avg"][s] for row in rows]) for s in SUITES}
    start = {s: np.array([[1, 0.5]] * 2) for s in SUITES}
    assert table.loc["merge", (IN, "avg")] == paired.difference(ours, start)
    mean = frontier.together([policies, second])
    assert [p.key for p in mean] == [p.key for p in frontier.together([policies])]  # one live more
    assert next(p for p in mean if p.key == "Base").entropy == pytest.approx(0.305)
    assert next(p for p in mean if p.key == "live step 4").scores["avg"][OOD].shape == (2, 2)


def test_policies_that_were_not_asked_the_same_are_refused(place):
    found = made(place)
    others = made(place, {"merge 0.5": COUNTS["merge 0.5"]}, data="b")
    with pytest.raises(ValueError, match="2 sets of problems or numbers of samples"):
        frontier.read(found | others, SUITES)


def test_seeds_with_other_problems_are_refused(policies):
    few = {metric: {suite: np.ones((1, 3)) for suite in SUITES} for metric in ("avg", "pass")}
    with pytest.raises(ValueError, match="problems; evaluate them on the same"):
        frontier.stacked([policies[0].scores, few])


def test_the_sentence_follows_the_data(place):
    shown = figC.make(PROFILE, evidence(made(place)))
    said = shown.sentence
    assert (
        "At 0.160 nats, which PR-FKL reached, avg@4 in distribution changes from 75.0% by " in said
    )
    assert shown.finding.startswith("At 0.160 nats merging gains on scaling: +15.0 [")
    assert "-15.0 [-24.0, -5.9] (scaling)" in said and "+0.0 [+0.0, +0.0] (merging) points" in said
    assert "pass@4 out of distribution changes from 0.0% by +0.0 [+0.0, +0.0] (scaling)" in said
    assert "(the base has 100.0%)" in said
    assert "Against scaling, merging has +15.0 [" in said
    assert "] points of avg@4 in distribution, which leaves out 0, and +75.0 [" in said
    assert "] points of pass@4 out of distribution, which leaves out 0; the paper" in said
    lost = COUNTS | {
        "merge 0.2": (0.14, (0, 0), (0, 0)),
        "merge 0.5": (0.18, (0, 0), (0, 0)),
        "frozen step 6": (0.15, (4, 2), (0, 0)),
    }
    other = figC.make(PROFILE, evidence(made(place, lost, data="b"))).sentence
    assert "At 0.150 nats, all that each reaches (0.160: PR-FKL)" in other
    assert "-75.0 [-90.1, -60.0] (merging) points" in other
    assert "+0.0 [+0.0, +0.0] points of pass@4 out of distribution, which holds 0" in other


def test_the_picture_has_a_line_a_way_and_every_seed_where_there_are_several(place):
    def lines(shown):
        """Of each panel, the lines that are no dots, interval or mark of the level."""
        return [
            sum(line.get_linestyle() == "-" and line.get_marker() == "None" for line in axis.lines)
            for axis in shown.figure.axes
        ]

    first = made(place)
    one = figC.make(PROFILE, evidence(first))
    assert lines(one) == [4] * 4 and set(one.data["seed"]) == {"all"}
    two = figC.make(PROFILE, evidence(first, made(place, seed=8)))
    assert lines(two) == [12] * 4 and set(two.data["seed"]) == {"all", "1", "2"}
    assert [axis.get_ylabel() for axis in one.figure.axes] == [
        *["avg@4 (%), 95% interval"] * 2, *["pass@4 (%), 95% interval"] * 2,
    ]  # fmt: skip
    assert one.figure.axes[2].get_xlabel() == "mean token entropy (nats, T = 1)"
    [legend] = one.figure.legends
    assert len(legend.get_texts()) == 6
    assert "Cut at the limit of" in one.note and "Base 25%" in one.note


def test_without_the_other_suite_nothing_is_said_of_it(place):
    shown = figC.make(params.change(PROFILE, {"task.leave_out": [OOD]}), evidence(made(place)))
    assert OUT not in shown.sentence and len(shown.figure.axes) == 2
    assert list(shown.more["frontier"].index)[-1] == "merging minus scaling"
