"""Fig. B: what both teachers start from and end with, and where they move a policy."""

import numpy as np
import pandas as pd
import pytest

from companion import objective, params, policies
from companion.analysis import leak, measure
from companion.exhibits import figB
from companion.stages.reading import read
from companion.statistics import Estimate
from companion.study import arms, teacher

SMOKE = params.load("smoke")


def test_each_pair_differs_in_its_teacher_alone(monkeypatch):
    asked = []

    def reheat(profile, start, *, force=False, **rest):
        asked.append((start, force, profile.reheat, rest))
        return type("R", (), {"policy": start})

    monkeypatch.setattr(arms, "collapsed", lambda profile: "collapsed")
    monkeypatch.setattr(teacher.policies, "base", lambda profile: "base")
    for module in (teacher, teacher.experiments):
        monkeypatch.setattr(module.reheat, "reheat", reheat)
    laptop = params.load("laptop")
    assert list(teacher.runs(laptop)) == ["base live", "base frozen", "past live", "past frozen"]
    for live, frozen in (asked[:2], asked[2:]):
        assert live[:2] == frozen[:2] and live[3] == frozen[3] == {}
        one, other = live[2].model_dump(), frozen[2].model_dump()
        assert {name for name in one if one[name] != other[name]} == {
            "teacher", "tau", "learning_rate",
        }  # fmt: skip
        assert other["recovery_entropy"] is other["ceiling_entropy"] is None
    assert [start for start, *_ in asked] == ["base", "base", "collapsed", "collapsed"]


def test_what_moved_is_measured_token_by_token(place):
    """Against the two policies read one by one; a policy has not moved from itself."""
    small = params.change(SMOKE, {"analysis.problems": 6, "analysis.samples": 2})
    before, after = arms.shipped(small), policies.base(small)
    run = leak.measure(small, before, {"live": after, "frozen": before})
    tokens = measure.table(run)
    assert np.allclose(tokens["kl frozen"], 0, atol=1e-6) and (tokens["kl live"] > 0).any()
    rollouts = leak.roll_out(small, before)
    [(old, _, _)], [(new, _, _)] = read(before, rollouts), read(after, rollouts)
    log_p, log_q = objective.log_probs(old.double()), objective.log_probs(new.double())
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    assert np.allclose(tokens["kl live"], kl.numpy(), atol=1e-5)
    assert np.allclose(tokens["confidence"], log_p.exp().max(-1).values.numpy(), atol=1e-6)
    assert len(tokens) == sum(map(len, rollouts.answers))
    assert set(tokens["kind"]) <= {"number", "operator", "equals", "word", "other", "end"}


@pytest.mark.parametrize(
    ("text", "kind"),
    [("17", "number"), (" 3", "number"), ("+", "operator"), (" (", "operator"), ("=", "equals"),
     ("Answer", "word"), ("x2", "word"), (":", "other"), ("", "other")],
)  # fmt: skip
def test_kinds_of_tokens(text, kind):
    assert leak.kind_of(text) == kind


def test_every_token_is_in_one_bin_and_the_parts_add_up():
    tokens = pd.DataFrame(
        {"confidence": [0.2, 0.5, 0.95, 0.9999, 1.0], "kind": list("aabbb"),
         "kl live": [0.4, 0.2, 0.2, 0.1, 0.1], "kl frozen": [0.3, 0.0, 0.0, 0.0, 0.0]}
    )  # fmt: skip
    bins = leak.by_confidence(tokens)
    assert list((bins["share"] * 5).round()) == [1, 1, 1, 0, 2]
    assert bins["part live"].sum() == pytest.approx(1) == bins["part frozen"].sum()
    assert (bins["kl live"] * bins["share"]).sum() == pytest.approx(tokens["kl live"].mean())
    assert list(bins["part live"].round(2)) == [0.4, 0.2, 0.2, 0, 0.2]
    kinds = leak.by_kind(tokens)
    assert kinds.loc["b", "share"] == 0.6 and kinds.loc["b", "kl live"] == pytest.approx(0.4 / 3)
    both = leak.over_seeds([kinds, kinds.drop(index="b")])
    assert both.loc["b", "share"] == 0.3  # half of the seeds have none
    assert both.loc["b", "kl live"] == kinds.loc["b", "kl live"]  # which says nothing of its KL


def test_the_sentence_follows_the_measurements():
    paths = pd.DataFrame(
        {"seed": 1, "run": f"{start} {which}", "step": step, "token_entropy": nats * (1 + step),
         "entropy_low": nats * (1 + step) - 0.01, "entropy_high": nats * (1 + step) + 0.01}
        for start, which, nats in (("base", "live", 0.2), ("base", "frozen", 0.1),
                                   ("past", "live", 0.05), ("past", "frozen", 0.02))
        for step in range(5)
    )  # fmt: skip
    gain = Estimate(-9.2, -10.0, -8.4)
    none = Estimate(-0.6, -1.4, 0.2)
    costs = pd.DataFrame(
        {"avg@8": {f"{called}, {which}": gain if which == "live" else none
                   for called in figB.STARTS.values() for which in figB.LOOKS}}
    )  # fmt: skip
    bins = pd.DataFrame(
        {"low": [0.0, 0.99], "share": [0.2, 0.8], "kl live": [0.05, 0.01], "kl frozen": [0.01, 0.0],
         "part live": [0.56, 0.44], "part frozen": [1.0, 0.0]}
    ).assign(high=1.0).set_index(["low", "high"])  # fmt: skip
    moved = {"live": Estimate(0.018, 0.017, 0.019), "frozen": Estimate(0.002, 0.001, 0.003)}
    said = figB.sentence(paths, {"base": 0.27, "past": 0.115}, costs, bins, moved)
    assert figB.finding(paths, {"past": 0.115}) == (
        "A live teacher runs past the frozen one's fixed point: 0.250 nats beside 0.100"
    )
    assert "does not run past" in figB.finding(paths, {"past": 0.25})
    assert (
        "4 steps from the base policy, nothing stopping them, end at 1.000 [0.990, 1.010] nats"
        in said
    )
    assert "0.500 [0.490, 0.510] with the frozen one, whose fixed point has 0.270" in said
    assert "change avg@8 by -9.2 [-10.0, -8.4] and -0.6 [-1.4, +0.2] points" in said
    assert "is 0.0180 [0.0170, 0.0190] nats a token from the collapsed one" in said
    assert "the frozen's 0.0020 [0.0010, 0.0030] (the paper" in said
    assert "44% and 0% lie on tokens of which the collapsed policy was at least 99% sure" in said
