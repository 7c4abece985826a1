"""Where reheating moves a policy: the KL of each token by how sure the policy was, and by its kind.

Softening is meant for tokens the policy hesitates at. What it does to those it was sure of is a leak:
a certain token decides whether an answer is right.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from companion import objective
from companion.analysis.measure import measured
from companion.analysis.rollouts import roll_out, settings
from companion.policies import end_tokens, load_tokenizer
from companion.runs import Run
from companion.schema import Profile
from companion.stages.reading import read
from companion.statistics import Estimate, ratio_of_sums

SURE = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)
"""Edges of the bins of confidence: the probability of the policy's likeliest token."""


def measure(profile: Profile, before: Path, after: Mapping[str, Path]) -> Run:
    """Every answer token that `before` samples at T = 1, read by it and by each policy of `after`.

    Measurements: a row a token: prompt (its number), kind (`kind_of` the sampled token), confidence
    (of `before`, in [0, 1]), and for each name of `after` the column "kl <name>":
    KL(before || after) in nats, over the full vocabulary.
    """

    def compute() -> pd.DataFrame:
        rollouts, tokenizer = roll_out(profile, before), load_tokenizer(before)
        ends, prompt = end_tokens(before), rollouts.prompt
        kinds = {
            token: "end" if token in ends else kind_of(tokenizer.decode([token]))
            for token in {token for answer in rollouts.answers for token in answer}
        }
        parts, names = [], list(after)
        readings = zip(
            read(before, rollouts), *(read(after[n], rollouts) for n in names), strict=True
        )
        for (old, _, answer), *others in readings:
            log_p = objective.log_probs(old)
            kl = {
                f"kl {name}": (log_p.exp() * (log_p - objective.log_probs(new)))
                .sum(-1)
                .cpu()
                .numpy()
                for name, (new, _, _) in zip(names, others, strict=True)
            }
            sure = log_p.max(-1).values.exp().cpu().numpy()
            parts.append(
                pd.DataFrame({"prompt": [prompt[i] for i in answer], "confidence": sure} | kl)
            )
        tokens = [token for answer in rollouts.answers for token in answer]
        return pd.concat(parts, ignore_index=True).assign(kind=[kinds[token] for token in tokens])

    asked = {**settings(profile), "objective_version": objective.VERSION}
    return measured(profile, "leak", asked, {"before": before, **after}, compute)


def kind_of(text: str) -> str:
    """number, operator, equals, word or other, for a token's text."""
    text = text.strip()
    if re.fullmatch(r"\d+", text):
        return "number"
    if re.fullmatch(r"[-+*/×÷−()]", text):
        return "operator"
    if text == "=":
        return "equals"
    return "word" if re.search(r"[^\W\d_]", text) else "other"


def by_confidence(tokens: pd.DataFrame) -> pd.DataFrame:
    """A row a bin of confidence, its index low and high: share (of the tokens), of each policy's column
    "kl <name>" the mean (nats a token), and "part <name>": of all its KL the share that lies there."""
    bins = np.clip(np.digitize(tokens["confidence"], SURE[1:-1]), 0, len(SURE) - 2)
    rows = []
    for i, (low, high) in enumerate(itertools.pairwise(SURE)):
        inside = tokens[bins == i]
        row: dict[str, float] = {"low": low, "high": high, "share": len(inside) / len(tokens)}
        for column in (name for name in tokens if name.startswith("kl ")):
            name = column.removeprefix("kl ")
            row[column] = float(inside[column].mean())  # NaN of none
            row[f"part {name}"] = float(inside[column].sum() / tokens[column].sum())
        rows.append(row)
    return pd.DataFrame(rows).set_index(["low", "high"])


def by_kind(tokens: pd.DataFrame) -> pd.DataFrame:
    """A row a kind of token: its share, and the mean KL (nats a token) of each policy."""
    kinds = tokens.groupby("kind")
    means = kinds[[name for name in tokens if name.startswith("kl ")]].mean()
    return means.assign(share=kinds.size() / len(tokens)).sort_values("share", ascending=False)


def mean(tokens: pd.DataFrame, name: str) -> Estimate:
    """KL of one policy, nats a token, with its 95% interval over prompts."""
    each = tokens.groupby("prompt")[f"kl {name}"].agg(["sum", "size"])
    return ratio_of_sums(each["sum"].to_numpy(), each["size"].to_numpy())


def over_seeds(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The mean of `by_confidence` or of `by_kind` over seeds.

    A kind that a seed lacks has no part there, and its mean KL is that of the other seeds.
    """
    frames = list(tables)
    rows = list(dict.fromkeys(row for frame in frames for row in frame.index))
    parts = [name for name in frames[0] if name == "share" or name.startswith("part ")]
    whole = [frame.reindex(rows).fillna(dict.fromkeys(parts, 0.0)) for frame in frames]
    means = np.nanmean([frame.to_numpy() for frame in whole], axis=0)
    return pd.DataFrame(means, whole[0].index, whole[0].columns)
