"""The wheel in an environment of its own: what needs no framework runs, the rest says what it lacks."""

import re
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
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True
    )
    [wheel] = folder.glob("*.whl")
    pins = (ROOT / "requirements" / "cpu.txt").read_text()
    (folder / "pins.txt").write_text("\n".join(re.findall(r"^\S+==[^\s\\]+", pins, re.MULTILINE)))
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, wheel,
         "-c", folder / "pins.txt", "-r", ROOT / "requirements" / "torch-index.txt"],
        check=True,
    )  # fmt: skip
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
