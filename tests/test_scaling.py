"""Exact scaling: one tensor of one file, in float32, whatever the policy's own type and layout."""

import os

import pytest
import torch
from safetensors import safe_open

from companion import hashes, params, policies, runs
from companion.params import ROOT
from companion.stages import matching, scaling

SMOKE = params.load("smoke")
BASE = ROOT / SMOKE.task.base
[NORM] = scaling.LINEAR["qwen3"]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The base in bf16 and several files, as a hub has it; the norm is not exact in bf16 when scaled."""
    folder = tmp_path_factory.mktemp("start")
    model, tokenizer = policies.load_policy(BASE)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="500KB")
    tokenizer.save_pretrained(folder)
    assert len(hashes.weights(folder)) > 2
    return folder


def logits(policy):
    """Computed in float64, so that nothing but the weights is rounded."""
    model, tokenizer = policies.load_policy(policy, dtype=torch.float64)
    prompt = policies.encode_prompts(tokenizer, ["3 numbers"])
    with torch.inference_mode():
        return model(torch.tensor(prompt)).logits


@pytest.mark.parametrize("tau", [1.2, 0.8333, 3.7])
def test_logits_are_divided_by_tau_from_a_bf16_policy(start, tmp_path, monkeypatch, tau):
    with monkeypatch.context() as patch:
        patch.setattr(policies, "load_policy", lambda *_, **__: pytest.fail("a model was loaded"))
        scaling.save_scaled(start, tau, tmp_path / "scaled")
    torch.testing.assert_close(logits(tmp_path / "scaled"), logits(start) / tau, rtol=0, atol=1e-6)


def test_one_tensor_is_written_and_no_other_file(start, tmp_path):
    before = hashes.content_hash(start)
    scaling.save_scaled(start, 1.2, tmp_path)
    [holding] = [f for f in hashes.weights(start) if NORM in hashes.tensors(f)[0]]
    for file in hashes.weights(start):
        ours, theirs = tmp_path / file.name, file
        assert ours.samefile(theirs) == (file != holding)
        with safe_open(ours, "pt") as one, safe_open(theirs, "pt") as other:
            assert one.metadata() == other.metadata() and list(one.keys()) == list(other.keys())
            for name in set(one.keys()) - {NORM}:
                assert one.get_tensor(name).equal(other.get_tensor(name))
    with safe_open(tmp_path / holding.name, "pt") as one, safe_open(holding, "pt") as other:
        assert one.get_tensor(NORM).equal(other.get_tensor(NORM).float() / 1.2)
    assert hashes.content_hash(start) == before


@pytest.mark.fault("a disk that knows no second names")
def test_where_files_cannot_be_shared_they_are_copied(start, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("Invalid cross-device link")

    scaling.save_scaled(start, 1.2, tmp_path / "linked")
    monkeypatch.setattr(os, "link", refused)
    scaling.save_scaled(start, 1.2, tmp_path / "copied")
    same = {hashes.content_hash(tmp_path / name) for name in ("linked", "copied")}
    assert len(same) == 1
    assert all(file.stat().st_nlink == 1 for file in hashes.weights(tmp_path / "copied"))


@pytest.mark.parametrize("policy", ["one file", "several"])
def test_another_tau_in_the_same_folder_writes_the_tensor_alone(start, tmp_path, policy):
    start = BASE if policy == "one file" else start
    for tau in (1.3, 0.7, 1.2):
        scaling.save_scaled(start, tau, tmp_path / "trial")
        inodes = [file.stat().st_ino for file in hashes.weights(tmp_path / "trial")]
        scaling.save_scaled(start, tau, tmp_path / "fresh" / str(tau))
        fresh, trial = (hashes.content_hash(tmp_path / x) for x in (f"fresh/{tau}", "trial"))
        assert fresh == trial
    scaling.save_scaled(start, 2.0, tmp_path / "trial")
    assert inodes == [file.stat().st_ino for file in hashes.weights(tmp_path / "trial")]
    [half] = (
        (tmp_path / "trial").glob("model-00001*")
        if policy != "one file"
        else [tmp_path / "trial" / hashes.WEIGHTS]
    )
    half.unlink()
    half.write_bytes(b"half")  # of a search that was killed
    scaling.save_scaled(start, 1.2, tmp_path / "trial")
    assert hashes.content_hash(tmp_path / "trial") == hashes.content_hash(
        tmp_path / "fresh" / "1.2"
    )


def test_a_policy_without_that_norm_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(scaling.LINEAR, "qwen3", ("model.other.weight",))
    with pytest.raises(ValueError, match="cannot be scaled exactly: it has no model.other.weight"):
        scaling.save_scaled(BASE, 1.2, tmp_path)


def test_trials_lie_in_the_runs_folder_and_go(tmp_path, monkeypatch):
    from types import SimpleNamespace

    seen = []

    def measured(policy, _):
        seen.append(policy)
        with safe_open(policy / hashes.WEIGHTS, "pt") as opened:
            value = float(opened.get_tensor(NORM)[0])
        return SimpleNamespace(value=value)

    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(matching, "token_entropy", measured)
    with safe_open(BASE / hashes.WEIGHTS, "pt") as opened:
        first = float(opened.get_tensor(NORM)[0])
    assert scaling.matching_tau(SMOKE, BASE, first / 1.5) == pytest.approx(1.5, abs=0.01)
    assert len(seen) > 3 and {policy.parents[1] for policy in seen} == {tmp_path / "runs" / "smoke"}
    with pytest.raises(ValueError, match="which no tau between 1/4 and 4"):
        scaling.matching_tau(SMOKE, BASE, first * 5)
    assert not any(policy.exists() for policy in seen)
