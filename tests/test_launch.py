"""A command run here or on a Ray cluster: one environment, one log, ended together."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from companion.params import ROOT
from companion.stages.launch import _jobs as jobs_of
from companion.stages.launch import launch, passed_on, submission, write_script

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


def test_a_command_here_hears_of_no_cluster(tmp_path):
    """Where RAY_ADDRESS is a dashboard's, verl's own `ray.init` would end with an error."""
    assert os.environ["RAY_ADDRESS"]
    words = [sys.executable, "-c", "import os; print(sorted(os.environ))"]
    launch(words, {"WORD": "here"}, tmp_path / "log", int)
    said = (tmp_path / "log").read_text()
    assert "'WORD'" in said and "RAY_ADDRESS" not in said


def test_a_job_finds_the_callers_data_and_models_but_no_token(tmp_path, monkeypatch):
    mine = {"COMPANION_DATA_DIR": "/my/data", "HF_HOME": "/my/hub", "HF_TOKEN": "hf_secret"}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    show = f"import os; print([os.environ.get(name) for name in {list(mine)}])"
    launch([sys.executable, "-c", show], {}, tmp_path / "verl.log", int, on_cluster=True)
    assert "['/my/data', '/my/hub', None]" in (tmp_path / "verl.log").read_text()
    assert not any("hf_secret" in file.read_text() for file in tmp_path.iterdir())


SECRETS = ("HF_TOKEN", "HF_API_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGING_FACE_TOKEN", "COMPANION_KEY",
           "HF_api_key", "COMPANION_PASSWORD", "HF_CLIENT_SECRET", "COMPANION_CREDENTIALS")  # fmt: skip


def test_what_is_called_a_secret_is_not_passed_on():
    needed = {"COMPANION_DATA_DIR": "/data", "HF_HOME": "/hub", "HF_HUB_OFFLINE": "1"}
    own = needed | dict.fromkeys(SECRETS, "hf_secret") | {"PATH": "/bin"}
    assert passed_on(own) == needed


def test_the_words_that_submit_a_job():
    ray, *words = submission("run-1", Path("run/verl.sh"), {"WORD": "it's"})
    assert Path(ray).name == "ray" and words[:4] == ["job", "submit", "--submission-id", "run-1"]
    everywhere = {"WORD": "it's", "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}
    assert words[4] == "--runtime-env-json" and json.loads(words[5]) == {"env_vars": everywhere}
    assert words[6:] == ["--", "bash", "run/verl.sh"]


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


def test_a_job_that_an_earlier_call_left_behind_is_stopped_first(tmp_path):
    """Its caller was killed, and the lock is free: two would write to one folder."""
    from ray.job_submission import JobStatus, JobSubmissionClient

    client = JobSubmissionClient(os.environ["RAY_ADDRESS"])
    log, other = tmp_path / "verl.log", tmp_path / "elsewhere" / "verl.log"
    left, theirs = (
        client.submit_job(entrypoint="sleep 600", submission_id=f"{jobs_of(path)}left")
        for path in (log, other)
    )
    launch([sys.executable, "-c", "print('alone')"], {}, log, int, on_cluster=True)
    assert client.get_job_status(left) == JobStatus.STOPPED
    assert client.get_job_status(theirs) in (JobStatus.PENDING, JobStatus.RUNNING)
    client.stop_job(theirs)


def test_a_node_ends_its_command_when_ray_kills_the_actor(tmp_path):
    file = tmp_path / "pid"
    command = f"import os, time; open({str(file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    words = [sys.executable, "-c", command]

    def interrupt():
        if file.exists() and file.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch([*EVERYWHERE[:-2], *words], {}, tmp_path / "log", interrupt, on_cluster=True)
    for _ in range(200):
        if not psutil.pid_exists(int(file.read_text())):
            return
        time.sleep(0.1)
    pytest.fail("it goes on")


# --- Slurm ----------------------------------------------------------------------------------

TEMPLATE = ROOT / "docs" / "slurm.sbatch"
STAND_INS = {
    "srun": 'while [[ $1 == -* ]]; do [ "$1" != -w ] || shift; shift; done; exec "$@"',
    "scontrol": "echo one; /bin/sleep 0.05; echo two",
    "hostname": "echo 192.0.2.1",
    "sleep": "exec /bin/sleep 0.05",  # ten minutes are six seconds
    "make": """
        if [ "$2" = bin ]; then echo elsewhere; exit; fi
        echo "$@, $RAY_ADDRESS, $SRUN_CPUS_PER_TASK cores, $(ls joined | wc -l) nodes"; ${WORK:-}""",
    "elsewhere/ray": """
        case "$1 $2" in
          "start $NEVER"*) exec /bin/sleep 60 ;;
          "start $ENDS"*) touch joined/$$; /bin/sleep 1; rm joined/$$; exit 0 ;;
          "start "*) touch joined/$$; exec /bin/sleep 60 ;;
          "status "*) for node in joined/*; do [ ! -f "$node" ] || echo " 1 node_$node"; done ;;
        esac""",
}


def batch(folder, **variables):
    """The template as Slurm would run it on two nodes, with stand-ins for Slurm, Ray and make."""
    for name, text in STAND_INS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    (folder / "joined").mkdir()
    slurm = {
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_NODELIST": "one,two",
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "1",
        "SLURM_CPUS_PER_TASK": "64",
        "PATH": f"{folder}:{os.environ['PATH']}",
        "NEVER": "none",
        "ENDS": "none",
    }
    own = {name: value for name, value in os.environ.items() if name != "PROFILE"}
    process = subprocess.Popen(
        ["bash", TEMPLATE],
        env=own | slurm | variables,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(60), lambda: process.stdout.read()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what Slurm does at the end of a job


def test_a_batch_job_runs_the_study_once_all_nodes_have_joined(tmp_path):
    status, said = batch(tmp_path, PROFILE="mine")
    assert status == 0
    assert "reproduce PROFILE=mine, http://192.0.2.1:8265, 64 cores, 2 nodes" in said()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({}, "PROFILE: is not set; name the profile"),
        ({"PROFILE": "mine", "NEVER": "--address"}, "only 1 of 2 nodes are in the Ray cluster"),
        ({"PROFILE": "mine", "NEVER": "--head"}, "only 0 of 2 nodes are in the Ray cluster"),
        ({"PROFILE": "mine", "ENDS": "--head", "NEVER": "--address"}, "Ray's head has ended"),
        ({"PROFILE": "mine", "ENDS": "--address", "WORK": "/bin/sleep 60"}, "Ray has ended before"),
    ],
)
def test_a_batch_job_that_cannot_go_on_ends_and_says_why(tmp_path, variables, sentence):
    status, said = batch(tmp_path, **variables)
    assert status and sentence in said()
