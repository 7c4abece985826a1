"""The study in one table: each claim of the paper, what was measured here, and whether they agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from companion.exhibits.placed import Placed
from companion.exhibits.text import minus

COLUMNS = ["claim", "in brief", "the paper", "here", "seeds", "verdict", "exhibit"]
SAID = {"agrees": "As in the paper", "differs": "Not as in the paper", "open": "Open"}
MEANING = (
    "“Agrees”: the interval leaves 0 out on the paper's side, or lies about its value; “differs”: it "
    "holds no value of the paper's, or lies on the other side; “open”: neither."
)
"""In short what `wording` decides by; each exhibit's claims say by which rule, and how near is about."""
MARKS = r"(?P<begin><!-- verdict: results/(?P<profile>\w+) -->\n).*?(?P<end><!-- end -->)"
"""Where README.md has the table."""


def table(placed: Sequence[Placed]) -> pd.DataFrame:
    """A row a claim, in the order of the exhibits that test them.

    Columns: claim, in brief, the paper, here (with its interval), seeds (how many), verdict (agrees,
    differs or open), exhibit (its name).
    """
    rows = [
        [
            claim.claim,
            claim.brief,
            claim.paper,
            claim.here,
            len(p.behind.seeds),
            claim.verdict,
            p.exhibit.name,
        ]
        for p in placed
        for claim in p.shown.claims
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def lines(verdicts: pd.DataFrame) -> dict[str, str]:
    """The table in plain words: for each verdict that there is, its claims in one line."""
    found = {}
    for verdict, name in SAID.items():
        claims = verdicts.loc[verdicts["verdict"] == verdict, "in brief"]
        if len(claims):
            found[f"{name} ({len(claims)} of {len(verdicts)})"] = f"{'; '.join(claims)}."
    return found


def markdown(verdicts: pd.DataFrame, page: str = "") -> str:
    """The table and, of more than one claim, its lines, as Markdown.

    Args:
        page: where the exhibits are, before their anchors.
    """
    rows = [
        f"| [{row.claim}]({page}#{row.exhibit}) | {row.paper} | {row.here} | {row.seeds} "
        f"| {row.verdict} |"
        for row in verdicts.rename(columns={"the paper": "paper"}).itertuples()
    ]
    head = [
        "| claim | the paper | here [95% interval] | seeds | verdict |",
        "|---|---|---|---|---|",
    ]
    words = ["", *(f"- **{name}**: {text}" for name, text in lines(verdicts).items())]
    return minus("\n".join([*head, *rows, *(words if len(rows) > 1 else [])]))


def refresh(readme: Path) -> None:
    """Put the tables of all profiles that README.md has a place for into it, from results/ beside it.

    A claim is told once: not where another profile's table further up has it.
    """
    told: set[str] = set()

    def written(at: re.Match[str]) -> str:
        page = f"results/{at['profile']}/README.md"
        source = readme.parent / "results" / at["profile"] / "tables" / "verdict.csv"
        if not source.exists():
            return at[0]
        verdicts = pd.read_csv(source, dtype=str, keep_default_na=False)
        untold = verdicts[~verdicts["claim"].isin(told)]
        told.update(verdicts["claim"])
        return f"{at['begin']}{markdown(untold, page)}\n{at['end']}"

    if readme.exists():
        readme.write_text(re.sub(MARKS, written, readme.read_text(), flags=re.DOTALL))
