"""The wheel in an environment of its own: what needs no framework runs, the rest says what it lacks."""

import re
import shutil
import subprocess
import sys

import pytest

from companion.params import ROOT

pytestmark = pytest.mark.slow

CHECKPOINTS = ROOT / "results" / "checkpoints"


@pytest.fixture(scope="module")
def companion(tmp_path_factory):
    """Runs `companion` of a fresh environment, from an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # since building leaves files
    for name in ("src", "params", "requirements"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source], check=True
    )
    [wheel] = folder.glob("*.whl")
    pins = re.findall(
        r"^\S+==[^\s\\]+", (ROOT / "requirements" / "cpu.txt").read_text(), re.MULTILINE
    )
    (folder / "pins.txt").write_text("\n".join(pins))
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    install = [folder / "env" / "bin" / "python", "-m", "pip", "install", "-q"]
    # torch alone, as in the Makefile: an index out of reach costs its retries once.
    [torch] = [pin for pin in pins if pin.startswith("torch==")]
    index = ["-r", ROOT / "requirements" / "torch-index.txt"]
    subprocess.run([*install, "--no-deps", torch, *index], check=True)
    subprocess.run([*install, wheel, "-c", folder / "pins.txt"], check=True)
    (work := folder / "work").mkdir()

    def run(*words):
        return subprocess.run(
            [folder / "env" / "bin" / "companion", *map(str, words)],
            cwd=work, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        )  # fmt: skip

    (work / "prompts.jsonl").write_text('{"prompt": "3 5 7 -> 36"}\n{"prompt": "2 2 9 -> 13"}\n')
    return run


def test_measuring_scaling_and_merging_need_no_framework(companion):
    collapsed, base = (CHECKPOINTS / f"countdown-{name}" for name in ("collapsed", "base"))
    for words in (
        ("scale", "--policy", collapsed, "--tau", 1.3, "--out", "scaled"),
        ("merge", "--policy", collapsed, "--base", base, "--strength", 0.4, "--out", "merged"),
        ("entropy", "--policy", "scaled", "--prompts", "prompts.jsonl", "--max-tokens", 32),
    ):
        done = companion(*words)
        assert done.returncode == 0, done.stderr
    assert "mean token entropy 0." in done.stdout


def test_reheating_names_the_extra_that_it_lacks(companion):
    done = companion("reheat", "--policy", "x", "--prompts", "prompts.jsonl", "--out", "out")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "this needs swift and mistune, of the extra 'frameworks'" in done.stderr
