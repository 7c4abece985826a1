"""Edit distance, fork position and log-probability by position, on answers written by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.analysis import branching

TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


def levenshtein(a, b):
    """The textbook recursion, as a table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


@given(TOKENS, TOKENS)
def test_edit_distance_is_levenshtein_over_the_longer_length(answer, greedy):
    expected = levenshtein(answer, greedy) / max(len(answer), len(greedy))
    assert branching.edit_distance(answer, greedy) == pytest.approx(expected)


@given(TOKENS, TOKENS)
def test_fork_is_after_the_longest_common_beginning(answer, greedy):
    fork = branching.fork_position(answer, greedy)
    if math.isnan(fork):
        assert answer == greedy
    else:
        fork = int(fork)
        assert answer[:fork] == greedy[:fork] and answer[fork : fork + 1] != greedy[fork : fork + 1]


def answers():
    """Two checkpoints, two prompts, two answers each; checkpoint 5 is hotter."""
    rows = [
        (0, 0, 0.0, np.nan, [-0.1, -0.1]),
        (0, 0, 0.5, 1, [-0.1, -0.5]),
        (0, 1, 0.0, np.nan, [-0.1, -0.1]),
        (0, 1, 0.0, np.nan, [-0.1, -0.1]),
        (5, 0, 1.0, 0, [-1.0, -1.0, -4.0]),
        (5, 0, 0.5, 1, [-0.2, -1.0]),
        (5, 1, 0.5, 1, [-0.2, -1.0]),
        (5, 1, 0.0, np.nan, [-0.2, -1.0]),
    ]
    names = ["checkpoint", "prompt", "edit_distance", "fork_position", "log_probs"]
    return pd.DataFrame(rows, columns=names)


def test_table2_by_hand():
    table = branching.summary(answers(), resamples=50)
    assert list(table.index) == [0, 5]
    first, hot = table.loc[0], table.loc[5]
    assert first["edit distance"].value == 0.125 and hot["edit distance"].value == 0.5
    assert first["fork position (tokens)"].value == 1  # answers that never fork do not count
    assert hot["fork position (tokens)"].value == pytest.approx(2 / 3)
    assert hot["- log-prob (nats)"].value == pytest.approx(9.6 / 9)  # a mean over tokens
    assert first["as greedy (%)"].value == 75
    assert all(cell.low <= cell.value <= cell.high for cell in hot)


def test_positions_beyond_an_answers_end_do_not_count_and_are_the_same_for_all():
    table = branching.by_position(answers(), least=4, resamples=50)
    assert set(table["position"]) == {0, 1}  # only one answer has a third token
    hot = table.query("checkpoint == 5").set_index("position")["value"]
    assert hot[0] == pytest.approx(-0.4) and hot[1] == pytest.approx(-1)
    three = branching.by_position(answers(), least=1, resamples=50)
    assert set(three["position"]) == {0, 1}  # checkpoint 0 has no third token to compare with


def test_no_common_position_is_one_sentence():
    with pytest.raises(ValueError, match="least is 9 and no position is reached by so many"):
        branching.by_position(answers(), least=9)
