"""The paper's data sets: real files where they are at hand, else rows of the same schema."""

import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import params
from companion.analysis import audit
from companion.tasks import Question, benchmarks, questions
from companion.tasks.benchmarks import BENCHMARKS, TRAINING, load

EVALUATION = [name for name in BENCHMARKS if name != TRAINING]
TABLE_1 = list(audit.PROBLEMS)
AT_HAND = {
    "MATH-500": "1ef7fe7e765530b9663c30da33fcf0002ab96d732cd7e706d5839d4961308e07",
    "AIME24": "97d851499a1f2c4f497580aede413d44bc543aac19edad9bfb0bff5c3d677ad1",
    "AIME25": "8e8d9b2a05487b4c4b9a35577ec67ab4f875f18ecbf31ca675f42d012e67f7e9",
    "OlymMATH": "62130cb38a23f1efc23db2f1f5971898d1619878be0f44d4898fc70b85e7c32f",
}
"""The sets with real files, and the content of those."""


# --- Rows by hand ---------------------------------------------------------------------------


def hub_rows(name: str, count: int | None = None) -> list[dict[str, Any]]:
    """Rows as the hub's file of this set has them, as many as it must hold."""
    source = BENCHMARKS[name]
    count = source.problems if count is None else count
    if name == TRAINING:
        return [dapo_row(i) for i in range(count)]
    rows = [
        {source.key: f"{name}-{i}", source.problem: f"What is ${i} + 7$?", source.answer: f"{i:03}"}
        for i in range(count)
    ]
    for field in source.distractors:
        rows = [row | {field: f"{field} of {i}"} for i, row in enumerate(rows)]
    return rows


def dapo_row(i: int, **changed: Any) -> dict[str, Any]:
    fields = {"text": f"Find $x$ such that $x = {i} + 7$.", "answer": str(i + 7)} | changed
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": questions.prompt(fields["text"]), "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": fields["answer"], "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"uuid-{i}"},
    }


