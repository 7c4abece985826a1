"""An evaluation as lm-evaluation-harness writes it: the same numbers, nothing lost."""

import json

import pandas as pd
import pytest

from companion import runs
from companion.commands import export
from companion.params import ROOT

PUBLISHED = sorted((ROOT / "results" / "laptop" / "runs").glob("evaluate-collapsed-test-*"))[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm-eval")
    return export.export(runs.read_run(PUBLISHED), folder)


def test_averages_are_those_of_the_samples(written):
    samples = pd.read_parquet(PUBLISHED / "samples.parquet")
    results = json.loads(written.read_text())
    for suite, rows in samples.groupby("suite"):
        task = results["results"][suite.replace(" ", "_")]
        by_problem = rows.groupby("problem")["correct"]
        assert task["alias"] == suite
        assert task["avg_at_k,none"] == pytest.approx(rows["correct"].mean())
        assert task["pass_at_k,none"] == pytest.approx(by_problem.any().mean())
        assert task["avg_at_k_stderr,none"] == pytest.approx(by_problem.mean().sem())
    assert results["config"]["random_seed"] == 1 and results["git_hash"]


def test_every_answer_is_in_its_problems_line(written):
    samples = pd.read_parquet(PUBLISHED / "samples.parquet")
    [path] = written.parent.glob("samples_very_easy_*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = samples[samples["suite"] == "very easy"]
    assert [line["doc"]["id"] for line in lines] == list(dict.fromkeys(rows["problem"]))
    assert [text for line in lines for text in line["resps"][0]] == rows["answer"].tolist()
    assert all(line["arguments"]["gen_args_0"]["arg_1"]["top_p"] == 0.7 for line in lines)


def test_what_is_no_evaluation_is_refused(tmp_path):
    other = next((ROOT / "results" / "laptop" / "runs").glob("rl-*"))
    with pytest.raises(ValueError, match="is no finished evaluation"):
        export.export(runs.read_run(other), tmp_path / "out")
    assert not (tmp_path / "out").exists()
