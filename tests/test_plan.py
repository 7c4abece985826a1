"""What a profile will cost: shapes against real models, memory and hours against arithmetic."""

import json
import shlex
from math import ceil, isnan
from statistics import median

import pytest
from conftest import Live
from hypothesis import given
from hypothesis import strategies as st

from companion import distillation, params
from companion.commands.plan import report
from companion.machine import dry_run, memory, plan
from companion.machine.memory import GIB, Shape, peaks, shape
from companion.params import ROOT
from companion.stages import swift_command, verl_command
from companion.study import roles

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
        num_hidden_layers=3,
        hidden_size=48,
        intermediate_size=80,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=101,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    assert Shape(3, 48, 80, 6, 2, 16, 101, tied).parameters == model.num_parameters()


def test_the_shipped_policy_is_counted_to_the_last_parameter():
    from safetensors import safe_open

    with safe_open(ROOT / BASE / "model.safetensors", "pt") as file:
        count = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118  it is no dict
    assert shape(BASE).parameters == count


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen3-0.6B-Base", 596_049_920),
        ("Qwen/Qwen3-4B-Base@main", P4),
        ("Qwen/Qwen3-8B-Base", 8_190_735_360),
    ],
)
def test_parameters_of_the_papers_models(name, parameters):
    assert shape(name).parameters == parameters


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "llama"}, "model_type 'llama'; name a Qwen3 model"),
        ({"head_dim": None}, "config.json has no head_dim"),
    ],
)
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
    # Three copies of a piece's logits in fp32, one in bf16, and three of the head's gradient.
    assert update["logits"] == pytest.approx(14 * 512 * 151_936 + 6 * 151_936 * 2560)
    # Embeddings and final norm, and two layers of 100,930,816, in bf16.
    assert update["gathered"] == pytest.approx(2 * (151_936 * 2560 + 2560 + 2 * 100_930_816))
    rollout = table.loc["RL", "rollout"]
    assert rollout["total"] == pytest.approx(0.8 * 80 * GIB)
    # A token: keys and values of 36 layers x 8 heads x 128, two bytes each.
    held = (0.8 * 80 * GIB - 2 * P4) // (2 * 36 * 8 * 128 * 2)
    assert peaks(load(), 80).loc[("RL", "rollout"), "cache_tokens"] == held
    heat = table.loc["reheating", "update"]
    assert memory.PIECE == distillation.GPU_PIECE
    assert memory.HEAD_PIECE == distillation.GPU_LOGITS
    # On an H200 2.76 GB beside the hidden states' gradient, at this head (docs/gpu-h200.log).
    assert heat["logits"] == pytest.approx(4 * 2**27 + 20 * 2**25 + 4 * 151_936 * 2560)
    assert heat["logits"] == pytest.approx(2.76e9, rel=0.01)
    whole = peaks(load(reheat__through_head=False), gpu_gib=80).loc["reheating", "update"] * GIB
    assert whole["logits"] == pytest.approx(12 * (2048 + 4096) * 151_936 + 20 * memory.PIECE)


def test_a_checkpoint_is_measured_beside_what_ms_swift_keeps():
    """Of a rank's eighth weights and moments, no gradients; of its GPU what vLLM asks for."""
    row = peaks(load("qwen3-8b"), gpu_gib=80).loc["reheating", "measure"] * GIB
    assert row["weights"] + row["optimizer"] == pytest.approx((4 + 8) * 8_190_735_360 / 8)
    assert row["total"] == pytest.approx((4 + 8) * 8_190_735_360 / 8 + 0.6 * 80 * GIB)
    crowded = peaks(load("qwen3-8b", hardware__gpus_per_node=2), 80)["total"]
    assert crowded["reheating", "measure"] > 80  # 45.8 + 48


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


