"""Fig. D, ours: what RL makes of the other ways to more entropy, on the seeds that have them."""

from __future__ import annotations

import pandas as pd

from companion import paired
from companion.analysis import collect, decided
from companion.exhibits import figA, headline
from companion.exhibits.exhibit import Exhibit, Shown
from companion.exhibits.headline import IN
from companion.exhibits.reheating import MARGIN
from companion.exhibits.style import titled
from companion.schema import Profile
from companion.study import arms
from companion.study.roles import Evidence

FROZEN, FIXED_POINT = "+DAPO w/ PR-FKL frozen", "+DAPO w/ PR-scale*"


def make(profile: Profile, evidence: Evidence) -> Shown | None:
    if len(evidence.seeds) < 2:
        return None
    rivals = collect.samples(evidence.every("rival_ends"))
    rows = pd.concat([headline.samples(evidence), rivals], ignore_index=True)
    rows = rows[~rows["label"].isin(["Base", "Collapsed"])]
    everywhere = rows.groupby("label")["seed"].nunique() == rows["seed"].nunique()
    rows = rows[rows["label"].map(everywhere)]  # seeds may have been given other rivals
    places = headline.places(profile)
    table, each = decided.against(rows, places, arms.DAPO)
    found = finding(table, each["seed"].nunique())
    return Shown(
        figure=titled(figA.draw(table, each), found),
        finding=found,
        data=each.round(4),
        sentence=sentence(table, each) + distilling(rows, {IN: places[IN]}),
        more={"rivals_by_seed": figA.numbers(table)},
    )


def finding(table: pd.DataFrame, seeds: int) -> str:
    """Args: of `decided.against`, of so many seeds; of all arms the one that gains most in
    distribution."""
    rows = table[(table["metric"] == table["metric"].iloc[0]) & (table["place"] == IN)]
    best = max(rows.itertuples(), key=lambda row: row.gain.value)
    ends = "ends highest" if best.gain.value > 0 else "comes nearest"
    told = "told" if best.holm < 0.05 else "not told"
    said = f"{ends}, {told} from plain DAPO"
    if not figA.can_tell(len(rows), seeds):
        said = f"{ends}; {seeds} seeds can tell no arm apart"
    return f"{figA.short(best.policy)} {said}: {best.gain:+.1f} points"


def sentence(table: pd.DataFrame, each: pd.DataFrame) -> str:
    """Args: of `decided.against`, all arms against plain DAPO."""
    metric, count = table["metric"].iloc[0], each["seed"].nunique()
    rows = table[(table["metric"] == metric) & (table["place"] == IN)]
    gains = ", ".join(f"{figA.short(r.policy)} {r.gain:+.1f}" for r in rows.itertuples())
    return f"On the {count} seeds that have all of them, {metric} {IN} beside plain DAPO: {gains}."


def distilling(samples: pd.DataFrame, places: dict[str, list[str]]) -> str:
    """Whether RL ends elsewhere from a frozen teacher's policy than from its fixed point: one test.

    Args:
        samples: of all arms; says nothing where one of the two is missing.
        places: the suites to average over.
    """
    if not {FROZEN, FIXED_POINT} <= set(samples["label"]):
        return ""
    _, each = decided.against(samples, places, FIXED_POINT)
    rows = each[(each["policy"] == FROZEN) & (each["metric"] == each["metric"].iloc[0])]
    test = paired.equivalent(rows["gain"].to_numpy(), MARGIN)
    verdict = "equivalent" if test.p_value < 0.05 else "not shown to be equivalent"
    return (
        " Distilling from a frozen teacher and dividing its logits to the same entropy are "
        f"{verdict} within {MARGIN:g} points after RL ({test.interval:+.1f} with its 90% "
        f"interval; two one-sided tests, p = {test.p_value:.2g})."
    )


EXHIBIT = Exhibit(
    name="figD",
    title="Fig. D: what RL makes of the other ways to more entropy",
    notebook="12_restore",
    roles=("evaluations", "rival_ends"),
    make=make,
    alt="For each arm, those that fewer seeds have included, its gain over plain DAPO: every seed, the "
    "mean, its interval, and the smallest gain that so many seeds detect.",
    every_seed=True,
)