def write(folder: Path, name: str, rows: list[dict[str, Any]], suffix: str = ".parquet") -> Path:
    """Write `rows` as `load` looks for them, in equal shares where the set has several parts."""
    parts = BENCHMARKS[name].parts
    share = -(-len(rows) // len(parts))
    for i, part in enumerate(parts):
        path = folder / f"{part}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save(pd.DataFrame(rows[i * share : (i + 1) * share]), path)
    return path


def save(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)


def load_rows(
    folder: Path, name: str, rows: list[dict[str, Any]], suffix: str = ".parquet"
) -> list[Question]:
    write(folder, name, rows, suffix)
    return load(name, folder, folder / "cache")[0]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("name", EVALUATION)
def test_benchmarks_load_with_the_hubs_fields(name, suffix, tmp_path) -> None:
    rows = hub_rows(name)
    problems = load_rows(tmp_path, name, rows, suffix)
    source = BENCHMARKS[name]
    assert [p.key for p in problems] == [row[source.key] for row in rows]
    assert {p.suite for p in problems} == {name}
    for problem, row in zip(problems, rows, strict=True):
        assert questions.question(problem.prompt).startswith(row[source.problem])
    if not source.distractors:
        assert [p.gold for p in problems] == [row[source.answer] for row in rows]


def verl_rows(problems: list[Question]) -> list[dict[str, Any]]:
    """As others publish data for verl."""
    return [
        {
            "prompt": [{"role": "user", "content": problem.prompt}],
            "reward_model": {"style": "rule", "ground_truth": problem.gold},
            "extra_info": {"index": problem.key},
        }
        for problem in problems
    ]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_verls_rows_say_the_same(name, suffix, tmp_path) -> None:
    problems = load_rows(tmp_path / "first", name, hub_rows(name))
    assert load_rows(tmp_path / "second", name, verl_rows(problems), suffix) == problems


def test_verls_repeated_benchmark_files_count_once(tmp_path) -> None:
    rows = verl_rows(load_rows(tmp_path, "AIME24", hub_rows("AIME24")))
    problems = load_rows(tmp_path / "verl", "AIME24", rows * 32)
    assert [p.key for p in problems] == [f"AIME24-{i}" for i in range(30)]


def test_whole_numbers_as_answers_become_text(tmp_path) -> None:
    rows = [row | {"problem_idx": i, "answer": i} for i, row in enumerate(hub_rows("AIME26"))]
    problems = load_rows(tmp_path, "AIME26", rows, ".jsonl")
    assert [(p.key, p.gold) for p in problems] == [(str(i), str(i)) for i in range(30)]


# --- The template ---------------------------------------------------------------------------


def test_template_is_dapos() -> None:
    assert questions.prompt("What is 1 + 1?") == (
        "Solve the following math problem step by step. The last line of your response should be "
        "of the form Answer: $Answer (without quotes) where $Answer is the answer to the "
        "problem.\n\nWhat is 1 + 1?\n\nRemember to put your answer on its own line after "
        '"Answer:".'
    )


@given(st.text())
def test_template_comes_off_again(text: str) -> None:
    assert questions.question(questions.prompt(text)) == text.strip()


def test_training_and_evaluation_share_the_template(tmp_path) -> None:
    train = load_rows(tmp_path, TRAINING, hub_rows(TRAINING))
    plain = load_rows(tmp_path, "AIME25", hub_rows("AIME25"))
    wrapped = [row | {"problem": questions.prompt(row["problem"])} for row in hub_rows("AIME25")]
    assert load_rows(tmp_path / "wrapped", "AIME25", wrapped) == plain
    assert train[0].prompt == dapo_row(0)["prompt"][0]["content"]
    for problem in (*train, *plain):
        assert problem.prompt.count("Solve the following math problem") == 1
        assert problem.prompt.count("Remember to put your answer") == 1


# --- Training data --------------------------------------------------------------------------


def test_training_problems_count_once(tmp_path) -> None:
    count = BENCHMARKS[TRAINING].problems
    respaced = dapo_row(count, text="Find  $x$\nsuch that $x = 3 + 7$. ", answer="10")
    conflicting = dapo_row(count + 1, text="Find $x$ such that $x =  4 + 7$.", answer="12")
    rows = [*hub_rows(TRAINING), respaced, conflicting]
    problems = load_rows(tmp_path, TRAINING, rows * 3)
    keys = [p.key for p in problems]
    assert keys == [f"uuid-{i}" for i in range(count) if i != 4]
    assert load(TRAINING, tmp_path, tmp_path / "cache")[1]["rows"] == 3 * len(rows)


def test_order_does_not_depend_on_the_files() -> None:
    problems = [Question(TRAINING, str(i), questions.prompt(f"{i}?"), "0") for i in range(5000)]
    ordered = benchmarks.ordered(problems)
    assert sorted(ordered, key=problems.index) == problems
    assert benchmarks.ordered(random.Random(0).sample(problems, len(problems))) == ordered
    assert [p.key for p in ordered[:3]] == ["4555", "4044", "4441"]


# --- Multiple choice ------------------------------------------------------------------------


def test_gpqa_options_are_in_a_fixed_order_with_the_right_letter(tmp_path) -> None:
    rows = hub_rows("GPQA Main")
    problems = load_rows(tmp_path, "GPQA Main", rows)
    for i, problem in enumerate(problems):
        shown = dict(re.findall(r"^([A-D])\) (.*)$", problem.prompt, re.MULTILINE))
        assert shown[problem.gold] == f"{i:03}"
        assert set(shown.values()) == {
            f"{i:03}",
            *(f"Incorrect Answer {k} of {i}" for k in (1, 2, 3)),
        }
    letters = [p.gold for p in problems]
    assert all(80 < letters.count(letter) < 145 for letter in "ABCD")
    assert "".join(letters[:12]) == "AADCBDCDABCD"
    backwards = load_rows(tmp_path / "backwards", "GPQA Main", rows[::-1])
    assert backwards[::-1] == problems


# --- What is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("AIME24", hub_rows("AIME24", 29), r"AIME24 has 29 problems and must have 30;"),
        (TRAINING, hub_rows(TRAINING, 300), "has 300 problems and must have 17200 ± 300;"),
        ("AIME24", [row | {"id": "7"} for row in hub_rows("AIME24")], "two problems with the key"),
        ("AIME24", [row | {"answer": " "} for row in hub_rows("AIME24")], "without answer"),
        ("AIME24", [row | {"problem": None} for row in hub_rows("AIME24")], "without problem"),
        ("AIME24", [{"id": 1, "question": "?"}], "no field 'problem' but id, question"),
        ("AIME24", [{"reward_model": {"x": 1}}], "must then have verl's others"),
        ("AIME24", [dapo_row(0) | {"prompt": 2 * dapo_row(0)["prompt"]}], "one message"),
        ("AIME24", [dapo_row(0) | {"extra_info": {"split": "test"}}], "extra_info.index"),
    ],
)
def test_wrong_rows_are_refused(name, rows, message, tmp_path) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        load_rows(tmp_path, name, rows)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "cache" / benchmarks.LOCK).exists()


