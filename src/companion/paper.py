"""What the paper reports, to stand beside what was measured here. Read from results/paper/."""

from __future__ import annotations

import pandas as pd

from companion.params import ROOT


def table1() -> pd.DataFrame:
    """Table 1: columns model, arm, benchmark (five and Avg), avg@8 and pass@8 in percent."""
    return _read("table1")


def table1_average() -> pd.DataFrame:
    """Table 1's Avg columns: one row an arm, in the paper's order, columns (model, score)."""
    average = table1().query("benchmark == 'Avg'")
    wide = average.pivot(index="arm", columns="model", values=["avg@8", "pass@8"])
    return wide.swaplevel(axis=1).sort_index(axis=1).reindex(average["arm"].unique())


def table1_beside(base: str) -> pd.DataFrame:
    """What to show beside our Table 1: all benchmarks of `base` where it is one of the paper's
    models, else both models' averages. One row an arm, in percent."""
    rows = table1()
    rows = rows[rows["model"] == base.partition("@")[0].rpartition("/")[2]]
    if rows.empty:
        return table1_average()
    wide = rows.pivot(index="arm", columns="benchmark", values=["avg@8", "pass@8"])
    order = ["Avg", *(name for name in rows["benchmark"].unique() if name != "Avg")]
    wide = wide.swaplevel(axis=1)[
        [(name, score) for name in order for score in ("avg@8", "pass@8")]
    ]
    return wide.reindex(rows["arm"].unique())


def table2() -> pd.DataFrame:
    """Table 2: columns checkpoint, edit_distance, fork_position (token), log_prob (absolute)."""
    return _read("table2")


def hyperparameters() -> pd.DataFrame:
    """Tables 3 (RL), 4 (OPSD) and 5 (evaluation): columns table, hyperparameter, value, note.

    Values are text; one that the text lost or never gave is missing, and its note says so.
    """
    tables = {table: _read(f"table{table}") for table in (3, 4, 5)}
    return pd.concat(tables, names=["table"]).reset_index("table").reset_index(drop=True)


def table6() -> pd.DataFrame:
    """Table 6, the cost: a row a model and stage (OPSD, RL), the overhead in OPSD's rows."""
    return _read("table6")


def text() -> pd.DataFrame:
    """Numbers in running text and appendices: columns location, quantity, model, relation,
    value, value_high (the end of a range), unit, note.

    The relation is one of =, ~ (about), < and >. A value that the text lost is missing, and its
    note says so.
    """
    return _read("text")


def number(location: str, quantity: str) -> float:
    """One number of the running text, such as ("Fig. 5a", "mean token KL"), in `text`'s unit.

    Raises:
        ValueError: the text has no such number, several, or lost it.
    """
    rows = text()
    found = rows[(rows["location"] == location) & (rows["quantity"] == quantity)]["value"].dropna()
    if len(found) != 1:
        raise ValueError(
            f"the paper's text has {len(found)} numbers '{quantity}' in {location}; see text.csv"
        )
    return float(found.item())


def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "results" / "paper" / f"{name}.csv")
