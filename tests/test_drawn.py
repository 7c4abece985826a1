"""A policy without weights: drawn from a fixed seed, once, in the shape that its folder says."""

import json
import shutil

import pytest
import torch

from companion import hashes, params, policies
from companion.machine import access, memory, plan
from companion.params import ROOT

SHIPPED = ROOT / "results" / "checkpoints" / "countdown-base"


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(policies, "ROOT", tmp_path)
    folder = tmp_path / "shape"
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def test_it_loads_and_is_the_same_every_time(start, tmp_path):
    state = torch.get_rng_state()
    made = policies.find(f"random:{start}")
    assert made.parent == tmp_path / "runs" / "random" and policies.find(f"random:{start}") == made
    assert torch.get_rng_state().equal(state)
    first, when = hashes.content_hash(made), made.stat().st_mtime_ns
    model, tokenizer = policies.load_policy(made)
    assert model.config.num_hidden_layers == 4 and tokenizer.chat_template
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    shutil.rmtree(made)
    again = policies.find(f"random:{start}")
    assert hashes.content_hash(again) == first and again.stat().st_mtime_ns != when
    config = start / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 128}))
    assert policies.find(f"random:{start}") != made  # another shape is another policy


def test_every_row_of_the_head_has_a_token(start):
    """Else verl, which draws none that the tokenizer lacks, draws from another policy."""
    config, before = start / "config.json", policies.load_tokenizer(start)
    rows = json.loads(config.read_text())["vocab_size"] + 300
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vocab_size": rows}))
    tokenizer = policies.load_tokenizer(policies.find(f"random:{start}"))
    assert len(tokenizer) == rows and tokenizer.decode([rows - 1]) == f"<unused {rows - 1}>"
    text = "<|im_start|>user\n1 2 3 -> 6<|im_end|>\n"
    assert tokenizer.encode(text) == before.encode(text)
    assert tokenizer.all_special_ids == before.all_special_ids


def test_what_has_no_shape_is_refused(start):
    (start / "config.json").unlink()
    with pytest.raises(ValueError, match=r"is no policy: it has no config.json"):
        policies.find(f"random:{start}")
    assert access.to_model(f"random:{start}") == (False, "no config.json there")


def test_the_first_rung_on_gpus_has_the_shape_of_qwen3():
    profile = params.load("gpu-smoke")
    assert memory.shape(profile.task.base) == memory.SHAPES["Qwen/Qwen3-0.6B-Base"]
    assert access.to_model(profile.task.base) == (True, "a local folder, weights drawn")
    assert plan.plan(profile).loc["total", "tokens"] < 3e6
    folder = ROOT / profile.task.base.removeprefix(policies.DRAWN)
    assert len(policies.load_tokenizer(folder)) == 116
    assert policies.configuration(folder)["architectures"] == ["Qwen3ForCausalLM"]
