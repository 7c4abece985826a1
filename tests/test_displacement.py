"""The way back in the weights, on vectors made by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from companion.analysis.displacement import displacement, layer

NAMES = ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.norm.weight"]


def policy(folder, *vectors, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(zip(names, (torch.as_tensor(v).clone() for v in vectors), strict=True))
    save_file(tensors, folder / "model.safetensors")
    return folder


def three(tmp_path, high, low):
    """Policies whose two updates are `high` and `low` in layer 1, and none in the norm."""
    start = torch.tensor([[1.0, 2.0]])
    high, low = torch.tensor([high]), torch.tensor([low])
    still, moved = torch.ones(3), torch.tensor([1.0, 0.0])
    return (
        policy(tmp_path / "a", still[:2], start, still),
        policy(tmp_path / "b", still[:2] + moved, start + high, still),
        policy(tmp_path / "c", still[:2], start + high + low, still),
    )


def test_by_hand(tmp_path):
    table = displacement(*three(tmp_path, [3.0, 4.0], [-3.0, 0.0])).set_index("layer")
    assert list(table.index) == ["embedding", "all", "1"]  # the norm did not move
    assert table.loc["embedding"].tolist() == pytest.approx([-1, 1, 1, 0])
    one = table.loc["1"]
    assert one["cosine"] == pytest.approx(-9 / 15)
    assert one["projection"] == pytest.approx(9 / 25)
    assert one["norm_ratio"] == pytest.approx(3 / 5)
    assert one["residual_ratio"] == pytest.approx(4 / 5)
    every = table.loc["all"]
    assert every["cosine"] == pytest.approx(-10 / math.sqrt(26 * 10))
    assert every["residual_ratio"] == pytest.approx(4 / math.sqrt(26))


def test_two_updates_from_one_policy_by_the_way_from_one_end_to_the_other(tmp_path):
    """Were the one undone exactly, the other would be its way back: |one - other| is what remains."""
    start, one, other = torch.tensor([1.0, 1.0]), torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0])
    ends = [("again", start + one), ("collapsed", start), ("reheated", start + other)]
    way = [policy(tmp_path / name, where, names=NAMES[:1]) for name, where in ends]
    row = displacement(*way).set_index("layer").loc["all"]
    assert row["projection"] == pytest.approx(24 / 25)
    assert row["cosine"] == pytest.approx(-24 / 25)
    assert row["norm_ratio"] == pytest.approx(1)
    assert row["residual_ratio"] == pytest.approx(math.sqrt(2) / 5)


@given(st.integers(0, 10_000))
def test_the_four_numbers_obey_the_law_of_cosines(tmp_path_factory, seed):
    draw = torch.Generator().manual_seed(seed)
    folder = tmp_path_factory.mktemp("policies")
    where = [policy(folder / n, *(torch.randn(4, generator=draw) for _ in NAMES)) for n in "abc"]
    for row in displacement(*where).itertuples():
        assert row.projection == pytest.approx(-row.cosine * row.norm_ratio)
        squared = 1 + row.norm_ratio**2 - 2 * row.projection
        assert row.residual_ratio**2 == pytest.approx(squared, abs=1e-9)


def test_float64_sums_keep_what_float32_would_lose(tmp_path):
    big = torch.full((2_000_000,), 1.0)
    where = [
        policy(tmp_path / n, big + shift, names=NAMES[:1])
        for n, shift in (("a", 0.0), ("b", 2.0**-12), ("c", 2.0**-20))
    ]
    row = displacement(*where).set_index("layer").loc["all"]
    assert row["norm_ratio"] == pytest.approx(1 - 2.0**-8, rel=1e-12)


def test_rounding_to_bfloat16_is_visible_where_it_matters(tmp_path):
    where = three(tmp_path, [2.0**-12, 0.0], [-(2.0**-12), 0.0])
    assert "1" in set(displacement(*where)["layer"])
    assert "1" not in set(displacement(*where, round_to=torch.bfloat16)["layer"])  # lost


def test_bad_input_is_one_sentence(tmp_path):
    same = policy(tmp_path / "same", *(torch.ones(2) for _ in NAMES))
    with pytest.raises(ValueError, match="the policies do not differ"):
        displacement(same, same, same)
    other = policy(tmp_path / "other", torch.ones(2), names=NAMES[:1])
    with pytest.raises(ValueError, match="tensor 'model.layers.0.* is not in every policy"):
        displacement(same, other, same)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("model.layers.27.self_attn.q_norm.weight", "28"),
        ("model.norm.weight", "final norm"),
        ("lm_head.weight", "head"),
    ],
)
def test_layers_by_name(name, where):
    assert layer(name) == where
