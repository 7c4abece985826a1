"""The shape of Qwen3-0.6B, with random weights, on this machine: hours of a GPU's work in small.

What memory.py says of each part of an update is compared with what is resident, less what was after
the imports.
"""

import json

import numpy as np
import pandas as pd
import pytest

from companion import params, policies, runs
from companion.analysis import displacement, distribution, measure, representation
from companion.machine import memory
from companion.params import ROOT
from companion.stages import evaluate, reheat, scaling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

TOKENS = 256
"""An answer's: what random weights say does not end."""
CPU = {
    "hardware.platform": "cpu", "hardware.threads": 2,
    "rl.max_response_tokens": 16, "rl.overlong_buffer_tokens": 4,
    "entropy.prompts": 5, "task.test_problems": 1, "evaluation.max_new_tokens": 16,
    "analysis.problems": 5, "analysis.samples": 1,
    "reheat.batch_size": 2, "reheat.micro_batch_size": 2, "reheat.max_completion_tokens": TOKENS,
    "reheat.max_steps": 2, "reheat.check_every": 2, "reheat.keep_checkpoints": False,
    "reheat.through_head": False, "reheat.teacher": "frozen",
}  # fmt: skip
PROFILE = params.load("gpu-smoke", CPU)
SHAPE = memory.shape(PROFILE.task.base)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The base policy, what two updates make of it, its logits over 1.2; and what was resident."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("real-shape")
        for module in (runs, policies):
            patch.setattr(module, "ROOT", place)
        launch, plugin = reheat.launch, str(ROOT / "tests" / "remembering.py")
        words = ["--external_plugins", str(reheat.swift_command.PLUGIN), plugin]
        words += ["--callbacks", "measure_and_stop", "remember"]
        words += ["--gradient_checkpointing", "true"]  # as FSDP's own is on GPUs
        path = {"PYTHONPATH": str(ROOT / "tests")}
        patch.setattr(
            reheat,
            "launch",
            lambda asked, own, *rest, **more: launch([*asked, *words], own | path, *rest, **more),
        )
        base = policies.base(PROFILE)
        hot = reheat.reheat(PROFILE, base, force=True)
        resident = json.loads((hot.folder / "swift" / "resident.json").read_text())
        yield {
            "base": base,
            "hot": hot,
            "scaled": scaling.scale(PROFILE, base, 1.2),
            "resident": resident,
        }


def test_an_update_takes_the_memory_that_is_planned(made):
    update = memory.peaks(PROFILE).loc["reheating", "update"] * memory.GIB
    checkpointed = 4 * SHAPE.layers * 2 * TOKENS * SHAPE.hidden
    expected = {
        "weights": update["weights"] + update["teacher"],
        "optimizer": update["optimizer"],
        "gradients": update["gradients"],
        # Less what a GPU's larger pieces take.
        "logits": memory.reheating_logits(SHAPE, PROFILE.reheat, 2 * TOKENS)
        - 5 * 4 * memory.PIECE
        + checkpointed,
    }
    print({part: (made["resident"][part] / 1e9, size / 1e9) for part, size in expected.items()})
    assert made["hot"].result["step"] == 2
    for part, size in expected.items():
        assert made["resident"][part] == pytest.approx(size, rel=0.15), part


def test_exact_scaling_is_what_its_name_says(made):
    """Fig. 5 and Fig. 3 of a policy over 1.2: flatter, the same order, the same layers."""
    base, scaled = made["base"], made["scaled"].policy
    tokens = measure.table(distribution.change(PROFILE, base, scaled))
    assert (tokens["entropy_change"] > 0).all() and (tokens["kl"] > 0).all()
    assert tokens["overlap"].min() > 0.9
    layers = measure.table(representation.cka(PROFILE, base, scaled))
    same = layers[(layers["before"] == layers["after"]) & (layers["fold"] == "all")]
    assert len(same) == 2 * (SHAPE.layers + 1)
    np.testing.assert_allclose(same["cka"], 1, atol=1e-5)


def test_a_way_there_and_back_is_undone_whole(made):
    """Fig. 12 of a reheating that ends where it began."""
    base, hot = made["base"], made["hot"].policy
    way = {"collapsed": base, "reheated": hot, "cooled": hot.with_name("back")}
    way["cooled"].symlink_to(base)
    table = measure.table(displacement.reversal(PROFILE, way))
    saved = table[(table["layer"] == "all") & (table["weights"] == "as saved")].iloc[0]
    assert (saved["cosine"], saved["projection"]) == pytest.approx((-1, 1))
    assert saved["residual_ratio"] == 0


def test_vllm_answers_the_held_out_problems(made):
    run = evaluate.evaluate(PROFILE, made["scaled"].policy, "PR-scale")
    samples = pd.read_parquet(run.folder / "samples.parquet")
    assert run.identity["settings"]["engine"] == "vllm"
    assert len(samples) == 6 * PROFILE.evaluation.samples
    assert (samples["tokens"] == PROFILE.evaluation.max_new_tokens).all()
    assert run.result["cut"] == 1
