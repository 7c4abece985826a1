"""What a machine lacks for a profile: every judgement on both sides of its line."""

import re
import resource
import socket
import time

import pytest

from companion import params
from companion.machine import access, doctor, facts, plan
from companion.tasks import benchmarks

BASE = "results/checkpoints/countdown-base"


@pytest.fixture
def large():
    return params.load("qwen3-4b")


@pytest.fixture
def laptop():
    return params.load("laptop")


# --- Judgements -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "ok"),
    [
        ([(79.2, 78.9)] * 8, True),
        ([(79.2, 78.9)] * 9, True),
        ([(79.2, 78.9)] * 7, False),
        ([(79.2, 78.9)] * 7 + [(79.2, 40.0)], False),  # another program is on one
        ([(140.0, 139.0)] * 8, True),
        ([(12.0, 11.9)] * 8, False),
        ([], False),
    ],
)
def test_gpus_must_be_as_many_as_large_and_free(large, here, ok):
    assert doctor.gpus(large, here).ok is ok


def test_a_driver_that_torch_cannot_use_is_found_before_it_computes_on_the_cpu():
    assert doctor.cuda("gpu", True, "13.0", "580.65").ok
    old = doctor.cuda("gpu", False, "13.0", "550.54")
    assert not old.ok and old.found == "not usable, driver 550.54"
    assert old.needed == "a driver for CUDA 13.0"
    assert (
        not doctor.cuda("gpu", False, "None", None).ok
        and doctor.cuda("cpu", False, "None", None).ok
    )


def test_verl_waits_forever_for_cores_that_are_not_there(large, laptop):
    assert doctor.cores(large, 3 * 8 + 9).ok and not doctor.cores(large, 3 * 8 + 8).ok
    assert doctor.cores(laptop, 2).ok and not doctor.cores(laptop, 1).ok


def test_rays_disk_and_pythons_headers():
    assert not doctor.temporary_files("gpu", "/tmp", 19).ok
    assert (
        doctor.temporary_files("gpu", "/tmp", 21).ok and doctor.temporary_files("cpu", "/tmp", 2).ok
    )
    assert not doctor.headers("gpu", None).ok and doctor.headers("cpu", None).ok
    assert doctor.headers("gpu", "/usr/include/python3.11/Python.h").ok


def test_a_cpu_profile_needs_no_gpu(laptop):
    check = doctor.gpus(laptop, [])
    assert check.ok and check.needed == "" and check.found == "none"


def test_host_memory_and_disk_are_held_against_the_plan(large, laptop):
    assert doctor.host_memory(large, 200).ok and not doctor.host_memory(large, 100).ok
    assert doctor.host_memory(laptop, 8).ok and not doctor.host_memory(laptop, 4).ok
    needed = plan.plan(large).loc["total", ["disk_gib", "scratch_gib"]].sum()
    assert doctor.disk(large, needed + 1).ok and not doctor.disk(large, needed - 1).ok
    assert doctor.disk(laptop, 2).ok


def test_shared_memory_of_a_container(large):
    assert not doctor.shared_memory("cpu", 0.0625).ok and doctor.shared_memory("cpu", 2).ok
    assert not doctor.shared_memory("gpu", 2).ok and doctor.shared_memory("gpu", 16).ok


@pytest.mark.parametrize(
    ("soft", "hard", "ok"),
    [
        (1024, 1_048_576, True),
        (1024, 4096, False),
        (1024, resource.RLIM_INFINITY, True),
    ],
)
def test_open_files_counts_the_limit_that_ray_raises_to(soft, hard, ok):
    check = doctor.open_files("gpu", soft, hard)
    assert check.ok is ok and check.found.startswith("1024, can be")


def test_packages_name_what_differs_frameworks_first():
    pinned = {"aiohttp": "3", "numpy": "2.3.5", "torch": "2.11.0", "verl": "0.9.1", "zstd": "1"}
    assert doctor.packages("gpu", pinned, pinned | {"torch": "2.11.0+cu130", "other": "7"}).ok
    check = doctor.packages("gpu", pinned, {"numpy": "2.3.5", "torch": "2.11.01"})
    assert not check.ok and "make setup PLATFORM=gpu" in check.cost
    assert check.found == "torch 2.11.01, verl is missing, aiohttp is missing, 1 more"


def test_a_compiler_by_any_name():
    assert doctor.compiler(["clang"]).ok and not doctor.compiler([]).ok