def test_missing_sets_and_files_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="name is 'AIME23' and must be one of DAPO-Math-17K, MATH"):
        load("AIME23", tmp_path)
    with pytest.raises(ValueError, match="has no olymmath/en-easy.parquet or .jsonl; put"):
        load("OlymMATH", tmp_path, tmp_path / "cache")


@pytest.mark.fault("COMPANION_DATA_DIR is no folder")
@pytest.mark.parametrize("kind", ["a file", "absent", "a link to nowhere"])
def test_a_variable_that_names_no_folder_is_refused(kind, tmp_path, monkeypatch) -> None:
    place = tmp_path / "data"
    if kind == "a file":
        place.write_text("{}")
    elif kind == "a link to nowhere":
        place.symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("COMPANION_DATA_DIR", str(place))
    folder = benchmarks.folder_of(params.load("qwen3-4b").task)
    with pytest.raises(ValueError, match=r"folder is '.*data' and has no .*; put the file there"):
        load("AIME24", folder, tmp_path / "cache")


@pytest.mark.fault("a data set that cannot be read")
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("content", [b"", b'{"problem": "cut sh', b"\x00\xff\xfe no data"])
def test_unreadable_file_is_refused(suffix, content, tmp_path) -> None:
    write(tmp_path, "AIME24", hub_rows("AIME24"), suffix).write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read .*; restore it") as refused:
        load("AIME24", tmp_path, tmp_path / "cache")
    assert "\n" not in str(refused.value)


@pytest.mark.fault("a data set is replaced")
def test_changed_content_is_refused_whatever_the_format(tmp_path) -> None:
    rows = hub_rows("AIME24")
    path = write(tmp_path, "AIME24", rows, ".jsonl")
    first, provenance = load("AIME24", tmp_path, tmp_path / "cache")
    assert provenance == {
        "data": "AIME24",
        "from": "a local folder",
        "revision": None,
        "sha256": provenance["sha256"],
        "rows": 30,
        "problems": 30,
    }
    path.unlink()
    write(tmp_path, "AIME24", rows, ".parquet")
    assert load("AIME24", tmp_path, tmp_path / "cache") == (first, provenance)

    rows[3]["answer"] = "999"
    path = write(tmp_path, "AIME24", rows, ".parquet")
    with pytest.raises(ValueError, match="AIME24 from .* has changed: SHA-256 .*; restore it"):
        load("AIME24", tmp_path, tmp_path / "cache")
    (tmp_path / "cache" / benchmarks.LOCK).unlink()
    assert load("AIME24", tmp_path, tmp_path / "cache")[0][3].gold == "999"
    for text in ("", "{", "[]"):
        (tmp_path / "cache" / benchmarks.LOCK).write_text(text)
        with pytest.raises(ValueError, match="lock.json' cannot be read; restore it, or remove it"):
            load("AIME24", tmp_path, tmp_path / "cache")
    (tmp_path / "cached").write_text("a file where the folder should be")
    with pytest.raises(
        ValueError, match="cache of data sets, .*cached', cannot be written .*; name"
    ):
        load("AIME24", tmp_path, tmp_path / "cached")


@pytest.mark.parametrize("field", ["id", "problem", "answer"])
@pytest.mark.parametrize("value", [{"a": 1}, [1], True])
def test_rows_that_are_no_text_are_refused(tmp_path, field, value) -> None:
    write(tmp_path, "AIME24", [row | {field: value} for row in hub_rows("AIME24")], ".jsonl")
    with pytest.raises(
        ValueError, match="AIME24 has rows whose .* is .* and must be text; restore"
    ):
        load("AIME24", tmp_path, tmp_path / "cache")


