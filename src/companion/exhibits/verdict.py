"""The study in one table: each claim of the paper, what was measured here, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from companion.exhibits.page import Placed

COLUMNS = ["claim", "the paper", "here", "seeds", "verdict", "exhibit"]


def table(placed: Sequence[Placed]) -> pd.DataFrame:
    """A row a claim, in the order of the exhibits that test them.

    Columns: claim, the paper, here (with its interval), seeds (how many), verdict (agrees, differs or
    open), exhibit (its name).
    """
    rows = [
        [
            claim.claim,
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
