"""Merging weights with the base's: the arithmetic, the files, and a strength found by entropy."""

import json
import shutil
import weakref

import pytest
import torch
from conftest import shard
from safetensors.torch import load_file, save_file

from companion import hashes, params, policies, runs
from companion.params import ROOT
from companion.stages import checks, merge
from companion.stages.entropy import token_entropy

BASE, COLLAPSED = (
    ROOT / "results" / "checkpoints" / f"countdown-{x}" for x in ("base", "collapsed")
)
SMOKE = params.load("smoke", {"entropy.prompts": 40})
WEIGHTS, INDEX = hashes.WEIGHTS, hashes.SHARDS
EMBEDDINGS, NORM = merge.EMBEDDINGS, "model.norm.weight"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return tmp_path


def tensors(policy):
    """All that a policy's files hold, by name."""
    return {k: v for file in hashes.weights(policy) for k, v in load_file(file).items()}


def changed(policy, folder, change):
    """A copy of a policy in which `change` did something to its tensors."""
    shutil.copytree(policy, folder)
    found = load_file(folder / WEIGHTS)
    change(found)
    save_file(found, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def sharded(policy, folder, files=3):
    """A copy in several files."""
    shard(shutil.copytree(policy, folder), files)
    return folder


def bfloat16(found):
    found.update({name: tensor.bfloat16() for name, tensor in found.items()})


def logits(policy):
    model, _ = policies.load_policy(policy)
    with torch.inference_mode():
        return model(torch.arange(40)[None]).logits


@pytest.mark.parametrize("strength", [0.1, 0.4, 0.75])
def test_every_tensor_lies_between_in_float32(tmp_path, strength):
    merge.save_merged(COLLAPSED, BASE, strength, tmp_path / "merged")
    ours, start, base = (tensors(policy) for policy in (tmp_path / "merged", COLLAPSED, BASE))
    assert ours.keys() == start.keys() and len(ours) > 20
    for name, tensor in ours.items():
        exact = (1 - strength) * start[name].double() + strength * base[name].double()
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor.double(), exact, rtol=2**-22, atol=2**-26)


def test_in_bfloat16_it_is_rounded_once_from_float32(tmp_path):
    start = changed(COLLAPSED, tmp_path / "start", bfloat16)
    merge.save_merged(start, BASE, 0.3, tmp_path / "merged")
    ours, halves, base = (tensors(policy) for policy in (tmp_path / "merged", start, BASE))
    wrong = 0
    for name, tensor in ours.items():
        exact = 0.7 * halves[name].double() + 0.3 * base[name].double()
        assert tensor.dtype == torch.bfloat16
        wrong += (tensor != exact.bfloat16()).sum().item()  # a float32 may lie on the other side
        twice = (0.7 * halves[name]) + (0.3 * base[name].bfloat16())
        assert name == NORM or not tensor.equal(twice)  # what computing in bfloat16 gives
    assert wrong < 1e-4 * sum(map(torch.numel, ours.values()))


def test_both_ends_and_what_both_agree_on_are_exact(tmp_path):
    for strength, whole in ((0.0, COLLAPSED), (1.0, BASE)):
        merge.save_merged(COLLAPSED, BASE, strength, tmp_path / str(strength))
        found, expected = tensors(tmp_path / str(strength)), tensors(whole)
        assert all(found[name].equal(expected[name]) for name in expected)
    assert logits(tmp_path / "1.0").equal(logits(BASE))
    merge.save_merged(BASE, BASE, 0.3, tmp_path / "same")
    assert all(x.equal(y) for x, y in zip(tensors(tmp_path / "same").values(),
                                          tensors(BASE).values(), strict=True))  # fmt: skip


def test_shards_merge_as_one_file_does_and_keep_their_layout(tmp_path):
    merge.save_merged(COLLAPSED, BASE, 0.4, tmp_path / "whole")
    start, base = sharded(COLLAPSED, tmp_path / "start"), sharded(BASE, tmp_path / "base", files=2)
    merge.save_merged(start, base, 0.4, tmp_path / "parts")
    merge.save_merged(COLLAPSED, base, 0.4, tmp_path / "mixed")
    named = json.loads((tmp_path / "parts" / INDEX).read_text())
    assert named == json.loads((start / INDEX).read_text())
    assert not (tmp_path / "mixed" / INDEX).exists()
    whole = hashes.content_hash(tmp_path / "whole")
    for folder in ("parts", "mixed"):
        assert hashes.content_hash(policies.check_policy(tmp_path / folder)) == whole
    logits(tmp_path / "parts")


def test_of_several_shards_one_is_in_memory_at_a_time(tmp_path, monkeypatch):
    from safetensors import torch as safetensors_torch

    start, saved, earlier = sharded(COLLAPSED, tmp_path / "start", files=4), [], []
    real = safetensors_torch.save_file

    def save(found, *rest, **options):
        assert not any(tensor() is not None for tensor in earlier)
        saved.append(set(found))
        earlier.extend(weakref.ref(tensor) for tensor in found.values())
        return real(found, *rest, **options)

    monkeypatch.setattr(safetensors_torch, "save_file", save)
    merge.save_merged(start, BASE, 0.4, tmp_path / "merged")
    assert saved == list(hashes.weights(start).values())


