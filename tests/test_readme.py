"""What README and docs state as measured is what is published, to the digit."""

import re
import runpy
from importlib.metadata import version
from math import ceil

import pandas as pd
import pytest
from safetensors.torch import load_file

from companion.exhibits import verdict
from companion.params import ROOT
from companion.statistics import Estimate
from companion.study import roles
from companion.tasks import base

README = (ROOT / "README.md").read_text()
SETTINGS, PUBLISHED = roles.settings("laptop"), roles.published("laptop")


NAMES = [r"fp32", r"temperature 1\b", r"T = 1\b", r"avg@8", r"Table 1\b", r"Qwen3"]
"""Digits that name something, or say what was tested."""


def test_the_answer_is_that_of_the_published_runs(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(
        re.sub(r"(<!-- verdict: .*? -->\n).*?(<!-- end -->)", r"\1\2", README, flags=re.S)
    )
    (tmp_path / "results").symlink_to(ROOT / "results")
    verdict.refresh(readme)
    assert readme.read_text() == README and README.count("| claim | the paper |") == 2
    assert "three seeds, arms of 50 steps" in README and verdict.MEANING in README
    assert len(PUBLISHED.seeds) == 3 and SETTINGS.rl.continued_steps == 50
    assert f"> {sentences('study')['figA']}\n" in README.replace("−", "-")
    assert ("Not measurably here" in README) == sentences("study")["figA"].endswith(
        "no arm from 0."
    )
    assert f"study, all {len(roles.published('study').seeds)} seeds, arms of 300 steps" in README
    assert "Seeds 1 to 8" in (ROOT / "docs" / "preregistration.md").read_text()
    assert roles.settings("study").rl.continued_steps == 300


def test_its_length_is_that_of_a_page():
    assert len(README.splitlines()) <= 150


def sentences(profile="laptop"):
    """What the Markdown twin says, by exhibit; `make verify` draws it again from the runs."""
    page = (ROOT / "results" / profile / "README.md").read_text().replace("−", "-")
    return dict(re.findall(r'<a id="(\w+)"></a>\n## [^\n]*\n\n([^\n]*)', page))


def minutes(seed, roles_):
    """Of a seed's runs in these roles, each once."""
    index = PUBLISHED.index
    chosen = index[(index["seed"] == seed) & index["role"].isin(roles_)]["run"]
    return sum(run.record["seconds"] for run in {run.name: run for run in chosen}.values()) / 60


def test_the_times_are_those_of_the_published_runs():
    study = [minutes(seed, roles.STUDY) for seed in PUBLISHED.seeds]
    more = minutes(1, roles.STUDY | roles.ANALYSES) - study[0]
    first, second, third = (f"{value:.0f}" for value in study)
    said = (
        f"{first}, {second} and {third} min by seed, {more:.0f} for notebooks 05–10, some 80 for 11"
    )
    assert said in README
    late = [
        "teacher",
        "teacher_ends",
        "leak",
        "frontier",
    ]  # of the study's seeds that have them all
    index = roles.published("study").index
    rows = index[index["role"].isin(late)].reset_index(drop=True)
    rows["minutes"] = [run.record["seconds"] / 60 for run in rows["run"]]
    whole = rows.groupby("seed").filter(lambda of: of["role"].nunique() == len(late))
    assert 65 < whole.groupby("seed")["minutes"].sum().mean() < 95
    heated = PUBLISHED.index[PUBLISHED.index["role"] == "reheated"]
    took = [
        run.record["seconds"] / 60 for run in heated.loc[heated["key"].str.contains("KL"), "run"]
    ]
    assert f"(a reheating took {min(took):.0f} to {ceil(max(took)):.0f} min)" in README


def test_the_benchmarks_are_those_of_the_last_run():
    assert runpy.run_path(str(ROOT / "benchmarks" / "summary.py"))["table"]() in README


def test_the_size_is_that_of_the_shipped_policy():
    weights = load_file(ROOT / "results/checkpoints/countdown-base/model.safetensors")
    size = sum(tensor.numel() for tensor in weights.values())
    said = re.findall(r"(\S+) parameters", README)
    assert said and set(said) == {f"{size / 1e6:.1f}M"}


def test_the_base_was_fitted_to_longer_searches_and_to_the_ood_kind():
    assert base.ANSWER_TOKENS == 96 > SETTINGS.evaluation.max_new_tokens == 64
    assert base.COUNTS == {3: 0.75, 4: 0.25}  # "a quarter"


def test_every_number_of_the_deviations_is_a_setting_or_published():
    page = (ROOT / "docs" / "deviations.md").read_text().split("\n", 1)[1]
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"\s+", " ", page))
    gains = pd.read_csv(ROOT / "results" / "study" / "tables" / "gains.csv").set_index("policy")
    row = gains[gains["metric"] == "avg@8"].loc["Collapsed"]
    below = Estimate(-row["value"], -row["high"], -row["low"])
    for snippet, holds in {
        "0.8M parameters": True,  # test_the_size_is_that_of_the_shipped_policy
        "we use 1.2, the teacher's": SETTINGS.rl.rr_temperature == SETTINGS.reheat.tau == 1.2,
        "agree to 1e-4 nats": True,  # test_adapters_verl.py, test_rl.py
        "to 1.5 times the collapse threshold": round(
            SETTINGS.reheat.recovery_entropy / SETTINGS.rl.collapse.entropy, 6) == 1.5,
        "costs 12.5 points of avg@8": "changes avg@8 by -12.5 [" in sentences("study")["reheating"],
        "0.5 [−0.4, 1.3] points": f"{below:.1f}" == "0.5 [-0.4, 1.3]",
        "verl 0.9.1": version("verl") == "0.9.1",
    }.items():  # fmt: skip
        assert holds and snippet in text, snippet
        text = text.replace(snippet, "")
    for name in NAMES:
        text = re.sub(name, "", text)
    assert not re.findall(r".{0,40}\d.{0,20}", text)


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "results" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_the_pages_leads_somewhere(page):
    targets = set(re.findall(r"\]\(([^)#: ]+)\)", page.read_text()))
    assert not [target for target in targets if not (page.parent / target).exists()]
