"""Ours: the same problems answered before and after each step of the story, to be read."""

from __future__ import annotations

from typing import Any

import pandas as pd

from companion.analysis import measure
from companion.exhibits.exhibit import Exhibit, Shown, Widget
from companion.schema import Profile
from companion.study.roles import Evidence

LONGEST = 200
"""Tokens of an answer that the page carries; a longer one says that it goes on."""


def make(profile: Profile, evidence: Evidence) -> Shown:
    rows = measure.table(evidence.only("browsed"))
    table = summary(rows)
    return Shown(table=table, widget=Widget("answers", data(rows)), sentence=sentence(table))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each policy over all problems: right answers (percent), different answers among those to one
    problem, tokens an answer, and the mean token entropy (nats)."""
    told = rows.assign(
        text=rows["tokens"].map(tuple),
        count=rows["tokens"].map(len),
        nats=rows["entropies"].map(sum),
    )
    policies = told.groupby("policy", sort=False)
    problems = told.groupby(["policy", "prompt"], sort=False)["text"].nunique()
    return pd.DataFrame(
        {
            "right (%)": 100 * policies["correct"].mean(),
            "different answers to a problem": problems.groupby("policy", sort=False).mean(),
            "tokens": policies["count"].mean(),
            "entropy (nats)": policies["nats"].sum() / policies["count"].sum(),
        }
    )


def sentence(table: pd.DataFrame) -> str:
    """Args: `summary`."""
    different = table["different answers to a problem"]
    each = ", ".join(f"{policy} {count:.1f}" for policy, count in different.items())
    return (
        "Of eight answers to a problem so many differ from each other, on average over these few "
        f"problems: {each}. Table 1 has the accuracies, on all of them."
    )


def data(rows: pd.DataFrame) -> dict[str, Any]:
    """What answers.js reads: words once, then by policy and problem its answers.

    An answer is [how many were the same, whether it is right, its tokens (numbers of words), their
    entropies (hundredths of a nat)]; the commonest comes first.
    """
    words: dict[str, int] = {}
    policies = {
        str(policy): [_answers(told, words) for _, told in of_policy.groupby("prompt", sort=False)]
        for policy, of_policy in rows.groupby("policy", sort=False)
    }
    problems = rows.drop_duplicates("prompt")[["suite", "prompt"]].to_dict("records")
    # Tokens that carry their own spaces need none between them.
    apart = not any(word.startswith(" ") for word in words)
    return {"problems": problems, "words": list(words), "apart": apart, "policies": policies}


def _answers(told: pd.DataFrame, words: dict[str, int]) -> list[list[Any]]:
    """One policy's answers to one problem; adds their tokens to `words`."""
    found: dict[tuple[str, ...], list[Any]] = {}
    for row in told.itertuples():
        text = tuple(row.tokens)
        if text not in found:
            read = [(t, h) for t, h in zip(text, row.entropies, strict=True) if t][: LONGEST + 1]
            tokens = [words.setdefault(token, len(words)) for token, _ in read]
            nats = [round(100 * entropy) for _, entropy in read]
            found[text] = [0, bool(row.correct), tokens, nats]
        found[text][0] += 1
    return sorted(found.values(), key=lambda answer: -answer[0])


EXHIBIT = Exhibit(
    name="answers",
    title="Read them: answers before and after",
    notebook="05_internals",
    roles=("browsed",),
    make=make,
)