def test_all_but_the_weights_is_the_policys_own(tmp_path):
    start = shutil.copytree(COLLAPSED, tmp_path / "start")
    (start / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    merge.save_merged(start, BASE, 0.4, tmp_path / "merged")
    beside = {path.name for path in hashes.beside_weights(start)}
    assert {path.name for path in (tmp_path / "merged").iterdir()} == beside | {WEIGHTS}
    for name in beside:
        assert (tmp_path / "merged" / name).read_bytes() == (start / name).read_bytes()


@pytest.mark.parametrize("stored_by", ["start", "base", "both"])
def test_a_tied_head_may_be_stored_or_not(tmp_path, stored_by):
    """Qwen's own checkpoints hold it beside the embeddings, those that transformers saves do not."""
    assert merge.HEAD not in tensors(BASE)

    def store(found):
        found[merge.HEAD] = found[EMBEDDINGS].clone()

    start, base = (
        changed(
            policy, tmp_path / name, store if stored_by in (name, "both") else lambda found: None
        )
        for name, policy in (("start", COLLAPSED), ("base", BASE))
    )
    merge.save_merged(start, base, 0.4, tmp_path / "merged")
    merge.save_merged(COLLAPSED, BASE, 0.4, tmp_path / "without")
    found = tensors(tmp_path / "merged")
    assert (merge.HEAD in found) == (stored_by != "base")
    assert found.get(merge.HEAD, found[EMBEDDINGS]).equal(found[EMBEDDINGS])
    assert logits(tmp_path / "merged").equal(logits(tmp_path / "without"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop(NORM), f"its {NORM} has the shape none and the base's \\[128\\]; give"),
        (lambda t: t.update({NORM: t[NORM][:-1].clone()}), r"shape \[127\] and the base's \[128\]"),
        (
            lambda t: t.update(more=torch.ones(2)),
            r"its more has the shape \[2\] and the base's none",
        ),
    ],
)
def test_tensors_that_differ_are_one_sentence_and_nothing_is_written(tmp_path, change, sentence):
    start = changed(COLLAPSED, tmp_path / "start", change)
    with pytest.raises(
        ValueError, match=f"'start' cannot be merged with .*: .*{sentence}"
    ) as error:
        merge.save_merged(start, BASE, 0.4, tmp_path / "merged")
    assert "\n" not in str(error.value) and not (tmp_path / "merged").exists()


def test_an_untied_head_is_a_tensor_like_any_other(tmp_path):
    start = shutil.copytree(COLLAPSED, tmp_path / "start")
    config = json.loads((start / "config.json").read_text()) | {"tie_word_embeddings": False}
    (start / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"its lm_head.weight has the shape none and the base's \["
    ):
        merge.save_merged(start, BASE, 0.4, tmp_path / "merged")


@pytest.mark.parametrize(
    ("strength", "sentence"),
    [
        (0, "strength is 0, which leaves the policy as it is; use more, for example 0.4"),
        (-0.1, "strength is -0.1 and must be a number above 0 and at most 1, for example 0.4"),
        (1.01, "strength is 1.01 and must be"),
        (float("nan"), "strength is nan and must be"),
        (True, "strength is True and must be"),
        ("0.4", "strength is '0.4' and must be"),
        (None, "strength is None and must be"),
    ],
)
def test_an_impossible_strength_is_refused(root, strength, sentence):
    with pytest.raises(ValueError, match=sentence):
        merge.merge(SMOKE, COLLAPSED, strength)
    assert not (root / "runs").exists()


def test_a_merge_is_a_run_with_its_entropy_and_is_made_once(root, monkeypatch):
    run = merge.merge(SMOKE, COLLAPSED, 1)
    assert run.name.startswith("merge-strength1-") and run.inputs.keys() == {"policy", "base"}
    assert run.result == {
        "strength": 1.0,
        "token_entropy": token_entropy(BASE, SMOKE).value,
    }
    monkeypatch.setattr(merge, "save_merged", lambda *_: pytest.fail("made again"))
    # To load a tokenizer, transformers imports all of its models: seconds in each kernel.
    monkeypatch.setattr(checks, "same_task", lambda *_: pytest.fail("a tokenizer is loaded"))
    assert merge.merge(SMOKE, COLLAPSED, 1.0).folder == run.folder


def test_an_interrupted_merge_leaves_no_half_policy(root, monkeypatch):
    real = shutil.copyfile

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copyfile", stopped)  # the weights are there, nothing else
    with pytest.raises(KeyboardInterrupt):
        merge.merge(SMOKE, COLLAPSED, 0.4)
    [folder] = root.glob("runs/smoke/merge-*")
    assert (folder / "policy.partial" / WEIGHTS).exists() and not (folder / "policy").exists()
    monkeypatch.setattr(shutil, "copyfile", real)
    run = merge.merge(SMOKE, COLLAPSED, 0.4)
    assert run.folder == folder and run.finished
    assert [one["status"] for one in run.record["tries"]] == ["interrupted", "finished"]
    merge.save_merged(COLLAPSED, BASE, 0.4, root / "again")
    assert hashes.content_hash(run.policy) == hashes.content_hash(root / "again")
    assert not (folder / "policy.partial").exists()


def test_the_strength_of_an_entropy_is_found_once(root, monkeypatch):
    target = 0.1
    strength = merge.matching_strength(SMOKE, COLLAPSED, target)
    found = merge.merge(SMOKE, COLLAPSED, strength).result["token_entropy"]
    assert 0 < strength < 1 and found == pytest.approx(target, abs=0.005)
    ends = [token_entropy(policy, SMOKE).value for policy in (COLLAPSED, BASE)]
    assert ends[0] < target < ends[1]
    with pytest.raises(ValueError, match="0.500 nats, which no strength between 0 and 1 gives"):
        merge.matching_strength(SMOKE, COLLAPSED, 0.5)
    monkeypatch.setattr(merge, "save_merged", lambda *_: pytest.fail("searched again"))
    monkeypatch.setattr(checks, "same_task", lambda *_: pytest.fail("a tokenizer is loaded"))
    assert merge.matching_strength(SMOKE, COLLAPSED, target) == strength
