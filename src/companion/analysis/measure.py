"""An analysis as a run: measured once, kept with its provenance, published like any other run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from companion import policies, runs
from companion.runs import Run
from companion.schema import Profile

MEASUREMENTS = "measurements.parquet"
VERSIONS = {
    "branching": 1, "browsed": 1, "cka": 2, "displacement": 1, "distribution": 1, "gradients": 1,
    "leak": 1, "positions": 1,
}  # fmt: skip
"""Of each analysis: raised by hand when the same policies give other measurements
(tests/test_versions.py)."""


def measured(
    profile: Profile,
    name: str,
    settings: dict[str, Any],
    inputs: dict[str, Path],
    compute: Callable[[], pd.DataFrame],
) -> Run:
    """The run that holds what `compute` returns for these settings and policies."""
    run = runs.open_run(
        profile,
        "analyse",
        f"{name}-seed{profile.seed}",
        {
            "analysis": name,
            "seed": profile.seed,
            "analysis_version": VERSIONS[name],
            **settings,
        },
        {label: policies.check_policy(policy) for label, policy in inputs.items()},
    )
    if not run.finished:
        with run.recording() as result:
            print(f"{run.name}: measuring", flush=True)
            table = compute()
            table.to_parquet(run.folder / MEASUREMENTS, index=False)
            result["rows"] = len(table)
        policies.release()
    return run


def table(run: Run) -> pd.DataFrame:
    """What was measured: one row a token, a rollout, a layer or whatever the analysis says."""
    return pd.read_parquet(run.folder / MEASUREMENTS)
