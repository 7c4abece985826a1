"""A command run here or on a Ray cluster: one environment, one log, ended together."""

import os
import subprocess
import sys

import pytest

from companion.launch import launch, write_script

SAY = "import os, sys; print(os.environ['WORD'], sys.argv[1:])"


def test_a_script_repeats_the_command_with_its_environment(tmp_path):
    words = [sys.executable, "-c", SAY, "a b", '{"c": "$HOME"}', "[d,*]"]
    script = write_script(words, {"WORD": "it's"}, tmp_path / "command.sh")
    out = subprocess.run(["bash", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == """it's ['a b', '{"c": "$HOME"}', '[d,*]']"""


RANK = """
import os, torch.distributed as dist, torch
dist.init_process_group("gloo", init_method="env://", rank=int(os.environ["NODE_RANK"]),
                        world_size=int(os.environ["NNODES"]))
total = torch.tensor([float(os.environ["NODE_RANK"]) + 1])
dist.all_reduce(total)
open(f"{os.environ['OUT']}/{os.environ['NODE_RANK']}", "w").write(
    f"{total.item()} {os.environ['NPROC_PER_NODE']}")
dist.destroy_process_group()
"""


@pytest.fixture(autouse=True)
def address(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"http://{cluster.head_node.webui_url}")


EVERYWHERE = [sys.executable, "-m", "companion.adapters.every_node", "2", "1", sys.executable, "-c"]


def test_every_node_runs_the_command_as_its_rank_with_the_jobs_environment(tmp_path):
    launch([*EVERYWHERE, RANK], {"OUT": str(tmp_path)}, tmp_path / "log", int, on_cluster=True)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["3.0 1", "3.0 1"]


def test_a_node_that_fails_fails_the_command(tmp_path):
    fail = "import os, sys; sys.exit(int(os.environ['NODE_RANK']) * 3)"
    with pytest.raises(RuntimeError, match="log failed"):
        launch([*EVERYWHERE, fail], {}, tmp_path / "log", int, on_cluster=True)


def test_a_job_is_followed_and_its_failure_reported(tmp_path):
    words = [sys.executable, "-c", SAY, "a b"]
    launch(words, {"WORD": "here"}, tmp_path / "verl.log", int, on_cluster=True)
    assert "here ['a b']" in (tmp_path / "verl.log").read_text()
    with pytest.raises(RuntimeError, match="verl failed"):
        launch([sys.executable, "-c", "1/0"], {}, tmp_path / "verl.log", int, on_cluster=True)
    assert "ZeroDivisionError" in (tmp_path / "verl.log").read_text()


def test_an_interrupt_stops_the_job(tmp_path):
    from ray.job_submission import JobStatus, JobSubmissionClient

    alive = tmp_path / "alive"

    def interrupt():
        if alive.exists():
            raise KeyboardInterrupt

    words = [sys.executable, "-c", f"import time; open({str(alive)!r}, 'w'); time.sleep(600)"]
    with pytest.raises(KeyboardInterrupt):
        launch(words, {}, tmp_path / "verl.log", interrupt, on_cluster=True)
    jobs = JobSubmissionClient(os.environ["RAY_ADDRESS"]).list_jobs()
    [job] = [job for job in jobs if (job.submission_id or "").startswith(tmp_path.name)]
    assert job.status == JobStatus.STOPPED