def test_a_frozen_teacher_is_there_all_the_time_that_reheating_takes():
    frozen = peaks(load(reheat__teacher="frozen"))
    assert frozen["teacher"]["reheating"].tolist() == [4 * P4 / 8 / GIB] * 3
    rest = frozen.drop(columns="teacher") - peaks(load())
    logits = 4 * memory.HEAD_PIECE / GIB  # its own, beside the student's
    assert rest["logits"]["reheating", "update"] == pytest.approx(logits)
    assert rest["total"].sum() == pytest.approx(3 * 4 * P4 / 8 / GIB + logits)


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
    from companion.stages import vllm_engine

    profile = load()
    words = verl_command.overrides(
        profile, start=tmp_path, folder=tmp_path, steps=1, temperature=1.0
    )
    asked = dict(word.lstrip("+").split("=", 1) for word in words)
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    assert float(asked[f"{rollout}.gpu_memory_utilization"]) == memory.VLLM_SHARE["RL"]
    assert int(asked[f"{actor}.ppo_max_token_len_per_gpu"]) == 2048 + 8192
    assert asked["trainer.max_actor_ckpt_to_keep"] == "2"
    assert "hf_model" in asked[f"{actor}.checkpoint.save_contents"]
    words = swift_command.command(profile, tmp_path, tmp_path)
    share = words[words.index("--vllm_gpu_memory_utilization") + 1]
    assert float(share) == memory.VLLM_SHARE["reheating"]
    assert memory.VLLM_SHARE["evaluation"] == vllm_engine.MEMORY_SHARE


def test_verl_makes_so_many_tokens_logits_at_a_time():
    from inspect import signature

    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    assert signature(FusedLinearForPPO).parameters["chunk_size"].default == memory.FUSED_TOKENS


@pytest.mark.parametrize(("words", "width"), [(4096, 8), (2048, 1024)])
def test_verls_kernels_take_what_is_counted(monkeypatch, words, width):
    """Whichever is more: of a piece's logits, or of the head's gradient beside its sum."""
    import torch
    from verl.utils.experimental.torch_functional import FusedLinearForPPO

    model = Shape(1, width, 1, 1, 1, 1, words, tied=True)
    monkeypatch.setattr(memory, "FUSED_TOKENS", 64)
    hidden, head = (torch.randn(n, width).bfloat16().requires_grad_() for n in (128, words))
    log_probs, _ = FusedLinearForPPO(chunk_size=64)(hidden[None], head, torch.arange(128)[None])
    with Live(hidden, head) as live:
        log_probs.sum().backward()
    assert live.most == pytest.approx(memory.rl_logits(model), rel=0.1)


@pytest.mark.parametrize("teacher", ["live", "frozen"])
def test_our_loss_through_the_head_takes_what_is_counted(monkeypatch, teacher):
    """As on a GPU, in pieces of the same size."""
    import torch

    model, heat = Shape(1, 8, 1, 1, 1, 1, 512, tied=True), load(reheat__teacher=teacher).reheat
    for name in ("PIECE", "HEAD_PIECE"):
        monkeypatch.setattr(memory, name, 2**15)
    for name in ("CPU_PIECE", "CPU_LOGITS"):
        monkeypatch.setattr(distillation, name, 2**15)
    hidden, head = torch.randn(256, 8), torch.randn(512, 8, requires_grad=True)
    other = (hidden, head.detach()) if teacher == "frozen" else None
    with Live(hidden, head) as live:
        distillation.through_head(hidden, head, 1.2, "forward", other)
    assert live.most == pytest.approx(memory.reheating_logits(model, heat, 256), rel=0.05)


# --- Stages ---------------------------------------------------------------------------------


def test_at_the_papers_settings_hours_are_table_6s():
    for name, rl, heat in (("qwen3-4b", 200, 1035), ("qwen3-8b", 240, 1370)):
        table = plan.plan(load(name, reheat__max_steps=15))
        assert table.loc["RL to collapse", "hours"] == pytest.approx(320 * rl / 3600)
        assert table.loc["+DAPO w/ RR", "hours"] == pytest.approx(200 * rl / 3600)
        assert table.loc["PR-FKL", "hours"] == pytest.approx(15 * heat / 3600)