# --- The hub --------------------------------------------------------------------------------

CONFIGS = "".join(
    f"- config_name: {config}\n  data_files:\n  - split: test\n    path: {config}.jsonl\n"
    for config in ("en-easy", "en-hard")
)
SESSION = """
import json, sys
from companion.tasks import benchmarks
for name in sys.argv[1:]:
    try:
        problems, provenance = benchmarks.load(name)
        print(json.dumps([provenance, problems[0].gold]))
    except (RuntimeError, ValueError) as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's interface that `datasets` asks for a public or a gated data set."""

    commits: dict[str, dict[str, dict[str, bytes]]]
    """Data set -> commit -> file -> content; the newest commit is last, a gated set has none."""

    def do_GET(self) -> None:
        found = re.match(
            r"/(?P<api>api/)?datasets/(?P<set>[^/]+/[^/?]+)"
            r"(/(?P<what>resolve|revision|tree)/(?P<commit>[^/?]+))?/?(?P<file>[^?]*)",
            self.path,
        )
        commits = self.commits.get(found["set"], {}) if found else {}
        if not commits:
            gated = found and found["set"] in self.commits
            self.reply(401, error="GatedRepo" if gated else "RepoNotFound")
            return
        commit = found["commit"] if found["commit"] in commits else list(commits)[-1]
        files = commits[commit]
        if found["what"] == "resolve":
            content = files.get(found["file"])
            self.reply(404 if content is None else 200, content or b"", "EntryNotFound", commit)
        elif found["what"] == "tree":
            self.reply(
                200,
                json.dumps(
                    [
                        {"type": "file", "path": name, "size": len(content), "oid": commit}
                        for name, content in files.items()
                    ]
                ).encode(),
            )
        else:
            siblings = [{"rfilename": name} for name in files]
            self.reply(
                200, json.dumps({"id": found["set"], "sha": commit, "siblings": siblings}).encode()
            )

    do_HEAD = do_GET

    def reply(self, status: int, body: bytes = b"", error: str = "", commit: str = "") -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        if commit:
            headers |= {"X-Repo-Commit": commit, "ETag": f'"{hash(body):x}"'}
        if status >= 400:
            headers["X-Error-Code"] = error
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a hub on this machine, asked by the real client."""
    lines = {
        name: pd.DataFrame(hub_rows(name)).to_json(orient="records", lines=True).encode()
        for name in ("AIME24", "OlymMATH")
    }
    rows = lines["OlymMATH"].splitlines(keepends=True)
    Hub.commits = {
        BENCHMARKS["AIME24"].hub: {"a" * 40: {"README.md": b"", "train.jsonl": lines["AIME24"]}},
        BENCHMARKS["OlymMATH"].hub: {
            "b" * 40: {
                "README.md": f"---\nconfigs:\n{CONFIGS}---\n".encode(),
                "en-easy.jsonl": b"".join(rows[:100]),
                "en-hard.jsonl": b"".join(rows[100:]),
            }
        },
        BENCHMARKS["GPQA Main"].hub: {},
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def gpqa_files() -> dict[str, bytes]:
    """GPQA as the hub has it, in CSV, with answers that pandas takes for gaps."""
    rows = pd.DataFrame(hub_rows("GPQA Main"))
    rows.loc[:1, "Incorrect Answer 1"] = ["None", "NA"]
    card = "---\nconfigs:\n- config_name: gpqa_main\n  data_files: gpqa_main.csv\n---\n"
    return {"README.md": card.encode(), "gpqa_main.csv": rows.to_csv(index=False).encode()}


def session(home: Path, names: list[str], **environment: str) -> list[Any]:
    """What a fresh process, with its cache in `home`, gets for each name."""
    done = subprocess.run(
        [sys.executable, "-c", SESSION, *names],
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "HF_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
            **environment,
        },
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_hub_revision_is_kept_and_the_cache_works_offline(hub: str, tmp_path) -> None:
    names = ["AIME24", "OlymMATH"]
    aime, olymmath, gated, gone = session(
        tmp_path, [*names, "GPQA Main", "MATH-500"], HF_ENDPOINT=hub, HF_HUB_OFFLINE="0"
    )
    assert aime[0] == {
        "data": "AIME24",
        "from": "HuggingFaceH4/aime_2024",
        "revision": "a" * 40,
        "sha256": aime[0]["sha256"],
        "rows": 30,
        "problems": 30,
    }
    assert aime[1] == "000" and olymmath[0]["revision"] == "b" * 40
    assert olymmath[0]["problems"] == 200
    assert gated == (
        "RuntimeError: Idavidrein/gpqa is gated: accept its terms on its page of the Hugging Face "
        "hub, log in with `hf auth login` and load it again, or name it in task.leave_out"
    )
    assert gone.startswith("RuntimeError: HuggingFaceH4/MATH-500 cannot be loaded from the")

    changed = Hub.commits["HuggingFaceH4/aime_2024"]["a" * 40]["train.jsonl"]
    Hub.commits["HuggingFaceH4/aime_2024"]["c" * 40] = {
        "README.md": b"",
        "train.jsonl": changed.replace(b'"000"', b'"999"'),
    }
    Hub.commits["Idavidrein/gpqa"] = {"d" * 40: gpqa_files()}
    *again, gpqa = session(tmp_path, [*names, "GPQA Main"], HF_ENDPOINT=hub, HF_HUB_OFFLINE="0")
    assert again == [aime, olymmath] and gpqa[0]["problems"] == 448

    lock = tmp_path / "datasets" / benchmarks.LOCK
    kept = json.loads(lock.read_text())
    assert kept["AIME24 from HuggingFaceH4/aime_2024"]["revision"] == "a" * 40
    lock.write_text(lock.read_text().replace(aime[0]["sha256"], "0" * 64))
    refused, *cached = session(tmp_path, [*names, "GPQA Main"], HF_HUB_OFFLINE="1")
    assert cached == [olymmath, gpqa]
    assert refused.startswith("ValueError: AIME24 from HuggingFaceH4/aime_2024 has changed")


@pytest.mark.fault("no network")
def test_without_network_and_cache_there_is_one_sentence(tmp_path) -> None:
    said = session(tmp_path, list(BENCHMARKS), HF_HUB_OFFLINE="1")
    for name, sentence in zip(BENCHMARKS, said, strict=True):
        source = BENCHMARKS[name]
        assert sentence.startswith(f"RuntimeError: {source.hub} cannot be loaded from the Hugging")
        assert sentence.endswith(
            f"check the network, or give a folder that holds {', '.join(source.parts)}"
        )
        assert "\n" not in sentence


# --- Real files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", AT_HAND)
def test_real_files(name: str, real: Path, tmp_path) -> None:
    problems, provenance = load(name, real, tmp_path)
    assert provenance["sha256"] == AT_HAND[name]
    assert len(problems) == len({p.key for p in problems}) == audit.PROBLEMS[name]
    assert len({p.prompt for p in problems}) == len(problems)
    assert all(p.gold == p.gold.strip() != "" for p in problems)
    assert all(len(questions.question(p.prompt)) > 10 for p in problems)


def test_real_golds_are_kept_as_text(real: Path, tmp_path) -> None:
    golds = {name: [p.gold for p in load(name, real, tmp_path)[0]] for name in AT_HAND}
    padded = [gold for gold in golds["AIME24"] if gold.startswith("0")]
    assert len(padded) == 7 and "025" in padded and all(len(gold) == 3 for gold in padded)
    assert golds["AIME25"].count(r"336^\circ") == 1
    assert "52_8" in golds["MATH-500"]


def test_table_1_is_complete() -> None:
    assert {name: BENCHMARKS[name].problems for name in TABLE_1} == audit.PROBLEMS
    assert set(BENCHMARKS) - set(TABLE_1) == {TRAINING, "GPQA Main"}
    assert all(source.revision is None for source in BENCHMARKS.values())


def test_the_default_cache_is_that_of_datasets():
    assert benchmarks.default_cache() == Path(datasets.config.HF_DATASETS_CACHE)
