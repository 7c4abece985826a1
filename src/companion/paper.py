"""What the paper reports, to stand beside what was measured here. Read from results/paper/."""

from __future__ import annotations

import pandas as pd

from companion.params import ROOT


def table1() -> pd.DataFrame:
    """Table 1: columns model, arm, benchmark (five and Avg), avg@8 and pass@8 in percent."""
    return pd.read_csv(ROOT / "results" / "paper" / "table1.csv")


def table1_average() -> pd.DataFrame:
    """Table 1's Avg columns: one row an arm, in the paper's order, columns (model, score)."""
    average = table1().query("benchmark == 'Avg'")
    wide = average.pivot(index="arm", columns="model", values=["avg@8", "pass@8"])
    return wide.swaplevel(axis=1).sort_index(axis=1).reindex(average["arm"].unique())