def test_every_measure_waits_for_an_engine(monkeypatch):
    table = plan.plan(load())
    monkeypatch.setattr(plan, "START", 0)
    more = table["hours"] - plan.plan(load())["hours"]
    checks = table.loc["entropy checks", "tokens"] / (256 * (2048 + 8192))
    assert more["entropy checks"] == pytest.approx(checks * 180 / 3600)
    assert more["evaluation"] == pytest.approx(12 * 180 / 3600)
    assert more["analyses: evaluation"] == pytest.approx((6 + 6 + 22) * 180 / 3600)
    assert more["total"] == pytest.approx(sum(more.drop("total"))) and more["+DAPO"] == 0


def test_hours_follow_size_work_and_gpus():
    here = plan.plan(load())["hours"]
    two = plan.plan(load(hardware__nodes=2))["hours"]
    measured = ["evaluation", "analyses: evaluation", "entropy checks"]  # by one node's vLLM
    trained = here.index.difference([*measured, "total"])
    assert two[trained].values == pytest.approx(here[trained].values / 2)
    assert two[measured].tolist() == here[measured].tolist()
    assert two["total"] == pytest.approx(two.drop("total").sum())
    half = plan.plan(load(rl__max_response_tokens=4096))["hours"]
    assert half["+DAPO"] == pytest.approx(here["+DAPO"] / 2)
    assert half["evaluation"] == here["evaluation"]
    small = plan.plan(load("qwen3-0.6b"))["hours"]  # on one GPU
    assert small["+DAPO"] == pytest.approx(here["+DAPO"] * 8 * 596_049_920 / P4)


def test_tokens_by_hand():
    tokens = plan.plan(load())["tokens"]
    assert tokens["RL to collapse"] == 64 * 8 * (2048 + 8192) * 320
    assert tokens["PR-RKL"] == 1024 * (2048 + 4096) * 20
    assert tokens["PR-scale"] == 0
    # Base, collapsed, four reheated, six arms; MATH-500, three times AIME, OlymMATH, GPQA.
    assert tokens["evaluation"] == 12 * (500 + 3 * 30 + 200 + 448) * 8 * (2048 + 8192)
    # Fig. 4's six policies between collapsed and reheated, Fig. B's six; Fig. C's 22, on 20 problems.
    frontier = 22 * 6 * 20 * 64 * (2048 + 8192)
    assert tokens["analyses: evaluation"] == tokens["evaluation"] + frontier
    # Fig. 13: to the fork, then plain and reheated.
    assert tokens["analyses: RL"] == 64 * 8 * (2048 + 8192) * 3 * 200
    # Plain SGD twice, two more taus, cooling, another seed, a frozen teacher, few prompts; and by
    # either teacher on the base, and the long one with its batch of 256.
    assert tokens["analyses: reheating"] == (1024 * (8 * 20 + 2 * 15) + 2 * 256 * 60) * (
        2048 + 4096
    )
    # Starts and checkpoints of RL and of reheating; PR-scale, the search, what is evaluated.
    checks = (1 + ceil(320 / 10)) + 9 * (1 + 20) + 10 * (1 + 20) + 2 * (1 + 15 + 1 + 60)
    checks += 1 + plan.TRIALS + 12 + 6 + 6 + 22 + 10
    assert tokens["entropy checks"] == checks * 256 * (2048 + 8192)


def test_an_arm_of_ours_costs_what_its_policy_takes_to_make():
    """A frozen teacher trains; merging takes averages, and merge* a search for its strength."""
    before = plan.plan(load())
    for name in ("PR-FKL frozen", "merge*"):
        table = plan.plan(load(rl__arms=[*load().rl.arms, f"+DAPO w/ {name}"]))
        more = table.loc["entropy checks", "tokens"] - before.loc["entropy checks", "tokens"]
        trained = 1 + 200 / 10  # the arm's own, after which both are evaluated
        made = 0 if name == "PR-FKL frozen" else plan.TRIALS  # Fig. C has made the former
        assert more == (trained + made + 2) * 256 * (2048 + 8192)
        assert table.loc[name, "tokens"] == (
            1024 * (2048 + 4096) * 20 if name == "PR-FKL frozen" else 0
        )
        assert name not in before.index


