"""What a profile will cost: shapes against real models, memory and hours against arithmetic."""

import json
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import memory, params, plan
from companion.memory import GIB, Shape, peaks, shape
from companion.params import ROOT

BASE = "results/checkpoints/countdown-base"
P4 = 4_022_468_096
"""Parameters of Qwen3-4B."""


def load(profile="qwen3-4b", **changes):
    return params.load(profile, {name.replace("__", "."): value for name, value in changes.items()})


# --- Shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_a_real_qwen3(tied):
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        num_hidden_layers=3, hidden_size=48, intermediate_size=80, num_attention_heads=6,
        num_key_value_heads=2, head_dim=16, vocab_size=101, tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    assert Shape(3, 48, 80, 6, 2, 16, 101, tied).parameters == model.num_parameters()


def test_the_shipped_policy_is_counted_to_the_last_parameter():
    from safetensors import safe_open

    with safe_open(ROOT / BASE / "model.safetensors", "pt") as file:
        count = sum(file.get_tensor(name).numel() for name in file.keys())
    assert shape(BASE).parameters == count


@pytest.mark.parametrize(("name", "parameters"), [
    ("Qwen/Qwen3-0.6B-Base", 596_049_920),
    ("Qwen/Qwen3-4B-Base@main", P4),
    ("Qwen/Qwen3-8B-Base", 8_190_735_360),
])
def test_parameters_of_the_papers_models(name, parameters):
    assert shape(name).parameters == parameters


@pytest.mark.parametrize(("change", "sentence"), [
    ({"model_type": "llama"}, "model_type 'llama'; name a Qwen3 model"),
    ({"head_dim": None}, "config.json has no head_dim"),
])
def test_another_model_is_refused(tmp_path, change, sentence):
    values = json.loads((ROOT / BASE / "config.json").read_text()) | change
    values = {name: value for name, value in values.items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=sentence):
        shape(str(tmp_path))


def test_a_model_of_unknown_shape_is_refused_by_name():
    with pytest.raises(ValueError, match="task.base is 'Qwen/Qwen3-5B', whose shape is not known"):
        plan.plan(load(task__base="Qwen/Qwen3-5B"))


# --- Memory ---------------------------------------------------------------------------------


def test_memory_by_hand():
    table = peaks(load(), gpu_gib=80) * GIB
    update = table.loc["RL", "update"]
    tokens = 2048 + 8192
    assert update["weights"] == update["gradients"] == pytest.approx(4 * P4 / 8)
    assert update["optimizer"] == pytest.approx(8 * P4 / 8)
    assert update["activations"] == pytest.approx(2 * 36 * tokens * 2560)
    assert update["logits"] == pytest.approx(12 * tokens * 151_936)
    # Embeddings and final norm, and two layers of 100,930,816, in bf16.
    assert update["gathered"] == pytest.approx(2 * (151_936 * 2560 + 2560 + 2 * 100_930_816))
    rollout = table.loc["RL", "rollout"]
    assert rollout["total"] == pytest.approx(0.8 * 80 * GIB)
    # A token: keys and values of 36 layers x 8 heads x 128, two bytes each.
    held = (0.8 * 80 * GIB - 2 * P4) // (2 * 36 * 8 * 128 * 2)
    assert peaks(load(), 80).loc[("RL", "rollout"), "cache_tokens"] == held
    heat = table.loc["reheating", "update"]
    assert heat["logits"] == pytest.approx(12 * (2048 + 4096) * 151_936)


@given(gpus=st.integers(1, 64), nodes=st.integers(1, 8))
def test_more_gpus_take_less_memory_each(gpus, nodes):
    def updates(**hardware):
        asked = {f"hardware__{name}": value for name, value in hardware.items()}
        return peaks(load(**asked)).xs("update", level="moment")["total"]

    here = updates(gpus_per_node=gpus, nodes=nodes)
    assert (updates(gpus_per_node=gpus + 1, nodes=nodes) < here).all()
    assert (updates(gpus_per_node=gpus * nodes) == here).all()


