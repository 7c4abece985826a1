"""The answers that a table's policies did not end: its note, and the shares behind it."""

from __future__ import annotations

import pandas as pd

from companion.schema import Profile

MANY = 5.0
"""Percent: a table whose policies have more of them cut says so."""


def note(profile: Profile, cut: pd.DataFrame) -> str:
    """Args: `accuracy.cut` of the table's policies. Empty where none has many."""
    share = cut["Avg"]
    many, few = share[share > MANY], share[share <= MANY]
    if many.empty:
        return ""
    each = ", ".join(f"{policy} {value:.0f}%" for policy, value in many.items())
    others = f" (of the others' at most {few.max():.1f}%)" if len(few) else ""
    return (
        f"Cut at the limit of {profile.evaluation.max_new_tokens} tokens, and graded as they stand: "
        f"{each} of the answers{others}. What a policy gains over these is in part that it answers "
        "within the limit."
    )