def test_fewer_test_problems_are_fewer_tokens_and_no_suite_grows():
    tokens = plan.plan(load(task__test_problems=100))["tokens"]
    assert tokens["evaluation"] == 12 * (100 + 3 * 30 + 100 + 100) * 8 * (2048 + 8192)


def test_a_suite_that_is_left_out_costs_nothing():
    tokens = plan.plan(load(task__leave_out=["GPQA Main"]))["tokens"]
    assert tokens["evaluation"] == 12 * (500 + 3 * 30 + 200) * 8 * (2048 + 8192)


def test_disk_by_hand():
    table = plan.plan(load())
    # The policy; of two checkpoints of weights, moments and policy the collapse run keeps one.
    assert table.loc["+DAPO", "disk_gib"] == pytest.approx(4 * P4 / GIB)
    assert table.loc["+DAPO", "scratch_gib"] == pytest.approx(2 * 16 * P4 / GIB)
    assert table.loc["RL to collapse", "disk_gib"] == pytest.approx((16 + 4) * P4 / GIB)
    assert table.loc["PR-FKL", "disk_gib"] == pytest.approx((20 + 1) * 4 * P4 / GIB)
    # Of three checkpoints what ms-swift would resume with: FSDP's copy of the weights, and moments.
    assert table.loc["PR-FKL", "scratch_gib"] == pytest.approx(3 * (4 + 8) * P4 / GIB)
    lean = plan.plan(load(reheat__keep_checkpoints=False)).loc["PR-FKL"]
    assert lean["disk_gib"] == pytest.approx(4 * P4 / GIB)
    assert lean["scratch_gib"] == pytest.approx(3 * (4 + 4 + 8) * P4 / GIB)
    assert table.loc["analyses: reheating", "disk_gib"] == pytest.approx((12 + 20) * 4 * P4 / GIB)
    assert table.loc["analyses: evaluation", "disk_gib"] == pytest.approx(10 * 4 * P4 / GIB)
    assert table.loc["analyses: RL", "disk_gib"] == pytest.approx((16 + 3 * 4) * P4 / GIB)
    laptop, policy = plan.plan(load("laptop")), 4 * shape(BASE).parameters / GIB
    assert laptop.loc["analyses: reheating", "scratch_gib"] == pytest.approx(3 * 3 * policy)


def test_the_total_adds_up_what_adds_up():
    table = plan.plan(load())
    stages, total = table.drop(index="total"), table.loc["total"]
    for name in ("tokens", "hours", "disk_gib"):
        assert total[name] == pytest.approx(stages[name].sum())
    assert total["memory_gib"] == stages["memory_gib"].max() == pytest.approx(0.8 * 79)
    assert total["scratch_gib"] == stages["scratch_gib"].max()


