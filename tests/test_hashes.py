"""What a policy is known by: all that loading reads of it, and nothing else."""

import json
import shutil

import pytest
import torch
from conftest import save_policy
from safetensors.torch import load_file, save_file

from companion import hashes, policies
from companion.params import ROOT

SHIPPED = ROOT / "results" / "checkpoints" / "countdown-collapsed"


@pytest.fixture
def policy(tmp_path):
    return shutil.copytree(SHIPPED, tmp_path / "policy")


@pytest.mark.parametrize("name", [
    "README.md", "run.json", "metrics.jsonl", ".gitattributes", ".cache/huggingface/x.lock",
    ".ipynb_checkpoints/config-checkpoint.json", "trainer_state.json", "training_args.bin",
    "optimizer.pt", "notes.txt", "other.safetensors", "original/model.safetensors",
])  # fmt: skip
def test_what_loading_does_not_read_does_not_count(policy, name):
    before = hashes.content_hash(policy)
    (policy / name).parent.mkdir(exist_ok=True, parents=True)
    (policy / name).write_text("stray")
    assert hashes.content_hash(policy) == before


@pytest.mark.parametrize("name", [
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja",
])  # fmt: skip
def test_every_file_that_loading_reads_counts(policy, name):
    before = hashes.content_hash(policy)
    path = policy / name
    path.write_text(path.read_text() + " ")
    changed = hashes.content_hash(policy)
    path.unlink()
    assert len({before, changed, hashes.content_hash(policy)}) == 3


@pytest.mark.parametrize("name", [
    "special_tokens_map.json", "added_tokens.json", "merges.txt", "tokenizer.model",
    "additional_chat_templates/tools.jinja",
])  # fmt: skip
def test_a_file_that_loading_would_read_counts_once_it_is_there(policy, name):
    before = hashes.content_hash(policy)
    (policy / name).parent.mkdir(exist_ok=True)
    (policy / name).write_text("{}")
    assert hashes.content_hash(policy) != before


def test_weights_count_by_name_type_shape_and_bytes_and_not_by_their_metadata(tmp_path):
    file = save_policy(tmp_path) / "model.safetensors"

    def of(metadata=None, **tensors):
        save_file(tensors, file, metadata)
        return hashes.content_hash(tmp_path)

    one, two = torch.arange(4.0), torch.ones(2)
    same = of(a=one, b=two)
    assert of({"saved": "2026-11-25T22:00"}, b=two, a=one) == same
    others = [
        of(a=one, c=two),
        of(a=one, b=two.half()),
        of(a=one.reshape(2, 2), b=two),
        of(a=one + torch.tensor([0, 0, 0, 1e-6]), b=two),
        of(a=one),
    ]
    assert len({same, *others}) == 6


def test_shards_are_the_same_policy_as_one_file_and_only_those_of_the_index_count(policy):
    before = hashes.content_hash(policy)
    whole = load_file(policy / "model.safetensors")
    (policy / "model.safetensors").unlink()
    where = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(sorted(whole))}
    for shard in set(where.values()):
        part = {name: values for name, values in whole.items() if where[name] == shard}
        save_file(part, policy / shard)
    index = policy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert hashes.content_hash(policy) == before
    save_file({"x": torch.ones(1)}, policy / "model-2.safetensors")
    assert hashes.content_hash(policy) == before
    (policy / "model-1.safetensors").unlink()
    with pytest.raises(ValueError, match="has no model-1.safetensors, which its model.*index.json"):
        hashes.content_hash(policy)
    index.unlink()
    with pytest.raises(ValueError, match="is no policy: it has neither model.safetensors nor"):
        hashes.content_hash(policy)


def test_the_weights_are_those_that_transformers_reads(policy):
    whole = load_file(policy / "model.safetensors")
    save_file({name: values + 1 for name, values in whole.items()}, policy / "model-0.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(whole, "model-0.safetensors")}
    (policy / "model.safetensors.index.json").write_text(json.dumps(index))
    for file in (policy / "model.safetensors", policy / "model-0.safetensors"):
        assert list(hashes.weights(policy)) == [file]
        loaded = policies.load_policy(policy)[0].model.norm.weight
        assert torch.equal(loaded, load_file(file)["model.norm.weight"])
        (policy / "model.safetensors").unlink(missing_ok=True)


@pytest.mark.parametrize("broken", [b"", b"weights", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"])
def test_a_file_that_holds_no_tensors_is_one_sentence(tmp_path, broken):
    file = save_policy(tmp_path) / "model.safetensors"
    whole = file.read_bytes()
    for data in (broken, whole[:-1], whole + b"0"):
        file.write_bytes(data)
        with pytest.raises(ValueError, match="is no whole safetensors file; restore it"):
            hashes.content_hash(tmp_path)


def test_a_plain_file_is_its_bytes(tmp_path):
    import hashlib

    (tmp_path / "data.parquet").write_bytes(b"rows")
    assert hashes.content_hash(tmp_path / "data.parquet") == hashlib.sha256(b"rows").hexdigest()
