"""How every sentence says what an interval holds: the number tested, and whether it lies inside."""

from __future__ import annotations

from collections.abc import Mapping

from companion.statistics import Estimate


def holds(interval: Estimate, values: Mapping[str, float]) -> str:
    """Which of these values an interval holds and which it leaves out.

    Such as "holds 0 and leaves out +2.33 (the paper's, 8B)".

    Args:
        values: in the estimate's unit, by what the sentence calls them.
    """
    inside = [name for name, value in values.items() if interval.low <= value <= interval.high]
    outside = [name for name in values if name not in inside]
    said = [
        f"{verb} {_listed(names)}"
        for verb, names in (("holds", inside), ("leaves out", outside))
        if names
    ]
    return " and ".join(said)


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
