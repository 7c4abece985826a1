"""One update on two ranks (gloo) is that of one: ms-swift's, and verl's on two nodes of a cluster."""

import json
import os
import sys
from unittest.mock import patch

import numpy as np
import pytest
from safetensors.torch import load_file

from companion import params, runs
from companion.params import ROOT
from companion.stages import rl, swift_command
from companion.stages.launch import launch

TINY = {
    "rl.collapse.check_every": 1,
    "rl.collapse.max_steps": 1,
    "rl.collapse.entropy": 1e-6,
    "entropy.prompts": 8,
    "rl.batch_size": 8,
    "rl.mini_batch_size": 8,
}


def update(root, **hardware):
    """verl's own metrics of the first update under this hardware."""
    changes = TINY | {f"hardware.{name}": value for name, value in hardware.items()}
    with patch.object(runs, "ROOT", root):
        run = rl.collapse(params.load("smoke", changes))
    [line] = [
        json.loads(x)
        for x in (run.folder / "verl.jsonl").read_text().splitlines()
        if "actor/grad_norm" in x
    ]
    return {
        name: line["data"][f"actor/{name}"] for name in ("pg_loss", "grad_norm", "entropy_loss")
    }


@pytest.mark.slow
def test_verl_on_two_nodes_of_a_ray_cluster(cluster, tmp_path):
    alone = update(tmp_path / "alone", threads=1)
    with patch.dict(os.environ, {"RAY_ADDRESS": f"http://{cluster.head_node.webui_url}"}):
        assert update(tmp_path / "nodes", threads=1, nodes=2) == pytest.approx(alone, rel=1e-4)


HEAT = {
    "reheat.batch_size": 32,
    "reheat.micro_batch_size": 8,
    "reheat.max_steps": 2,
    "reheat.check_every": 1,
    "entropy.prompts": 8,
    "hardware.threads": 1,
}
ON_GPUS = HEAT | {
    "hardware.platform": "gpu",
    "hardware.gpus_per_node": 2,
    "rl.rollout_engine": "vllm",
    "evaluation.engine": "vllm",
}
COMPARED = ("kl", "rollout_entropy", "grad_norm", "token_entropy", "response_length")


def heated(folder, words, environment, profile):
    """What ms-swift measured, a row a step."""
    swift_command.write_inputs(profile, "forward", folder)
    (folder / "metrics.jsonl").write_text("")
    launch(words, environment, folder / "ms-swift.log", lambda: None)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(folder, step):
    return load_file(folder / "swift" / f"checkpoint-{step}" / "model.safetensors")


def same(ours, other):
    return ours.keys() == other.keys() and all(
        w.dtype == other[name].dtype and w.equal(other[name]) for name, w in ours.items()
    )


def test_ms_swift_on_two_ranks(tmp_path):
    """The same prompts in the same order: rank 0 gets the even ones, rank 1 the odd ones."""
    profile, rows = params.load("smoke", HEAT | {"reheat.max_steps": 1}), []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        words = swift_command.arguments(profile, ROOT / profile.task.base, folder)
        words = [sys.executable, "-m", "swift.cli.main", "rlhf", *words]
        at = words.index("--gradient_accumulation_steps") + 1
        words[at] = str(int(words[at]) // ranks)
        environment = swift_command.environment(profile) | (
            {"NPROC_PER_NODE": "2"} if ranks == 2 else {}
        )
        rows.append(heated(folder, words, environment, profile)[-1])
    for name in COMPARED:
        np.testing.assert_allclose(rows[1][name], rows[0][name], rtol=1e-4, err_msg=name)


@pytest.mark.slow
def test_ms_swift_sharded_on_two_ranks(tmp_path):
    """The command for GPUs, but for vLLM: FSDP2 trains, saves and resumes.

    Through the head, towards a frozen teacher; beside one rank's logits.
    """
    frozen = {"reheat.teacher": "frozen"}
    cpu, gpu = (params.load("smoke", asked | frozen) for asked in (HEAT, ON_GPUS))
    fused = params.change(cpu, {"reheat.through_head": True})  # measured as the other is
    base = ROOT / cpu.task.base
    plugin = ["--external_plugins", swift_command.PLUGIN, str(ROOT / "tests" / "sharded_on_cpu.py")]
    here = ["--use_cpu", "true", "--use_vllm", "false", *plugin]
    environment = swift_command.environment(cpu) | swift_command.environment(gpu)

    def sharded(name, *more):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        words = swift_command.command(gpu, base, folder)
        at = words.index("--vllm_mode")  # refused where vLLM is not used
        words = [*words[:at], *words[at + 2 :], *here, *more]
        return folder, heated(folder, words, environment, fused)

    # Weights are kept and saved in fp32 while bf16 computes: untrained, they are the base's.
    untrained, _ = sharded("untrained", "--learning_rate", "0", "--max_steps", "1")
    assert same(weights(untrained, 1), load_file(base / "model.safetensors"))

    alone = tmp_path / "alone"
    alone.mkdir()
    expected = heated(
        alone,
        [*swift_command.command(cpu, base, alone), *plugin],
        swift_command.environment(cpu),
        cpu,
    )
    folder, rows = sharded("sharded", "--bf16", "false")
    for ours, theirs in zip(rows, expected, strict=True):
        for name in COMPARED:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, err_msg=name)

    whole = weights(folder, 2)
    first = folder / "swift" / "checkpoint-1"
    again, resumed = sharded("sharded", "--bf16", "false", "--resume_from_checkpoint", str(first))
    assert resumed[-1]["step"] == 2 and same(weights(again, 2), whole)
    assert not same(whole, weights(folder, 1))
