"""A policy is what loads completely and nothing else: whatever falls short is one sentence."""

import json
import shutil

import pytest
import torch
from conftest import shard
from safetensors.torch import load_file, save_file

from companion import params, policies
from companion.params import ROOT
from companion.stages import checks

SHIPPED = ROOT / "results" / "checkpoints" / "countdown-base"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def edited(name, **changes):
    """Change values of a JSON file; None removes one."""

    def damage(folder):
        path = folder / name
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))

    return damage


def written(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def without(name):
    return lambda folder: (folder / name).unlink()


def cut(name, keep):
    def damage(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return damage


def tensors(change):
    def damage(folder):
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS, metadata={"format": "pt"})

    return damage


def sharded(change=lambda names, folder: None):
    """Two shards and their index, then `change`d."""

    def damage(folder):
        change(shard(folder), folder)

    return damage


def index(text):
    return sharded(lambda names, folder: (folder / INDEX).write_text(text))


NORM, LAYER = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
SEEN = {  # by looking at the files
    "no config": (without("config.json"), "it has no config.json"),
    "no tokenizer": (without("tokenizer.json"), "it has no tokenizer.json"),
    "no weights": (without(WEIGHTS), "it has neither model.safetensors nor"),
    "config empty": (written("config.json", b""), "its config.json cannot be read"),
    "config cut": (cut("config.json", 0.5), "its config.json cannot be read"),
    "config binary": (written("config.json", b"\x80\x81"), "its config.json cannot be read"),
    "config a list": (written("config.json", b"[]"), r"its config.json cannot be read \(no JSON"),
    "tokenizer empty": (written("tokenizer.json", b""), "its tokenizer.json cannot be read"),
    "tokenizer cut": (cut("tokenizer.json", 0.5), "its tokenizer.json cannot be read"),
    "tokenizer's config cut": (cut("tokenizer_config.json", 0.5), "its tokenizer_config.json cannot"),
    "generation config cut": (cut("generation_config.json", 0.5), "its generation_config.json cannot"),
    "weights empty": (written(WEIGHTS, b""), "model.safetensors' is no whole safetensors file"),
    "weights' head cut": (cut(WEIGHTS, 0.001), "is no whole safetensors file; restore it"),
    "weights cut in half": (cut(WEIGHTS, 0.5), "is no whole safetensors file; restore it"),
    "weights' end cut": (cut(WEIGHTS, 0.9999), "is no whole safetensors file; restore it"),
    "weights are text": (written(WEIGHTS, b"version https://git-lfs"), "is no whole safetensors file"),
    "shard absent": (
        sharded(lambda names, folder: (folder / "model-1.safetensors").unlink()),
        "has no model-1.safetensors, which its model.safetensors.index.json names; restore it",
    ),
    "shard cut": (
        sharded(lambda names, folder: cut("model-1.safetensors", 0.5)(folder)),
        "model-1.safetensors' is no whole safetensors file",
    ),
    "shards exchanged": (
        sharded(
            lambda names, folder: shutil.copy(
                folder / "model-0.safetensors", folder / "model-1.safetensors"
            )
        ),
        r"its model-1.safetensors has no \S+, which model.safetensors.index.json says it holds",
    ),
    "index absent": (sharded(lambda names, folder: (folder / INDEX).unlink()), "it has neither"),
    "index empty": (index(""), "its model.safetensors.index.json cannot be read"),
    "index without map": (index("{}"), "does not say which file has which tensor; restore it"),
    "index a list": (index("[]"), "its model.safetensors.index.json cannot be read"),
    "index's map a list": (index('{"weight_map": []}'), "does not say which file has which tensor"),
    "index's files numbers": (index('{"weight_map": {"x": 1}}'), "does not say which file has which"),
    "an adapter": (written("adapter_config.json", b"{}"), "it is an adapter, which is to be merged"),
    "quantized": (
        edited("config.json", quantization_config={"bits": 4}), "its weights are quantized, and it",
    ),
    "an encoder": (
        edited("config.json", architectures=["BertForMaskedLM"]),
        r"its architectures are \['BertForMaskedLM'\]; give .* of a causal language model",
    ),
    "no architecture": (edited("config.json", architectures=None), "its architectures are None"),
}  # fmt: skip
LOADED = {  # by loading it
    "a weight absent": (tensors(lambda t: t.pop(LAYER)), f"it has no {LAYER} of the shape"),
    "the norm absent": (tensors(lambda t: t.pop(NORM)), f"it has no {NORM} of the shape"),
    "another shape": (
        tensors(lambda t: t.update({LAYER: t[LAYER][:-1].clone()})), f"it has no {LAYER} of the shape",
    ),
    "another size": (edited("config.json", hidden_size=64), "it has no .* of the shape"),
    "more layers": (edited("config.json", num_hidden_layers=5), "does not load"),
    "not a number": (tensors(lambda t: t[LAYER].view(-1)[7:8].fill_(float("nan"))), "its .* holds"),
    "infinite": (tensors(lambda t: t[NORM][3:4].fill_(float("inf"))), f"its {NORM} holds what is no"),
    "no heads": (edited("config.json", num_attention_heads=0), "it does not load"),
    "layers in words": (edited("config.json", num_hidden_layers="two"), "does not load"),
    "wrong vocabulary": (edited("config.json", vocab_size=40), "of the shape|has 116 tokens"),
    "no template": (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template; give"),
    "no end token": (edited("tokenizer_config.json", eos_token=None), "has no end token; give"),
    "tokenizer of nothing": (written("tokenizer.json", b"{}"), "its tokenizer does not load"),
}  # fmt: skip


@pytest.fixture
def policy(tmp_path):
    return shutil.copytree(SHIPPED, tmp_path / "policy")


@pytest.mark.fault("a policy with a file lost, empty or cut", "shards exchanged or absent")
@pytest.mark.parametrize("name", SEEN)
def test_what_is_missing_or_cut_is_seen_without_a_framework(policy, name):
    damage, said = SEEN[name]
    damage(policy)
    with pytest.raises(ValueError, match=said) as error:
        policies.check_policy(policy)
    assert "\n" not in str(error.value)


@pytest.mark.fault("a wrong vocabulary", "weights that are no numbers")
@pytest.mark.parametrize("name", LOADED)
def test_what_does_not_load_completely_is_refused(policy, name):
    damage, said = LOADED[name]
    damage(policy)
    with pytest.raises(ValueError, match=said) as error:
        policies.load_policy(policy)
    assert "\n" not in str(error.value) and "policy' is no policy: " in str(error.value)


def test_whole_shards_are_a_policy(policy):
    sharded()(policy)
    model, _ = policies.load_policy(policy)
    whole, _ = policies.load_policy(SHIPPED)
    for (_, one), (_, other) in zip(
        model.named_parameters(), whole.named_parameters(), strict=True
    ):
        assert torch.equal(one, other)
    assert policies.check_policy(policies.base(params.load("smoke")))


def test_what_a_policy_reads_and_writes_is_read_once_while_its_files_stay(tmp_path, monkeypatch):
    """Every exhibit asks for every run, and a tokenizer of 151,936 tokens takes seconds."""
    folder, settings = shutil.copytree(SHIPPED, tmp_path / "policy"), params.load("smoke")
    loads, load = [], policies.load_tokenizer
    monkeypatch.setattr(policies, "load_tokenizer", lambda path: loads.append(path) or load(path))
    for _ in range(3):
        checks.same_task(settings, folder)
    assert loads.count(folder) == 2  # the tokenizer, and for its end tokens
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    with pytest.raises(ValueError, match="another vocabulary or chat template"):
        checks.same_task(settings, folder)
