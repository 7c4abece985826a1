"""When a claim of the paper is met, and the table of all of them."""

import pandas as pd
import pytest

from companion.exhibits import verdict
from companion.exhibits.exhibit import Claim, Exhibit, Shown
from companion.exhibits.placed import Placed
from companion.exhibits.wording import judged, unchanged
from companion.statistics import Estimate
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


def test_the_table_has_a_row_a_claim_in_the_exhibits_order():
    behind = Evidence(pd.DataFrame({"seed": [1, 2], "role": "x", "key": "", "run": None}))
    placed = [
        Placed(Exhibit(name, name, "n", (), lambda *_: None), Shown(claims=claims), behind)
        for name, claims in {
            "a": (Claim("A", "+2", "+1", "open"),),
            "b": (),
            "c": (Claim("C", "none", "none", "agrees"), Claim("D", "1", "2", "differs")),
        }.items()
    ]
    found = verdict.table(placed)
    assert found.to_numpy().tolist() == [
        ["A", "+2", "+1", 2, "open", "a"],
        ["C", "none", "none", 2, "agrees", "c"],
        ["D", "1", "2", 2, "differs", "c"],
    ]


def test_its_words_and_its_place_in_a_readme(tmp_path):
    verdicts = pd.DataFrame(
        [
            ["It helps", "+2", "+1 [-1, 3]", 3, "open", "a"],
            ["It costs", "0", "-9", 1, "differs", "b"],
        ],
        columns=verdict.COLUMNS,
    )
    assert verdict.lines(verdicts) == {"Not as in the paper": "it costs.", "Open": "it helps."}
    readme = tmp_path / "README.md"
    readme.write_text("# A\n<!-- verdict: results/laptop -->\nold\n<!-- end -->\n## B\n")
    assert not verdict.refresh(readme, "study", verdicts) and "old" in readme.read_text()
    for _ in range(2):
        assert verdict.refresh(readme, "laptop", verdicts)
        text = readme.read_text()
        assert (
            text.startswith("# A\n<!-- verdict: results/laptop -->\n| claim |")
            and "old" not in text
        )
        assert "| [It helps](results/laptop/README.md#a) | +2 | +1 [−1, 3] | 3 | open |" in text
        assert text.endswith("- **Open**: it helps.\n<!-- end -->\n## B\n")
    assert not verdict.refresh(tmp_path / "none.md", "laptop", verdicts)
