"""How every sentence says what an interval holds, and when a claim of the paper is met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from companion.exhibits.exhibit import Verdict
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


def judged(interval: Estimate, paper: Iterable[float], null: float = 0) -> Verdict:
    """Whether an effect that the paper reports is there.

    "agrees": the interval leaves `null` out on the paper's side; "differs": it does not, and leaves
    out every value that the paper gives; "open": it holds both.

    Args:
        paper: its values, all on one side of `null`.
    """
    values = list(paper)
    side = 1 if min(values) > null else -1
    if min(side * (interval.low - null), side * (interval.high - null)) > 0:
        return "agrees"
    inside = any(interval.low <= value <= interval.high for value in values)
    return "open" if inside else "differs"


def unchanged(interval: Estimate, margin: float) -> Verdict:
    """Whether a change that the paper does not see is absent here.

    "agrees": the interval lies within `margin` of 0; "differs": it leaves 0 out, and does not;
    "open": it is too wide for either.
    """
    if -margin < interval.low and interval.high < margin:
        return "agrees"
    return "open" if interval.low <= 0 <= interval.high else "differs"


def directed(interval: Estimate, side: int = 1, null: float = 0) -> Verdict:
    """Whether an effect has the direction that the paper gives it, where it gives no number.

    "agrees": the interval leaves `null` out on the paper's side; "differs": on the other; "open": it
    holds `null`.

    Args:
        side: 1 where the paper says more, -1 where it says less.
    """
    ends = [side * (end - null) for end in (interval.low, interval.high)]
    if min(ends) > 0:
        return "agrees"
    return "differs" if max(ends) < 0 else "open"


def near(interval: Estimate, paper: float, margin: float) -> Verdict:
    """Whether a quantity is about what the paper has.

    "agrees": the interval lies within `margin` of its value; "differs": wholly beyond; "open": in part.
    """
    if paper - margin <= interval.low and interval.high <= paper + margin:
        return "agrees"
    beyond = interval.high < paper - margin or interval.low > paper + margin
    return "differs" if beyond else "open"


def told(gain: Estimate, other: str) -> str:
    """What a difference from `other` says: "gains on" it, "loses to" it, or "is not told from" it."""
    verb = {"agrees": "gains on", "differs": "loses to", "open": "is not told from"}
    return f"{verb[directed(gain)]} {other}"


def unanimous(verdicts: Iterable[Verdict]) -> Verdict:
    """What a rule without an interval says of every seed; "open" where seeds differ."""
    said = set(verdicts)
    return said.pop() if len(said) == 1 else "open"


def on_seeds(each: Sequence[bool], yes: str, no: str) -> str:
    """What a rule without an interval says of every seed, or of how many."""
    some = f"{yes} on {sum(each)} of {len(each)} seeds"
    return yes if all(each) else some if any(each) else no


def seeds(count: int) -> str:
    """Follows what is a mean over several seeds; of one there is nothing to say."""
    return f", means of {count} seeds" if count > 1 else ""


def span(values: Iterable[float], spec: str = "g") -> str:
    """ "35", or "33 to 37" where seeds differ."""
    found = list(values)
    return " to ".join(dict.fromkeys(f"{end(found):{spec}}" for end in (min, max)))


def written(found: Estimate, spec: str) -> str:
    """With its interval, if it has one."""
    return f"{found:{spec}}" if found.low < found.high else f"{found.value:{spec}}"


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
