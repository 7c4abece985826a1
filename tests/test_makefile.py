"""Which environment a command of the Makefile uses, read from what it would do (`make -n`)."""

import os
import re
import shutil
import subprocess

import pytest

from companion import params
from companion.params import ROOT

ENVIRONMENTS = {"cpu": ".venv", "gpu": ".venv-gpu"}
DOCUMENTED = ["README.md", "docs/paper-scale.md", "docs/slurm.sbatch"]


@pytest.fixture
def clone(tmp_path):
    """What make reads of a fresh clone."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("params", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def make(clone, *words, **variables):
    """What make says; with -n, what it would do."""
    ours = ("MAKE", "CONDA_", "PROFILE", "PLATFORM", "VENV")
    own = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    own["PYTHON"] = "python3.11"  # whose folder, should an environment be active, is none of make's
    done = subprocess.run(
        ["make", *words], cwd=clone, env=own | variables, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def ready(clone, platform):
    """An environment that is up to date."""
    folder = clone / ENVIRONMENTS[platform]
    folder.mkdir()
    (folder / f".ready-{platform}").touch()


def dry(clone, *words, **variables):
    """The environments and the lists of packages that a command would touch."""
    status, said = make(clone, "-n", *words, **variables)
    assert status == 0, said
    used = {name for name in re.findall(r"(\S*)/bin/", said) if name.startswith((".venv", "/"))}
    return used, set(re.findall(r"requirements/([cg]pu)\.txt", said))


@pytest.mark.parametrize("name", params.profiles())
def test_the_platform_is_the_profiles(clone, name):
    platform = params.load(name).hardware.platform
    for word in ("setup", "doctor", "plan", "reproduce", "publish", "lab"):
        assert dry(clone, word, f"PROFILE={name}") == ({ENVIRONMENTS[platform]}, {platform})


def test_a_profile_of_ones_own_has_the_platform_of_what_it_extends(clone):
    (clone / "params" / "mine.yaml").write_text("extends: qwen3-8b # ours\nrl:\n  arms: []\n")
    (clone / "params" / "here.yaml").write_text("extends: mine\nhardware:\n  platform: cpu\n")
    assert dry(clone, "doctor", "PROFILE=mine")[1] == {"gpu"}
    assert dry(clone, "doctor", "PROFILE=here")[1] == {"cpu"}


def test_no_documented_command_installs_another_platforms_packages(clone):
    texts = [(ROOT / name).read_text() for name in DOCUMENTED]
    said = [
        words for text in texts for words in re.findall(r"`(make [a-z]+ [^`]*PROFILE=[^`]+)`", text)
    ]
    assert len(said) > 5
    for words in said:
        [name] = re.findall(r"PROFILE=(\S+)", words)
        platform = params.load(name).hardware.platform
        assert dry(clone, *words.split()[1:]) == ({ENVIRONMENTS[platform]}, {platform}), words


def test_one_platforms_environment_says_nothing_of_the_others(clone):
    ready(clone, "cpu")
    for asked in ("PLATFORM=gpu", "PROFILE=qwen3-4b"):
        assert dry(clone, "setup", asked) == ({".venv-gpu"}, {"gpu"})
    assert dry(clone, "doctor")[1] == set()  # nothing is installed twice
    ready(clone, "gpu")
    assert dry(clone, "doctor", "PROFILE=qwen3-4b") == ({".venv-gpu"}, set())
    assert dry(clone, "check") == ({".venv"}, set())


def test_an_environment_never_gets_a_second_platforms_packages(clone):
    ready(clone, "gpu")
    status, said = make(clone, "setup", "VENV=.venv-gpu", "PYTHON=true")
    assert status and "holds the packages for gpu, not for cpu: name another folder in VENV" in said
    assert [path.name for path in (clone / ".venv-gpu").iterdir()] == [".ready-gpu"]


def test_condas_active_environment_is_taken_where_it_is_the_platforms(clone):
    conda = {"CONDA_DEFAULT_ENV": "companion-gpu", "CONDA_PREFIX": "/opt/conda"}
    assert dry(clone, "doctor", "PROFILE=qwen3-4b", **conda) == ({"/opt/conda"}, set())
    assert make(clone, "-s", "bin", "PROFILE=qwen3-4b", **conda) == (0, "/opt/conda/bin\n")
    assert dry(clone, "doctor", **conda) == ({".venv"}, {"cpu"})
    other = {"CONDA_DEFAULT_ENV": "base", "CONDA_PREFIX": "/opt/conda"}
    assert dry(clone, "doctor", **other) == ({".venv"}, {"cpu"})


def test_clean_leaves_what_was_run(clone):
    for platform in ENVIRONMENTS:
        ready(clone, platform)
    (clone / "runs" / "laptop").mkdir(parents=True)
    assert make(clone, "clean")[0] == 0
    assert (clone / "runs" / "laptop").exists()
    assert not list(clone.glob(".venv*"))
