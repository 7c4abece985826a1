"""The live check of App. B holds on any logits and would notice a wrong equation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from companion import objective
from companion.analysis import equations

LOGITS = torch.tensor([3.0, 1.0, 0.5, -2.0])


@given(
    st.lists(st.floats(-6, 6), min_size=2, max_size=20),
    st.sampled_from([1 / 1.2, 1.1, 1.2, 1.5]),
)
def test_every_equation_holds(logits, tau):
    # Tokens a rounding apart may swap ranks when flattened: spread them.
    spread = torch.tensor(sorted(logits)) + 0.01 * torch.arange(len(logits))
    assert (equations.check(spread, tau)["largest difference"] < 1e-9).all()


def test_a_wrong_gradient_is_seen(monkeypatch):
    right = objective.reverse_kl
    monkeypatch.setattr(objective, "reverse_kl", lambda z, tau: 1.01 * right(z, tau))
    wrong = equations.check(LOGITS, 1.2).set_index("equation")["largest difference"]
    assert (wrong.loc[["15", "17", "18", "20"]] > 1e-5).all()
    assert wrong.loc["10"] < 1e-12


@pytest.mark.parametrize(
    ("equation", "closed_form"),
    [
        ("10", "forward_kl_gradient"),
        ("15", "reverse_kl_gradient"),
        ("19", "entropy_gradient"),
    ],
)
def test_a_wrong_closed_form_of_the_training_code_is_seen(monkeypatch, equation, closed_form):
    right = getattr(objective, closed_form)
    monkeypatch.setattr(objective, closed_form, lambda *known: 1.01 * right(*known))
    wrong = equations.check(LOGITS, 1.2).set_index("equation")["largest difference"]
    assert wrong.pop(equation) > 1e-5 and (wrong < 1e-12).all()


@pytest.mark.parametrize(
    ("logits", "tau", "sentence"),
    [
        (LOGITS[None], 1.2, r"logits has shape \[1, 4\] and must be one position's"),
        (torch.tensor([1.0, torch.nan]), 1.2, "all finite"),
        (LOGITS, 1.0, "tau is 1"),
        (LOGITS, -1.2, "tau is -1.2 and must be a positive number"),
    ],
)
def test_bad_input_is_one_sentence(logits, tau, sentence):
    with pytest.raises(ValueError, match=sentence):
        equations.check(logits, tau)


@given(
    st.lists(st.floats(-2, 2), min_size=2, max_size=6).filter(lambda z: max(z) - min(z) > 0.5),
    st.sampled_from([1.2, 1.3, 1.5]),
)
@settings(max_examples=10, deadline=None)
def test_a_frozen_teacher_is_reached_and_a_live_one_never(logits, tau):
    """Their first step is the same; then one ends at the scaled policy, the other at uniform."""
    path = equations.descend(torch.tensor(logits), tau, steps=1000)
    start, first, last = path.loc[0], path.loc[1], path.loc[1000]
    assert first["live"] == first["frozen"] > start["frozen"]
    assert last["frozen"] == pytest.approx(
        last["scaled"], abs=0.01 * (last["scaled"] - start["live"])
    )
    assert (path["frozen"] < path["scaled"] + 1e-9).all()
    assert last["live"] == pytest.approx(math.log(len(logits)), abs=1e-3)
