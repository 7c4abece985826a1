"""What README states as measured is what is published: its table, and every number in its prose."""

import html
import re
import runpy
from importlib.metadata import version

import pytest
from safetensors.torch import load_file

from companion import tasks
from companion.analysis import accuracy, collect
from companion.exhibits import fig02
from companion.params import ROOT
from companion.study import roles
from companion.tasks import base

README = (ROOT / "README.md").read_text()
TABLE = ROOT / "results" / "laptop" / "tables" / "table1.md"
SETTINGS, PUBLISHED = roles.settings("laptop"), roles.published("laptop")


def rows(markdown):
    """Cells of every table row, by the row's name."""
    lines = [line.split("|")[1:-1] for line in markdown.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_the_measured_columns_are_the_published_averages():
    readme = rows(README.split("<!-- measured")[1].split("\n\n")[0])
    published = {name: cells[-2:] for name, cells in rows(TABLE.read_text()).items()}
    arms = [name for name in published if name in ("Base", "Collapsed") or name.startswith("+DAPO")]
    assert len(arms) >= 8
    for arm in arms:
        assert readme[arm][:2] == published[arm], arm


QUOTED = {
    "table1": [
        "PR-FKL stands +0.1 [-2.0, +2.3] points avg@8 from continued DAPO, an interval that holds 0 and "
        "+2.06 (the paper's, 4B) and leaves out +2.33 (the paper's, 8B), and +0.5 [-2.0, +3.4] pass@8, "
        "which holds 0, +2.78 (the paper's, 4B) and +3.14 (the paper's, 8B). By seed, avg@8: -0.4, "
        "+2.0, -1.3.",
        "Cut at the limit of 64 tokens, and graded as they stand: Base 63% of the answers (of the "
        "others' at most 0.1%).",
    ],
    "figA": [
        "in distribution +0.1 [-4.2, +4.4] points of avg@8",
        "(3 seeds find 5.6 with a power of 0.8)",
    ],
    "learning": [
        "RL adds +42.6 [+40.2, +45.0] points avg@8 and +3.1 [+0.1, +6.2] pass@8",
        "RL adds +11.75 and +7.34 (4B) and +16.41 and +16.57 (8B)",
        "50 further steps of plain DAPO add +1.4 [-1.1, +4.2]",
    ],
    "fig02": [
        "DAPO takes entropy from 0.204 to 0.068 nats",
        "RR and PR-scale are one optimisation, since verl divides what it trains by the rollouts' "
        "temperature, too: their first 10, 12, 7 rewards (by seed) are equal to the last digit.",
    ],
    "reheating": [
        "PR-FKL changes avg@8 by -10.2 [-13.3, -7.0] points",
        "scaling the logits to the same entropy by -0.2 [-0.6, +0.3]",
    ],
    "ood": [
        "the base policy gets 14.3 [12.0, 16.8]% of its samples right and the collapsed one 11.3 [0.0, "
        "30.8]% (by seed: 0.8, 33.2, 0.0)"
    ],
    "fig03": ["0.9947", "below the paper's bound of 0.999"],
    "fig05": ["0.0521 [0.0433, 0.0613] nats, which leaves out the paper's 0.002"],
    "fig06": ["no jump of entropy is detected within a step (oddest at step 20, p = 0.69)"],
    "fig07": ["forward KL's gradient norm is 1.33 to 1.46 times reverse KL's"],
    "fig08": [
        "entropy differs by at most 0.003 nats",
        "gradients' cosine is at least 0.959",
        "their norms differ up to 6.6 times",
    ],
    "fig09": ["entropy from 0.204 to 0.219 nats"],
    "fig10": ["4.4 times as fast", "is 0.52 nats at step 120", "about 2.5 by step 31"],
    "fig12": ["the cosine is -0.93, the projection 1.01"],
    "fig13": ["from 0.96 to 0.20, regained after 11 of 45 steps"],
}
"""What README quotes of an exhibit's sentence or note."""

NAMES = [
    r"(avg|pass)@8", r"Qwen3(-[48]B)?", r"Fig\. \d+", r"Tables? \d(–\d)?", r"notebooks 05–10",
    r"seed 1\b", r"95% intervals", r"leaves 0 out", r"AIME 24–26", r"MATH-500", r"T = 1\b",
    r"temperature 1\b", r"fp32",
]  # fmt: skip
"""Digits that name something, or say what was tested."""


@pytest.fixture(scope="module")
def sentences():
    """What the page says of each exhibit; `make verify` draws it again from the runs."""
    page = (ROOT / "results" / "laptop" / "report.html").read_text()
    sections = re.findall(r'<section id="(\w+)"[^>]*>(.*?)</section>', page, re.DOTALL)
    return {
        name: html.unescape(" ".join(re.findall(r"<p[^>]*>(.*?)</p>", section))).replace("−", "-")
        for name, section in sections
    }


def prose(begin, end):
    """A part of README in one line, without comments, tables and links' targets."""
    part = README.split(begin)[1].split(end)[0]
    lines = [line for line in part.splitlines() if not line.startswith(("|", "<!--"))]
    return re.sub(r"\]\([^)]*\)", "]", re.sub(r"\s+", " ", " ".join(lines)))


def phrases():
    """What README says in its own words, from the published runs."""
    longer = collect.samples(PUBLISHED.every("token_limit"))
    suites = tasks.suites(SETTINGS, "validation")
    avg, passed = accuracy.table(longer, suites)["Avg"].loc["Base, 64 tokens"]
    more, further = accuracy.gains(longer, suites, "Base, 64 tokens").loc["Base, 96 tokens"]
    steps = fig02.dynamics(PUBLISHED.every("training"))
    *others, last = steps[steps["arm"] == "Collapsed"].groupby("seed")["step"].max()
    after = steps.dropna(subset=["token_entropy"]).copy()
    after["step"] -= after["seed"].map(
        after[after["arm"] == "Collapsed"].groupby("seed")["step"].max()
    )
    tenth = after[after["step"] == 10].groupby("arm")["token_entropy"].mean()
    distilled, scaled = (tenth[f"+DAPO w/ {name}"] for name in ("PR-FKL", "PR-scale*"))
    return [
        "searches of up to 96 tokens",  # test_the_base_was_fitted_to_longer_searches
        f"it has {avg.value:.1f} avg@8 and {passed.value:.1f} pass@8 within 64 tokens, and within 96 "
        f"tokens {more:.1f} and {further:.1f} points more",
        f"in {', '.join(map(str, others))} and {last} steps by seed",
        f"PR-FKL's entropy is {distilled:.3f} nats again and PR-scale*'s {scaled:.3f}",
    ]


def test_every_number_of_the_measured_section_is_published(sentences):
    text = prose("## What was measured here", "## How a profile scales")
    for exhibit, snippets in QUOTED.items():
        for snippet in snippets:
            assert snippet in sentences[exhibit], snippet
            assert snippet in text, snippet
            text = text.replace(snippet, "")
    for phrase in phrases():
        assert phrase in text, phrase
        text = text.replace(phrase, "")
    for name in NAMES:
        text = re.sub(name, "", text)
    assert not re.findall(r".{0,40}\d.{0,20}", text)


def minutes(seed, roles_):
    """Of a seed's runs in these roles, each once."""
    index = PUBLISHED.index
    chosen = index[(index["seed"] == seed) & index["role"].isin(roles_)]["run"]
    return sum(run.record["seconds"] for run in {run.name: run for run in chosen}.values()) / 60


def test_the_times_are_those_of_the_published_runs():
    study = [minutes(seed, roles.STUDY) for seed in PUBLISHED.seeds]
    more = minutes(1, roles.STUDY | roles.ANALYSES) - study[0]
    first, second, third = (f"{value:.0f}" for value in study)
    said = f"{first}, {second} and {third} min by seed, and {more:.0f} for notebooks 05–10"
    assert said in README
    first, second, third = (f"{minutes(seed, ['reheated']):.0f}" for seed in PUBLISHED.seeds)
    assert f"its reheatings took {first}, {second} and {third} min by seed" in README


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


def test_every_number_of_the_deviations_is_a_setting_or_published(sentences):
    text = prose("## The one measure", "Cite with")
    for snippet, holds in {
        "0.8M parameters": True,  # test_the_size_is_that_of_the_shipped_policy
        "we use 1.2, the teacher's": SETTINGS.rl.rr_temperature == SETTINGS.reheat.tau == 1.2,
        "agree to 1e-4 nats": True,  # test_adapters_verl.py, test_rl.py
        "to 1.5 times the collapse threshold": round(
            SETTINGS.reheat.recovery_entropy / SETTINGS.rl.collapse.entropy, 6) == 1.5,
        "costs 10.2 points of avg@8": "changes avg@8 by -10.2 [" in sentences["reheating"],
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