def test_longer_answers_and_larger_models_take_more():
    small = peaks(load()).xs("update", level="moment")["total"]
    longer = load(rl__max_response_tokens=16_384, reheat__max_completion_tokens=8192)
    for other in (longer, load("qwen3-8b")):
        assert (peaks(other).xs("update", level="moment")["total"] > small).all()


def test_a_cache_takes_what_the_weights_leave():
    tokens = [peaks(load(), gib).loc[("RL", "rollout"), "cache_tokens"] for gib in (9, 40, 80)]
    assert tokens[0] == 0 < tokens[1] < tokens[2]
    shared = peaks(load(hardware__tensor_parallel=2)).loc["evaluation", "rollout"]
    alone = peaks(load()).loc["evaluation", "rollout"]
    assert shared["vllm_weights"] == alone["vllm_weights"] / 2
    assert shared["cache_tokens"] > 2 * alone["cache_tokens"]


def test_sgd_keeps_no_moments():
    assert peaks(load(reheat__optimizer="sgd")).loc[("reheating", "update"), "optimizer"] == 0


def test_a_cpu_holds_everything_in_host_memory():
    profile = load("laptop")
    table = peaks(profile)
    assert table.loc[("RL", "update"), "optimizer"] == 8 * shape(BASE).parameters / GIB
    assert memory.host_gib(profile) == table["total"].max() > memory.PROCESSES_GIB


def test_host_memory_of_a_node():
    # ms-swift: moments, eight sleeping engines, a gathered model; processes.
    assert memory.host_gib(load()) == pytest.approx((8 + 2 * 8 + 4) * P4 / GIB + 8 * 6)
    # On one GPU verl's weights and moments are more.
    assert memory.host_gib(load(hardware__gpus_per_node=1)) == pytest.approx(16 * P4 / GIB + 6)
    assert memory.host_gib(load(hardware__nodes=2)) < memory.host_gib(load())


def test_the_frameworks_are_asked_for_what_is_counted(tmp_path):
    from companion import reheat, rl
    from companion.adapters import vllm_engine

    profile = load()
    words = rl.overrides(profile, start=tmp_path, folder=tmp_path, steps=1, temperature=1.0)
    asked = dict(word.lstrip("+").split("=", 1) for word in words)
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    assert float(asked[f"{rollout}.gpu_memory_utilization"]) == memory.VLLM_SHARE["RL"]
    assert int(asked[f"{actor}.ppo_max_token_len_per_gpu"]) == 2048 + 8192
    assert asked["trainer.max_actor_ckpt_to_keep"] == "2"
    assert "hf_model" in asked[f"{actor}.checkpoint.save_contents"]
    words = reheat.command(profile, tmp_path, tmp_path)
    share = words[words.index("--vllm_gpu_memory_utilization") + 1]
    assert float(share) == memory.VLLM_SHARE["reheating"]
    assert vllm_engine.MEMORY_SHARE == memory.VLLM_SHARE["evaluation"]


def test_verls_entropy_keeps_four_bytes_a_logit():
    import torch
    from verl.utils.torch_functional import entropy_from_logits

    logits = torch.randn(4096, 500, dtype=torch.bfloat16, requires_grad=True)
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = tensor, storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        entropy_from_logits(logits)
    each = sum(size for _, size in kept.values()) / logits.numel()
    assert each == pytest.approx(4, rel=0.01)


# --- Stages ---------------------------------------------------------------------------------


def test_at_the_papers_settings_hours_are_table_6s():
    for name, rl, heat in (("qwen3-4b", 200, 1035), ("qwen3-8b", 240, 1370)):
        table = plan.plan(load(name, reheat__max_steps=15))
        assert table.loc["RL to collapse", "hours"] == pytest.approx(328 * rl / 3600)
        assert table.loc["+DAPO w/ RR", "hours"] == pytest.approx(200 * rl / 3600)
        assert table.loc["PR-FKL", "hours"] == pytest.approx(15 * heat / 3600)


