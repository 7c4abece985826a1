"""One update on two ranks (gloo) is that of one: ms-swift's, and verl's on two nodes of a cluster."""

import json
import os
from unittest.mock import patch

import numpy as np
import pytest

from companion import params, reheat, rl, runs
from companion.launch import launch
from companion.params import ROOT

TINY = {
    "rl.collapse.check_every": 1, "rl.collapse.max_steps": 1, "rl.collapse.entropy": 1e-6,
    "entropy.prompts": 8, "rl.batch_size": 8, "rl.mini_batch_size": 8,
}


def update(root, **hardware):
    """verl's own metrics of the first update under this hardware."""
    changes = TINY | {f"hardware.{name}": value for name, value in hardware.items()}
    with patch.object(runs, "ROOT", root):
        run = rl.collapse(params.load("smoke", changes))
    [line] = [json.loads(x) for x in (run.folder / "verl.jsonl").read_text().splitlines()
              if "actor/grad_norm" in x]
    return {name: line["data"][f"actor/{name}"] for name in ("pg_loss", "grad_norm", "entropy_loss")}


def test_verl_on_two_nodes_of_a_ray_cluster(cluster, tmp_path):
    alone = update(tmp_path / "alone", threads=1)
    with patch.dict(os.environ, {"RAY_ADDRESS": f"http://{cluster.head_node.webui_url}"}):
        assert update(tmp_path / "nodes", threads=1, nodes=2) == pytest.approx(alone, rel=1e-4)


def test_ms_swift_on_two_ranks(tmp_path):
    """The same prompts in the same order: rank 0 gets the even ones, rank 1 the odd ones."""
    profile = params.load("smoke", {
        "reheat.batch_size": 32, "reheat.micro_batch_size": 8, "reheat.max_steps": 1,
        "entropy.prompts": 8, "hardware.threads": 1,
    })
    start, rows = ROOT / profile.task.base, []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        reheat.write_inputs(profile, "forward", folder)
        (folder / "metrics.jsonl").touch()
        words = reheat.command(profile, start, folder)
        at = words.index("--gradient_accumulation_steps") + 1
        words[at] = str(int(words[at]) // ranks)
        environment = reheat.environment(profile) | ({"NPROC_PER_NODE": "2"} if ranks == 2 else {})
        launch(words, environment, folder / "ms-swift.log", lambda: None)
        rows.append(json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]))
    for name in ("kl", "rollout_entropy", "grad_norm", "token_entropy", "response_length"):
        np.testing.assert_allclose(rows[1][name], rows[0][name], rtol=1e-4, err_msg=name)
