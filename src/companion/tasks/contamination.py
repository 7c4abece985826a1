"""Near-duplicates between training prompts and benchmark problems, by exact n-gram overlap.

A benchmark problem's similarity to a training prompt is the share of its n-grams of characters
that the prompt holds: 1 where it is repeated whole, even with something added, as DAPO adds how
to state the answer. Template, letter case, spacing, punctuation and LaTeX that only changes the
layout do not count. The shorter a problem, the more of it is phrasing that others share: of the
760 problems of MATH-500, AIME 2024 and 2025 and OlymMATH, the default threshold takes one, of six
words, for a near-duplicate of two others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from companion.policies import as_text
from companion.tasks import Question, questions

LENGTH = 8
"""Characters in an n-gram: about two words, spaces left out."""
LAYOUT = re.compile(
    r"\\(?:q?quad|left|right|big{1,2}[lr]?|displaystyle|textstyle|limits|text|mathrm|mathbf)"
    r"(?![a-z])"
)
FRACTION = re.compile(r"\\[dt]frac(?![a-z])")
ROWS = 64
"""Benchmark problems compared at a time, which bounds the memory."""


def near_duplicates(
    training: Sequence[Question], problems: Sequence[Question], threshold: float = 0.8
) -> pd.DataFrame:
    """Pairs of a benchmark problem and a training problem at least this similar, best first.

    Columns suite, key, training_key and similarity, in (0, 1].

    Raises:
        ValueError: threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold} and must be above 0 and at most 1")
    wanted = [ngrams(as_text(problem.prompt)) for problem in problems]
    columns = {gram: i for i, gram in enumerate(sorted(set().union(*wanted)))}
    ours = _matrix(wanted, columns)
    theirs = _matrix((ngrams(as_text(problem.prompt)) for problem in training), columns).T.tocsc()
    sizes = np.array([len(grams) for grams in wanted])
    rows = []
    for start in range(0, len(problems), ROWS):
        shared = (ours[start : start + ROWS] @ theirs).tocoo()
        similarity = shared.data / sizes[start + shared.row]
        for i in np.flatnonzero(similarity >= threshold):
            problem, twin = problems[start + shared.row[i]], training[shared.col[i]]
            rows.append((problem.suite, problem.key, twin.key, similarity[i]))
    found = pd.DataFrame(rows, columns=["suite", "key", "training_key", "similarity"])
    return found.sort_values(
        ["similarity", "suite", "key", "training_key"],
        ascending=[False, True, True, True],
        ignore_index=True,
    )


def ngrams(prompt: str) -> set[str]:
    """The n-grams of a prompt's letters and digits; one shorter text where it has fewer."""
    text = FRACTION.sub(r"\\frac", questions.question(prompt).casefold())
    text = "".join(filter(str.isalnum, LAYOUT.sub(" ", text)))
    return {text[i : i + LENGTH] for i in range(max(1, len(text) - LENGTH + 1))}


def _matrix(texts: Iterable[set[str]], columns: dict[str, int]) -> sparse.csr_array:
    """Which n-grams [texts, columns] each text holds; others than `columns` are left out."""
    indices: list[int] = []
    ends = [0]
    for grams in texts:
        indices.extend(columns[gram] for gram in grams if gram in columns)
        ends.append(len(indices))
    held = np.ones(len(indices), dtype=np.int32)
    return sparse.csr_array((held, indices, ends), shape=(len(ends) - 1, len(columns)))
