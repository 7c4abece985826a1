"""When a claim of the paper is met, and the table of all of them."""

import re

import pandas as pd
import pytest
from matplotlib.text import Text

from companion import params
from companion.exhibits import registry, style, verdict
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.placed import Placed
from companion.exhibits.text import minus
from companion.exhibits.wording import directed, judged, near, told, unchanged
from companion.statistics import Estimate
from companion.study import roles
from companion.study.roles import Evidence


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 4.0, "agrees"),  # leaves 0 out, on the paper's side
        (5.0, 9.0, "agrees"),  # there, if larger than the paper's
        (-1.0, 2.2, "open"),  # holds 0 and one of the paper's
        (-1.0, 1.9, "differs"),  # holds 0, leaves both of the paper's out
        (-3.0, -1.0, "differs"),  # the other way
    ],
)
def test_an_effect_is_there_or_not_or_open(low, high, said):
    assert judged(Estimate((low + high) / 2, low, high), [2.06, 2.33]) == said
    assert judged(Estimate(-(low + high) / 2, -high, -low), [-2.06, -2.33]) == said
    shifted = Estimate(1 + (low + high) / 2, 1 + low, 1 + high)
    assert judged(shifted, [3.06, 3.33], null=1) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-1, 1, "agrees"), (0.2, 1, "agrees"), (-2, 1, "open"), (0.2, 3, "differs"), (-9, -4, "differs")],
)  # fmt: skip
def test_no_change_is_shown_only_within_the_margin(low, high, said):
    assert unchanged(Estimate((low + high) / 2, low, high), margin=1.5) == said


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.1, 2, "agrees"), (-2, -0.1, "differs"), (-1, 1, "open")]
)
def test_an_effect_without_a_number_has_a_direction(low, high, said):
    assert directed(Estimate((low + high) / 2, low, high)) == said
    assert directed(Estimate(-(low + high) / 2, -high, -low), side=-1) == said
    assert directed(Estimate(5 + (low + high) / 2, 5 + low, 5 + high), null=5) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.003, "agrees"),
        (0.003, 0.005, "open"),
        (0.0041, 0.1, "differs"),
        (-0.2, -0.1, "differs"),
    ],
)
def test_a_quantity_is_about_the_papers_or_not(low, high, said):
    assert near(Estimate((low + high) / 2, low, high), 0.002, margin=0.002) == said


def test_what_is_told_is_said_alike():
    assert told(Estimate(1, 0.5, 2), "it") == "gains on it"
    assert told(Estimate(-1, -2, -0.5), "it") == "loses to it"
    assert told(Estimate(0, -1, 1), "it") == "is not told from it"


@pytest.fixture(scope="module")
def published():
    """Every exhibit of the published laptop profile, with few resamplings."""
    few = params.change(roles.settings("laptop"), {"evaluation.bootstrap": 20})
    evidence = roles.published("laptop")
    shown = {}
    for exhibit in registry.EXHIBITS:
        behind = evidence.of(exhibit.roles, every_seed=exhibit.every_seed)
        if made := behind and exhibit.make(few, behind):
            shown[exhibit.name] = made
    return shown


def test_every_claim_is_made_once_and_beside_a_number_stands_a_number(published):
    claims = [claim for shown in published.values() for claim in shown.claims]
    assert len(claims) >= 15 and len({claim.claim for claim in claims}) == len(claims)
    for claim in claims:
        assert re.search(r"\d", claim.here) or not re.search(r"\d", claim.paper), claim
        assert claim.verdict in ("agrees", "differs", "open")


def test_every_figure_says_what_it_found_in_letters_that_can_be_read(published):
    figures = {name: shown for name, shown in published.items() if shown.figure}
    assert {"fig01", "fig13", "figA"} <= set(figures)
    for name, shown in figures.items():
        assert shown.figure.get_suptitle().replace("\n", " ") == minus(shown.finding), name
        assert 0 < len(shown.finding) <= 90, (name, shown.finding)
        assert shown.figure.get_figwidth() <= 10, name
        shown.figure.draw_without_rendering()  # makes the labels of the ticks
        texts = [t for t in shown.figure.findobj(Text) if t.get_visible() and t.get_text()]
        assert min(t.get_fontsize() for t in texts) >= style.SMALL, name
    assert not any(shown.finding for shown in published.values() if not shown.figure)


def test_the_table_has_a_row_a_claim_in_the_exhibits_order():
    behind = Evidence(pd.DataFrame({"seed": [1, 2], "role": "x", "key": "", "run": None}))
    placed = [
        Placed(Exhibit(name, name, "n", (), lambda *_: None), Shown(claims=claims), behind)
        for name, claims in {
            "a": (Claim("A", "a", "+2", "+1", "open"),),
            "b": (),
            "c": (Claim("C", "c", "no", "no", "agrees"), Claim("D", "d", "1", "2", "differs")),
        }.items()
    ]
    found = verdict.table(placed)
    assert found.to_numpy().tolist() == [
        ["A", "a", "+2", "+1", 2, "open", "a"],
        ["C", "c", "no", "no", 2, "agrees", "c"],
        ["D", "d", "1", "2", 2, "differs", "c"],
    ]


def publish(folder, profile, verdicts):
    tables = folder / "results" / profile / "tables"
    tables.mkdir(parents=True)
    verdicts.to_csv(tables / "verdict.csv", index=False)


def test_its_words_and_its_place_in_a_readme(tmp_path):
    verdicts = pd.DataFrame(
        [
            ["It helps", "it helps", "+2", "+1 [-1, 3]", 3, "open", "a"],
            ["It costs", "it costs", "0", "-9", 1, "differs", "b"],
            ["RL ends", "RL ends", "0", "1", 1, "open", "b"],
        ],
        columns=verdict.COLUMNS,
    )
    assert verdict.lines(verdicts) == {
        "Not as in the paper (1 of 3)": "it costs.",
        "Open (2 of 3)": "it helps; RL ends.",
    }
    readme = tmp_path / "README.md"
    verdict.refresh(readme)
    assert not readme.exists()
    readme.write_text("# A\n<!-- verdict: results/laptop -->\nold\n<!-- end -->\n## B\n")
    verdict.refresh(readme)
    assert "old" in readme.read_text()  # nothing is published
    publish(tmp_path, "laptop", verdicts)
    for _ in range(2):
        verdict.refresh(readme)
        text = readme.read_text()
        assert (
            text.startswith("# A\n<!-- verdict: results/laptop -->\n| claim |")
            and "old" not in text
        )
        assert "| [It helps](results/laptop/README.md#a) | +2 | +1 [−1, 3] | 3 | open |" in text
        assert text.endswith("- **Open (2 of 3)**: it helps; RL ends.\n<!-- end -->\n## B\n")
    readme.write_text(f"<!-- verdict: results/study -->\n<!-- end -->\n{readme.read_text()}")
    publish(tmp_path, "study", verdicts[:1])
    verdict.refresh(readme)  # whichever of the two was drawn
    text = readme.read_text()
    assert text.count("[It helps](") == 1 and "[It helps](results/study/README.md#a)" in text
    assert "| [It costs](results/laptop/README.md#b)" in text and "(1 of 2)" in text
