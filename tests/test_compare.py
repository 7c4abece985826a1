"""Yours beside the published and the paper's: the interval by hand, and a whole study."""

import math

import hand_made
import pandas as pd
import pytest
from hand_made import PROFILE

from companion import exhibits, params
from companion.commands import compare, publish
from companion.runs import NotFinished
from companion.study import roles


def test_where_another_seed_is_expected_by_hand():
    found = compare.another(pd.Series([1.0, 2.0, 3.0]))
    assert found.value == 2
    # t(2) = 4.3027, a spread of 1, and the new seed's own beside the mean's
    assert found.high - 2 == pytest.approx(4.302653 * math.sqrt(1 + 1 / 3)) == 2 - found.low
    assert math.isnan(compare.another(pd.Series([1.0])).low)


def test_a_number_is_inside_or_not_or_cannot_be_told():
    published = pd.DataFrame({1: [10.0, 5.0, 0.0], 2: [12.0, math.nan, 0.2]}, index=["a", "b", "c"])
    yours = pd.Series({"a": 11.0, "b": 5.0, "c": 9.0, "d": 1.0})
    found = compare.table(yours, published)
    assert found["inside"].tolist() == ["yes", "", "NO", ""]
    # 12.706 x 0.1414 x sqrt(1.5) = 2.20
    assert found[compare.EXPECTED].tolist()[1:] == ["5.0", "0.1 [-2.1, 2.3]", ""]
    assert found["yours"].tolist() == ["11.0", "5.0", "9.0", "1.0"]
    nobody = compare.table(yours, published.assign(**{"1": math.nan})[["1"]])
    assert set(nobody[compare.EXPECTED]) == {""}  # not "nan"


def test_the_papers_numbers_stand_beside_their_own_rows():
    assert compare._reported("+DAPO w/ PR-FKL, avg@8 (%)") == "31.46 and 36.60"
    assert compare._reported("+DAPO w/ PR-FKL minus +DAPO, avg@8 (points)") == "+2.06 and +2.33"
    assert compare._reported("Collapsed, avg@8 (%)") == ""


def test_a_study_is_held_against_the_published_seeds(place, studies, monkeypatch, capsys):
    monkeypatch.setattr(compare, "ROOT", place)
    monkeypatch.setattr(exhibits, "redraw", lambda profile: place / "results" / profile)
    assert not compare.can_be_made(PROFILE)
    publish.publish(PROFILE)
    assert compare.can_be_made(PROFILE)
    again = compare.report(PROFILE)
    said = " ".join(capsys.readouterr().out.split())
    assert "measured otherwise" not in said
    assert "seed 7 is itself published" in said and f"{len(again)} of {len(again)} numbers" in said

    other = params.load("smoke", {"seed": 8})
    studies[8] = hand_made.study(other, place)
    found = compare.report(other)
    assert "itself published" not in capsys.readouterr().out
    assert set(found["inside"]) == {""}  # one seed says nothing of another
    assert (found["yours"] == again["yours"]).all()  # made by the same hand

    longer = params.load("smoke", {"seed": 9, "evaluation.max_new_tokens": 128})
    studies[9] = hand_made.study(longer, place)
    compare.report(longer)
    said = " ".join(capsys.readouterr().out.split())
    assert "outside for that alone: evaluation.max_new_tokens is 128 here and 64 in" in said

    def not_made(profile):
        raise NotFinished("run rl is not finished here")

    monkeypatch.setitem(roles.STUDY, "training", not_made)
    with pytest.raises(ValueError, match="not finished"):
        compare.report(other)
