"""One source of pins: what is installed, what conda users get and what is locked agree."""

import importlib.metadata
import re
import subprocess

import pytest
import yaml
from gpu_pins import LOG
from gpu_pins import pins as gpu_pins

from companion.params import ROOT

REQUIREMENTS = ROOT / "requirements"


PIN = re.compile(r"([A-Za-z0-9][\w.-]*)==(\S+) \\\n((?: {4}--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")
"""A package of a list, its version, and on lines of their own the hashes of its files."""


def pins(name):
    return {package: version for package, version, _ in PIN.findall(locked(name))}


def locked(name):
    return (REQUIREMENTS / name).read_text()


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
    assert asked(f"{platform}.in")
    assert asked(f"{platform}.in").items() <= pins(f"{platform}.txt").items()


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_every_file_that_is_installed_has_a_hash(platform):
    """pip and uv refuse what has none, or another (--require-hashes)."""
    text = locked(f"{platform}.txt")
    assert PIN.sub("", text) == "" and len(PIN.findall(text)) > 200
    installs = [
        line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line
    ]
    assert [line for line in installs if "--require-hashes" not in line] == [
        "\t$(BIN)/uv pip install -q --no-deps --python $(BIN)/python -e ."  # a folder has none
    ]


def test_what_is_asked_for_alone_keeps_its_hashes(tmp_path):
    """The Makefile takes torch and uv out of the list, to install them before the others."""
    rules = re.findall(r"awk '(.+?)' \$\(PINS\)", (ROOT / "Makefile").read_text())
    assert len(rules) == 2
    for rule in rules:
        words = ["awk", rule.replace("$$", "$"), REQUIREMENTS / "cpu.txt"]
        taken = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        [(package, version, hashes)] = PIN.findall(taken)
        assert package in ("torch", "uv") and PIN.sub("", taken) == ""
        assert f"{package}=={version} \\\n{hashes}" in locked("cpu.txt")


def test_torchs_cpu_build_is_the_one_file():
    """On the official CPU list and in a folder of wheels it is the same; the registry's is CUDA's."""
    [(version, hashes)] = [
        (v, h) for package, v, h in PIN.findall(locked("cpu.txt")) if package == "torch"
    ]
    assert version.endswith("+cpu") and hashes.count("sha256") == 1


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
    assert pip[:2] == ["--require-hashes", f"-r requirements/{platform}.txt"]
    # pip refuses a folder beside hashes; the first line says how the companion itself is installed.
    assert not [entry for entry in pip if "==" in entry or entry.startswith("-e")]
    assert "pip install --no-deps -e ." in (ROOT / file).read_text().splitlines()[0]


def test_gpu_pins_were_tried_since_they_changed():
    """Changed pins need a newer log: make test-gpu-pins."""
    text = LOG.read_text()
    assert f"requirements/gpu.txt: {gpu_pins()}" in text
    assert re.match(r"date: \d{4}-\d\d-\d\d", text)
    assert " passed" in text and not re.search(r"FAILED|ERROR| failed", text)


def test_what_runs_here_is_what_is_pinned():
    platform = "cpu" if importlib.metadata.version("torch").endswith("+cpu") else "gpu"
    different = {
        package: (version, importlib.metadata.version(package))
        for package, version in pins(f"{platform}.txt").items()
        if importlib.metadata.version(package) != version
    }
    assert not different
