"""Linear CKA against its definition with Gram matrices, in float64."""

import pytest
import torch
from conftest import Largest
from hypothesis import given
from hypothesis import strategies as st

from companion import params, policies, runs, tasks
from companion.analysis import measure, representation, rollouts
from companion.analysis.representation import CKA, HSIC
from companion.stages.reading import read
from companion.study import arms


def gram_cka(x, y, unbiased):
    """Kornblith et al. 2019, Eq. 3, and Song et al. 2012, Eq. 5, written with n x n kernels."""

    def hsic(k, m):
        n = len(k)
        if not unbiased:
            h = torch.eye(n, dtype=k.dtype) - 1 / n
            return (k @ h @ m @ h).trace()
        k, m = k - k.diag().diag(), m - m.diag().diag()
        whole = k.sum() * m.sum() / ((n - 1) * (n - 2))
        return (k @ m).trace() + whole - 2 * (k @ m).sum() / (n - 2)

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()


def streamed(x, y, cuts=(7, 20), **which):
    cka = CKA(**which)
    for part_x, part_y in zip(x.tensor_split(cuts, 1), y.tensor_split(cuts, 1), strict=True):
        cka.update(part_x, part_y)
    return cka


@pytest.fixture
def activations():
    """Two layers of one policy and three of another, of other widths, with a large offset."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 40, 5, generator=generator, dtype=torch.float64) + 100
    y = torch.randn(3, 40, 8, generator=generator, dtype=torch.float64) - 30
    y[..., :5] += x[:1] * torch.tensor([1.0, 0.3, 0.0], dtype=torch.float64)[:, None, None]
    return x, y


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_equals_the_definition_for_every_pair_of_layers(activations, estimator):
    x, y = activations
    ours = streamed(x, y).values(estimator)
    assert len(ours) == 6
    # Centred, or the definition loses digits.
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    for i in range(2):
        for j in range(3):
            expected = gram_cka(x[i], y[j], estimator == "unbiased")
            assert ours[i, j] == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_products_in_fp32_are_precise_enough(activations, estimator):
    x, y = activations
    x[..., 0] *= 1000  # Qwen3's few channels of huge activations
    x, y = x.float(), y.float()
    exact, ours = (streamed(*pair).values(estimator) for pair in ((x.double(), y.double()), (x, y)))
    assert ours == pytest.approx(exact, abs=2e-6)
    assert ours != exact


def test_the_same_layer_alone_is_the_diagonal(activations):
    x, y = activations
    every, same = streamed(x, y[1:]), streamed(x, y[1:], same_layer=True)
    for estimator in ("biased", "unbiased"):
        values = every.values(estimator)
        assert same.values(estimator) == {pair: values[pair] for pair in [(0, 0), (1, 1)]}
    assert same.tokens == 40
    with pytest.raises(ValueError, match="longer"):
        streamed(x, y, same_layer=True)


@pytest.mark.parametrize("tokens", [8, 800])
def test_memory_is_that_of_one_pair_of_layers(tokens):
    """Nothing made is larger than one layer's tokens or the matrices that stay, one a pair."""
    cka, x, y = CKA(), torch.rand(6, tokens, 16), torch.rand(7, tokens, 24)
    with Largest() as largest:
        cka.update(x, y)
        cka.update(x, y)
        cka.table()
    kept = 6 * 7 * (16 * 24)
    assert largest.elements == max(kept, tokens * 24)
    assert sum(part.numel() for part in cka.cross.sums) == kept + 6 * 7 * (2 * (16 + 24) + 3)


@given(st.lists(st.integers(1, 39), max_size=5), st.integers(0, 100), st.floats(0.01, 50))
def test_batches_rotations_scales_and_offsets_do_not_matter(cuts, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 40, 4, generator=generator, dtype=torch.float64)
    y = x @ torch.randn(4, 6, generator=generator, dtype=torch.float64) + torch.randn(
        1, 40, 6, generator=generator, dtype=torch.float64
    )
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64)).Q
    one, other = streamed(x, y, ()), streamed(x, scale * y @ turn + 7, sorted(cuts))
    for estimator in ("biased", "unbiased"):
        assert one.values(estimator)[0, 0] == pytest.approx(other.values(estimator)[0, 0], abs=1e-9)


def test_one_with_itself_and_near_zero_with_noise():
    x = torch.randn(1, 400, 50, generator=torch.Generator().manual_seed(1))
    noise = torch.randn(1, 400, 50, generator=torch.Generator().manual_seed(2))
    same, apart = streamed(x, x).table(), streamed(x, noise).table()
    assert same["cka"].tolist() == pytest.approx([1, 1])
    biased, unbiased = apart.sort_values("estimator")["cka"]
    assert abs(unbiased) < 0.02 < 0.08 < biased  # its known bias


def test_every_fold_of_fig3_has_its_share_of_every_suite(tmp_path, monkeypatch):
    """The parts were the five suites once, and their spread was difficulty."""
    profile = params.change(params.load("smoke"), {"analysis.problems": 10, "analysis.samples": 2})
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    before, after = arms.shipped(profile), policies.base(profile)
    run = representation.cka(profile, before, after)
    found = measure.table(run)
    assert run.identity["settings"]["folds"] == 5
    suites = [q.suite for q in tasks.mixed(profile, "test", 10)]
    asked = rollouts.roll_out(profile, before)
    for fold in range(5):
        assert len(set(suites[fold::5])) == 2  # of two prompts
        part = CKA(same_layer=True)
        pairs = zip(read(before, asked, hidden=True), read(after, asked, hidden=True), strict=True)
        for (_, x, answer), (_, y, _) in pairs:
            mine = torch.tensor([asked.prompt[i] % 5 == fold for i in answer])
            part.update(x[:, mine], y[:, mine])
        here = found[(found["fold"] == str(fold)) & (found["estimator"] == "unbiased")]
        expected = list(part.values("unbiased").values())
        assert here["cka"].tolist() == pytest.approx(expected, abs=1e-6)


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="x has 3 tokens and y 4; give both the same tokens"):
        HSIC().update(torch.zeros(1, 3, 2), torch.zeros(1, 4, 2))
    few = HSIC()
    few.update(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="3 tokens are too few for unbiased CKA"):
        few.unbiased()