def test_several_nodes_need_a_cluster_that_answers():
    assert doctor.cluster(1, None, lambda address: False).ok
    assert not doctor.cluster(2, None, lambda address: True).ok
    assert doctor.cluster(2, "http://head:8265", lambda address: True).ok
    silent = doctor.cluster(2, "http://head:8265", lambda address: False)
    assert not silent.ok and "does not answer" in silent.found


# --- Access ---------------------------------------------------------------------------------


def test_a_local_model_must_be_a_policy(tmp_path):
    assert access.to_model(BASE) == (True, "a local folder")
    (tmp_path / "config.json").write_text("{}")
    ok, found = access.to_model(str(tmp_path))
    assert not ok and "no tokenizer.json" in found


def test_a_folder_of_data_sets_must_hold_every_file(tmp_path, large):
    task = params.change(large, {"task.data": str(tmp_path)}).task
    for source in benchmarks.BENCHMARKS.values():
        for part in source.parts:
            (tmp_path / part).parent.mkdir(exist_ok=True)
            (tmp_path / f"{part}.parquet").touch()
    assert access.to_data(task) == (True, "a local folder")
    (tmp_path / "gpqa" / "gpqa_main.parquet").rename(tmp_path / "gpqa" / "gpqa_main.csv")
    assert access.to_data(task) == (False, "no gpqa/gpqa_main")
    without = task.model_copy(update={"leave_out": ["GPQA Main"]})
    assert access.to_data(without) == (True, "a local folder")


def test_countdown_needs_no_data(laptop):
    assert access.to_data(laptop.task) == (True, "made by rule")


def test_the_hubs_answers_become_one_sentence():
    names = ["MATH-500", "AIME24", "GPQA Main"]
    assert access.summary(names, {}) == (True, "3 of 3 loaded before, the others on the hub")
    assert access.summary(names, {"AIME24": access.THERE})[0]
    ok, found = access.summary(names, {"AIME24": access.THERE, "GPQA Main": access.GATED})
    assert not ok and found.startswith("GPQA Main: gated: accept its terms")
    assert "task.leave_out" in found
    ok, found = access.summary(names, dict.fromkeys(names, access.SILENT))
    assert not ok and found == "MATH-500, AIME24, GPQA Main: the Hugging Face hub does not answer"


# --- The machine ----------------------------------------------------------------------------


def test_who_does_not_answer_in_time_is_left_out():
    begun = time.monotonic()
    said = facts.together({"now": lambda: 1, "late": lambda: time.sleep(5)}, patience=0.3)
    assert said == {"now": 1} and time.monotonic() - begun < 3


def test_a_port_answers_while_somebody_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert facts.answers(f"http://127.0.0.1:{port}") and facts.answers(f"127.0.0.1:{port}")
    assert not facts.answers(f"127.0.0.1:{port}")


def test_a_name_is_the_same_however_it_is_written():
    pinned, here = facts.pins("cpu"), facts.packages()
    assert {"torch", "verl", "transferqueue", "ms-swift"} <= pinned.keys() & here.keys()
    assert pinned["verl"] == here["verl"] == "0.9.1"  # without what follows in its line
    assert all(re.fullmatch(r"[\w.+!]+", version) for version in pinned.values())


def test_no_gpu_is_visible_where_none_may_be(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert facts.gpus() == []


# --- All together ---------------------------------------------------------------------------


def test_examine_says_for_each_check_what_to_do(tmp_path, large):
    profile = params.change(large, {"task.base": BASE, "task.data": str(tmp_path)})
    table = doctor.examine(profile)
    assert list(table.columns) == ["check", "found", "needed", "ok", "cost"]
    assert table["check"].is_unique and len(table) == 14
    assert (table["cost"].str.len() > 20).all() and not table["cost"].str.contains("\n").any()
    assert table.set_index("check")["ok"][["model", "data sets"]].tolist() == [True, False]


@pytest.mark.fault("a check of the machine fails")
def test_a_check_that_cannot_be_made_is_not_ok_and_says_why(tmp_path, large):
    profile = params.change(large, {"task.base": str(tmp_path), "task.data": str(tmp_path)})
    table = doctor.examine(profile).set_index("check")
    assert not table.loc["disk", "ok"] and "whose shape is not known" in table.loc["disk", "found"]
    assert table.loc["C compiler", "needed"] == "any"