def test_hours_follow_size_work_and_gpus():
    here = plan.plan(load())["hours"]
    assert plan.plan(load(hardware__nodes=2))["hours"].values == pytest.approx(here.values / 2)
    half = plan.plan(load(rl__max_response_tokens=4096))["hours"]
    assert half["+DAPO"] == pytest.approx(here["+DAPO"] / 2)
    assert half["evaluation"] == here["evaluation"]
    small = plan.plan(load("qwen3-0.6b"))["hours"]  # on one GPU
    assert small["+DAPO"] == pytest.approx(here["+DAPO"] * 8 * 596_049_920 / P4)


def test_tokens_by_hand():
    tokens = plan.plan(load())["tokens"]
    assert tokens["RL to collapse"] == 64 * 8 * (2048 + 8192) * 328
    assert tokens["PR-RKL"] == 1024 * (2048 + 4096) * 20
    assert tokens["PR-scale"] == 0
    # Base, collapsed, four reheated, six arms; MATH-500, three times AIME, OlymMATH, GPQA.
    assert tokens["evaluation"] == 12 * (500 + 3 * 30 + 200 + 448) * 8 * (2048 + 8192)
    # Starts and checkpoints of RL and of two reheatings; PR-scale, the search, what is evaluated.
    checks = (1 + ceil(328 / 10)) + 6 * (1 + 20) + 2 * (1 + 20) + 1 + plan.TRIALS + 12
    assert tokens["entropy checks"] == checks * 256 * (2048 + 8192)


def test_fewer_test_problems_are_fewer_tokens_and_no_suite_grows():
    tokens = plan.plan(load(task__test_problems=100))["tokens"]
    assert tokens["evaluation"] == 12 * (100 + 3 * 30 + 100 + 100) * 8 * (2048 + 8192)


def test_disk_by_hand():
    table = plan.plan(load())
    # The policy; of two checkpoints of weights, moments and policy the collapse run keeps one.
    assert table.loc["+DAPO", "disk_gib"] == pytest.approx(4 * P4 / GIB)
    assert table.loc["+DAPO", "scratch_gib"] == pytest.approx(2 * 16 * P4 / GIB)
    assert table.loc["RL to collapse", "disk_gib"] == pytest.approx((16 + 4) * P4 / GIB)
    assert table.loc["PR-FKL", "disk_gib"] == pytest.approx((20 + 1) * 4 * P4 / GIB)
    assert table.loc["PR-FKL", "scratch_gib"] == pytest.approx(20 * 8 * P4 / GIB)
    lean = plan.plan(load(reheat__keep_checkpoints=False)).loc["PR-FKL"]
    assert lean["disk_gib"] == pytest.approx(4 * P4 / GIB)
    assert lean["scratch_gib"] == pytest.approx(2 * 12 * P4 / GIB)


def test_the_total_adds_up_what_adds_up():
    table = plan.plan(load())
    stages, total = table.drop(index="total"), table.loc["total"]
    for name in ("tokens", "hours", "disk_gib"):
        assert total[name] == pytest.approx(stages[name].sum())
    assert total["memory_gib"] == stages["memory_gib"].max() == pytest.approx(0.8 * 79)
    assert total["scratch_gib"] == stages["scratch_gib"].max()


@pytest.mark.parametrize("name", params.profiles())
def test_every_profile_has_a_plan(name):
    from companion import study

    profile = params.load(name)
    table = plan.plan(profile)
    assert list(table.index) == [
        "RL to collapse", *profile.rl.arms, *study.REHEATED, "evaluation", "entropy checks", "total"
    ]
    # Nothing is extrapolated to a CPU.
    trained = table.drop(index=["PR-scale", "PR-scale*"])["hours"]
    assert trained.isna().all() if profile.hardware.platform == "cpu" else (trained > 0).all()


@pytest.mark.parametrize(("name", "source"), [
    ("qwen3-8b", "an extrapolation of the paper's Table 6"),
    ("smoke", "measured in results/laptop"),
])
def test_what_is_printed_says_where_hours_come_from(name, source, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["plan", "--profile", name])
    monkeypatch.setenv("COLUMNS", "400")
    plan.main()
    printed = capsys.readouterr().out
    assert source in printed and "RL to collapse" in printed and "weights" in printed
