"""A profile is typed; what is wrong with it is said in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from companion import params


@pytest.mark.parametrize("profile", params.profiles())
def test_every_profile_loads(profile):
    assert params.load(profile).name == profile


def test_overrides_reach_nested_fields_and_none_keeps_the_profile():
    profile = params.load("laptop", {"reheat.tau": 1.3, "seed": None})
    assert profile.reheat.tau == 1.3
    assert profile.seed == params.load("laptop").seed


def test_change_sets_what_load_would_keep_and_leaves_the_original_alone():
    laptop = params.load("laptop")
    endless = params.change(laptop, {"reheat.ceiling_entropy": None, "task.train_problems": 64})
    assert (endless.reheat.ceiling_entropy, endless.task.train_problems) == (None, 64)
    assert laptop == params.load("laptop")
    with pytest.raises(ValueError, match="did you mean 'tau'"):
        params.change(laptop, {"reheat.tua": 1.2})


def test_extends_takes_the_parent_and_changes_only_what_it_names():
    laptop, smoke = params.load("laptop"), params.load("smoke")
    assert smoke.rl.clip_high == laptop.rl.clip_high
    assert smoke.rl.batch_size != laptop.rl.batch_size


@pytest.mark.parametrize(
    ("profile", "overrides", "sentence"),
    [
        ("labtop", {}, "profile is 'labtop', which does not exist; use one of .*laptop"),
        (
            "laptop",
            {"reheat.tua": 1.2},
            "'reheat.tua' is no field of a profile; did you mean 'tau'",
        ),
        (
            "laptop",
            {"reheat.tau": 0},
            r"reheat.tau is 0: input should be greater than or equal to 0.01",
        ),
        ("laptop", {"reheat.tau": 1}, "tau is 1.*use tau > 1 to reheat"),
        (
            "laptop",
            {"reheat.tau": float("inf")},
            "reheat.tau is inf: input should be a finite number",
        ),
        ("laptop", {"rl.clip_low": "wide"}, "rl.clip_low is 'wide'"),
        ("laptop", {"rl.mini_batch_size": 7}, "rl.mini_batch_size is 7 and must divide"),
        ("laptop", {"rl.arms": ["+DAPO w/ RR"]}, r"rl: arms is .* must begin with '\+DAPO'"),
        ("laptop", {"rl.arms": ["+DAPO", "+DAPO w/ RR"]}, r"hold '\+DAPO w/ PR-FKL', the method"),
        ("laptop", {"seed.x": 1}, "'seed.x' is no field of a profile; 'seed' has no parts"),
        ("laptop", {"rl.arms": ["+DAPO", "PR-FKL"]}, "rl.arms.1 is 'PR-FKL': input should be"),
        ("laptop", {"evaluation.top_p": 1.5}, "evaluation.top_p is 1.5"),
        ("laptop", {"evaluation.engine": "tgi"}, "evaluation.engine is 'tgi'"),
        ("laptop", {"seed": -1}, "seed is -1"),
        ("qwen3-4b", {"hardware.tensor_parallel": 3}, "tensor_parallel is 3 and must divide"),
    ],
)
def test_bad_input_gets_one_sentence(profile, overrides, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        params.load(profile, overrides)
    assert "\n" not in str(error.value)


def test_a_missing_field_is_named(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "half.yaml").write_text("about: half a profile\n")
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(params, "PROFILES", tmp_path / "params")
    with pytest.raises(ValueError, match="'seed' is missing; add it to the profile"):
        params.load("half")


@pytest.mark.fault("a profile that cannot be read")
@pytest.mark.parametrize("text", [b"", b"a: [1", b"[1, 2]", b"\x80", b"seed: 1\n\tx: 2"])
def test_a_profile_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch, text):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "half.yaml").write_bytes(text)
    monkeypatch.setattr(params, "ROOT", tmp_path)
    monkeypatch.setattr(params, "PROFILES", tmp_path / "params")
    with pytest.raises(ValueError, match=r"^'params/half.yaml' cannot be read \(.*\); restore it$"):
        params.load("half")


def test_a_path_leads_to_the_same_place_in_every_folder(tmp_path):
    """Frameworks run in a run's folder, the caller in another: what COMPANION_DATA_DIR says is one."""
    assert params.place("x/y") == params.ROOT / "x" / "y"
    assert params.place("~/y") == Path.home() / "y"
    assert params.place(str(tmp_path)) == tmp_path
    ask = (
        "from companion import params; from companion.tasks import benchmarks; "
        "print(benchmarks.folder_of(params.load('qwen3-4b').task))"
    )
    said = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=tmp_path,
        env=os.environ | {"COMPANION_DATA_DIR": "data"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.strip() == str(params.ROOT / "data")