@pytest.mark.parametrize("name", params.profiles())
def test_every_profile_has_a_plan(name):
    from companion.study import arms

    profile = params.load(name)
    table = plan.plan(profile)
    assert list(table.index) == [
        "RL to collapse",
        *profile.rl.arms,
        *arms.asked(profile),
        "evaluation",
        "analyses: RL",
        "analyses: reheating",
        "analyses: evaluation",
        "entropy checks",
        "total",
    ]
    # Nothing is extrapolated to a CPU: there it is measured, or not known.
    trained = table.drop(index=["PR-scale", "PR-scale*"])["hours"]
    if profile.hardware.platform == "gpu":
        assert (trained > 0).all()
    elif not (ROOT / "results" / name).exists():
        assert trained.isna().all()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("qwen3-8b", "an extrapolation of the paper's Table 6"),
        ("smoke", "not known, since no seed is published"),
        ("laptop", "the median of the seeds in results/laptop"),
    ],
)
def test_what_is_printed_says_where_hours_come_from(name, source, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    report(load(name))
    printed = capsys.readouterr().out
    assert source in printed and "RL to collapse" in printed and "weights" in printed


def test_the_page_for_the_paper_scale_says_what_the_plan_says():
    page = (ROOT / "docs" / "paper-scale.md").read_text().splitlines()
    rows = {line.split(" | ")[0]: line for line in page if line.startswith("| ")}
    totals = [plan.plan(load(name)).loc["total"] for name in ("qwen3-0.6b", "qwen3-4b", "qwen3-8b")]
    hours = " | ".join(f"{total['hours']:.0f}" for total in totals)
    assert f"| {hours} |" in rows["| everything, hours at most (`make plan`)"]
    disk = " | ".join(
        f"{total['disk_gib'] / 1024:.2f} + {total['scratch_gib'] / 1024:.2f} TiB"
        for total in totals
    )
    assert f"| {disk} |" in rows["| disk, and scratch beside it (`make plan`)"]


# --- Commands -------------------------------------------------------------------------------


def words_of(command):
    """As a shell reads them."""
    return shlex.split(command.replace("\\\n", ""))


def test_a_printed_command_is_the_one_that_runs(capsys):
    profile = load("laptop")
    verl, swift, _ = [words_of(lines[-1]) for lines in dry_run.commands(profile).values()]
    own = verl_command.environment(profile, dry_run.RUN)
    assert verl[: len(own) + 1] == ["env", *(f"{name}={value}" for name, value in own.items())]
    assert verl[len(own) + 1 :] == verl_command.command(
        profile,
        start=dry_run.POLICY,
        folder=dry_run.RUN,
        steps=profile.rl.collapse.max_steps,
        temperature=profile.rl.rollout_temperature,
        stop_entropy=profile.rl.collapse.entropy,
    )
    own = swift_command.environment(profile)
    assert swift == [
        "env",
        *(f"{name}={value}" for name, value in own.items()),
        *swift_command.command(profile, dry_run.POLICY, dry_run.RUN),
    ]
    report(profile)
    printed = dry_run.commands(profile)["reheating (ms-swift)"][-1]
    assert printed in capsys.readouterr().out
    lines = [shlex.split(line.removesuffix("\\")) for line in printed.splitlines()]
    assert max(map(len, lines)) == 3  # python -m companion.adapters.swift_here
    assert ["--rlhf_type", "gkd"] in lines


def test_several_nodes_commands_are_submitted_with_their_environment():
    several = dry_run.commands(load(hardware__nodes=2))
    for (submit, line), name in zip(several.values(), ("verl", "ms-swift", "verl"), strict=True):
        words = words_of(submit)
        assert words[1:3] == ["job", "submit"] and words[-2:] == ["bash", f"RUN/{name}.sh"]
        asked = json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]
        given = dict(word.split("=", 1) for word in words_of(line)[1 : len(asked)])
        assert asked == given | {"RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}
    assert "companion.adapters.every_node 2 8" in several["reheating (ms-swift)"][1]


# --- Hours that were measured ---------------------------------------------------------------


def test_a_published_profiles_hours_are_those_of_its_runs():
    took, index = plan.plan(load("laptop"))["hours"], roles.published("laptop").index
    collapse = index[(index["role"] == "training") & (index["key"] == "Collapsed")]["run"]
    seconds = sorted(run.record["seconds"] for run in collapse)
    assert len(seconds) == 3 and took["RL to collapse"] == seconds[1] / 3600
    assert took["total"] == took.drop("total").sum() and 1 < took["total"] < 3
    assert plan.notes(load("laptop"))[0].startswith(
        "Hours: the median of the seeds in results/laptop"
    )
    # Of the study's seeds, two were killed on the way to their collapse.
    took, index = plan.plan(load("study"))["hours"], roles.published("study").index
    collapse = index[(index["role"] == "training") & (index["key"] == "Collapsed")]["run"]
    whole = [run.seconds for run in collapse if not isnan(run.seconds)]
    assert len(whole) == 6 and took["RL to collapse"] == pytest.approx(median(whole) / 3600)


def test_a_profile_without_published_runs_has_no_hours_on_cpu():
    assert plan.plan(load("own"))["hours"].isna().all()
    assert plan.notes(load("own"))[0] == "Hours: not known, since no seed is published."
