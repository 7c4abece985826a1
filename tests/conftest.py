"""Settings that every test shares."""

import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

# Before torch is imported: tests start framework processes beside themselves on two cores.
# (xdist's workers inherit what its controller has set here.)
os.environ.setdefault("OMP_NUM_THREADS", "2")

import datasets  # noqa: F401  # here, since log handlers keep the stderr that they find when imported:
import pytest
import torch
import transformers  # noqa: F401  # within a test that is pytest's, which is closed after it
from hypothesis import settings
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from xdist.scheduler import LoadScopeScheduling

from companion import hashes, params
from companion.params import ROOT

settings.register_profile("companion", deadline=None)  # a first call imports and compiles
settings.load_profile("companion")


TOGETHER = {
    "test_browser": "executed",
    "test_notebooks": "executed",
    "test_launch": "cluster",
    "test_ranks": "cluster",
}
"""Files whose tests share a fixture that must be made once, the longest first."""


class Scheduling(LoadScopeScheduling):
    """How `make test`'s two workers share out the tests: by file, those of TOGETHER as one."""

    def _split_scope(self, nodeid):
        name = Path(nodeid.split("::")[0]).stem
        return TOGETHER.get(name, name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: [*TOGETHER, item.path.stem].index(item.path.stem))
    for item in items:
        if "executed" in item.fixturenames:
            item.add_marker(pytest.mark.timeout(3000))  # the first one waits for all notebooks


def save_policy(folder, **tensors):
    """A folder with all that a policy has, its weights these tensors; loads nowhere."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("config.json", '{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}'),
        ("tokenizer.json", "{}"),
    ):
        (folder / name).write_text(text)
    weights = {name: torch.as_tensor(values) for name, values in tensors.items()}
    save_file(weights or {"norm": torch.ones(2)}, folder / "model.safetensors")
    return folder


def shard(folder, files=2):
    """Divide a policy's weights among several files with an index, in place; tensors' files by name."""
    from safetensors.torch import load_file, save_file

    found = load_file(folder / hashes.WEIGHTS)
    (folder / hashes.WEIGHTS).unlink()
    names = {name: f"model-{i % files}.safetensors" for i, name in enumerate(sorted(found))}
    for file in set(names.values()):
        part = {name: found[name] for name in names if names[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / hashes.SHARDS).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return names


class Largest(TorchDispatchMode):
    """The most elements of any tensor made within this context."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.elements = max(self.elements, made.numel())
        return made


class Live(TorchDispatchMode):
    """The most bytes that tensors made within this context took at a time, but those given."""

    now = most = 0

    def __init__(self, *but):
        super().__init__()
        self.known = weakref.WeakSet(tensor.untyped_storage() for tensor in but)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage):
        if storage not in self.known:
            self.known.add(storage)
            weakref.finalize(storage, self._forget, storage.nbytes())
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)

    def _forget(self, size):
        self.now -= size


THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def threads():
    """As many in this process as in those that tests start, whatever a test before has set: sums over
    other numbers of threads differ in their last digits."""
    torch.set_num_threads(THREADS)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where runs/ and results/ are, instead of the repository."""
    from companion import runs
    from companion.commands import publish, reproduce, verify
    from companion.exhibits import files, gallery
    from companion.study import roles

    for module in (runs, publish, reproduce, roles, gallery, files, verify):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def studies(place, monkeypatch):
    """Hand-made studies, without their analyses, that were made in `place`, by seed: that of 7."""
    import hand_made

    from companion import runs
    from companion.study import roles

    here = {"git": {"revision": "a", "dirty": False}, "versions": {}, "hardware": {}}
    monkeypatch.setattr(runs, "provenance", lambda: here)  # git takes its time
    made = {7: hand_made.study(hand_made.PROFILE, place)}

    def not_made(profile):
        raise runs.NotFinished("run cka is not finished here")

    found = {name: lambda profile, name=name: made[profile.seed][name] for name in made[7]}
    monkeypatch.setattr(roles, "STUDY", found)
    monkeypatch.setattr(roles, "ANALYSES", {"cka": not_made})
    return made


@pytest.fixture
def finished(studies):
    """The runs of seed 7."""
    return [run for role in studies[7].values() for run in role.values()]


def run(command, *words):
    """What a command of the virtual environment prints."""
    words = (Path(sys.executable).with_name(command), *words)
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{words} failed:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@pytest.fixture
def real() -> Path:
    """The folder of real benchmark files; tests that need them are skipped where none is named."""
    folder = os.environ.get("COMPANION_DATA_DIR")
    if not folder:
        pytest.skip("COMPANION_DATA_DIR is unset: no real benchmark files at hand")
    return Path(folder)


@pytest.fixture(scope="session")
def executed():
    """Every notebook on smoke: verl trains, ms-swift reheats, vLLM and transformers evaluate."""
    run("companion", "reproduce", "--profile", "smoke", "--jobs", "2")
    return ROOT / "runs" / "smoke" / f"notebooks-seed{params.load('smoke').seed}"


@pytest.fixture(scope="session")
def cluster():
    """A Ray cluster of two nodes on this machine, each with one logical GPU."""
    from ray.cluster_utils import Cluster

    handler = signal.getsignal(signal.SIGTERM)
    nodes = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 16,
            "num_gpus": 1,
            "include_dashboard": True,
            "dashboard_port": 0,
        },
    )
    nodes.add_node(num_cpus=16, num_gpus=1)
    # Ray's own would drain its node, and hang, in whatever this process forks and terminates.
    signal.signal(signal.SIGTERM, handler)
    _wait_for_jobs(f"http://{nodes.head_node.webui_url}")
    yield nodes
    nodes.shutdown()


def _wait_for_jobs(address):
    """The agents that start jobs come up some seconds after their nodes."""
    from ray.job_submission import JobSubmissionClient

    for _ in range(60):
        try:
            return JobSubmissionClient(address).submit_job(entrypoint="true")
        except RuntimeError:  # no available agent
            time.sleep(1)
    raise TimeoutError("the Ray cluster takes no jobs")
