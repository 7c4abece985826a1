"""One source of pins: what is installed, what conda users get and what is locked agree."""

import importlib.metadata
import re

import pytest
import yaml

from companion.params import ROOT

REQUIREMENTS = ROOT / "requirements"


def pins(name):
    lines = (REQUIREMENTS / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if re.match(r"[A-Za-z0-9]", line))


def asked(name):
    """Exact versions that an .in file asks for, those of the files it includes too."""
    found = {}
    for line in (REQUIREMENTS / name).read_text().splitlines():
        if line.startswith("-r "):
            found |= asked(line.removeprefix("-r "))
        elif re.match(r"[A-Za-z0-9]", line) and "==" in line:
            package, version = line.split("==")
            found[package.lower()] = version
    return found


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_the_lock_holds_what_is_asked_for(platform):
    locked = pins(f"{platform}.txt")
    assert asked(f"{platform}.in")
    for package, version in asked(f"{platform}.in").items():
        assert locked[package].removesuffix("+cpu") == version


def test_both_platforms_run_the_same_frameworks():
    cpu, gpu = pins("cpu.txt"), pins("gpu.txt")
    for package in ("verl", "ms-swift", "trl", "papermill", "nbval", "seaborn"):
        assert cpu[package] == gpu[package]


@pytest.mark.parametrize(
    ("file", "platform"), [("environment.yml", "cpu"), ("environment-gpu.yml", "gpu")]
)
def test_conda_takes_its_pins_from_the_same_list(file, platform):
    dependencies = yaml.safe_load((ROOT / file).read_text())["dependencies"]
    assert "python=3.11" in dependencies
    pip = next(entry["pip"] for entry in dependencies if isinstance(entry, dict))
    assert f"-r requirements/{platform}.txt" in pip and "-e ." in pip
    assert not [entry for entry in pip if "==" in entry]


def test_what_runs_here_is_what_is_pinned():
    platform = "cpu" if importlib.metadata.version("torch").endswith("+cpu") else "gpu"
    different = {
        package: (version, importlib.metadata.version(package))
        for package, version in pins(f"{platform}.txt").items()
        if importlib.metadata.version(package) != version
    }
    assert not different
