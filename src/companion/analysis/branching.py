"""Where sampled answers leave the greedy one: Table 2, and log-probability by position (Fig. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein
from tqdm import tqdm

from companion.analysis.measure import measured
from companion.analysis.rollouts import roll_out, settings
from companion.runs import Run
from companion.schema import Profile
from companion.statistics import Estimate, of_draws, ratio_of_sums, ratios


def branch(profile: Profile, policies: dict[int, Path]) -> Run:
    """Stochastic answers (T = 1) of every checkpoint against its own greedy answers.

    Args:
        policies: by reheating step; step 0 is the collapsed policy.

    Measurements: a row an answer, with its checkpoint, prompt, `edit_distance` and
    `fork_position` (see those functions), and `log_probs`, the list of its tokens' nats.
    """

    def compute() -> pd.DataFrame:
        rows = []
        for step, policy in tqdm(policies.items(), desc="roll out", unit="checkpoint"):
            greedy = roll_out(profile, policy, greedy=True).answers
            rollouts = roll_out(profile, policy)
            rows += [
                {
                    "checkpoint": step,
                    "prompt": prompt,
                    "edit_distance": edit_distance(answer, greedy[prompt]),
                    "fork_position": fork_position(answer, greedy[prompt]),
                    "log_probs": log_probs,
                }
                for prompt, answer, log_probs in zip(
                    rollouts.prompt, rollouts.answers, rollouts.log_probs, strict=True
                )
            ]
        return pd.DataFrame(rows)

    named = {f"step {step}": policy for step, policy in policies.items()}
    return measured(profile, "branching", settings(profile), named, compute)


def edit_distance(answer: Sequence[int], greedy: Sequence[int]) -> float:
    """Levenshtein distance over tokens, divided by the longer length: 0 the same, 1 all differ."""
    return Levenshtein.normalized_distance(answer, greedy)


def fork_position(answer: Sequence[int], greedy: Sequence[int]) -> float:
    """The first token, counted from 0, in which the two differ; NaN if they never do."""
    for position, (one, other) in enumerate(zip(answer, greedy, strict=False)):
        if one != other:
            return float(position)
    return float("nan") if len(answer) == len(greedy) else float(min(len(answer), len(greedy)))


def summary(answers: pd.DataFrame, resamples: int = 2000) -> pd.DataFrame:
    """Table 2: a row a checkpoint, each cell an Estimate whose interval resamples prompts.

    Edit distance (0 to 1) and log-probability (minus the mean nats a token) over all answers,
    fork position (tokens) over those that leave the greedy answer, and the share (percent) that
    never do.
    """
    rows = {}
    for step, rollouts in answers.groupby("checkpoint"):
        nats = rollouts["log_probs"].map(np.sum)
        forked = rollouts["fork_position"].notna()
        columns = {
            "edit distance": (rollouts["edit_distance"], 1),
            "fork position (tokens)": (rollouts["fork_position"].fillna(0), forked),
            "- log-prob (nats)": (-nats, rollouts["log_probs"].map(len)),
            "as greedy (%)": (100 * ~forked, 1),
        }
        rows[step] = {
            name: _over_prompts(values, weights, rollouts["prompt"], resamples)
            for name, (values, weights) in columns.items()
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _over_prompts(
    values: pd.Series, weights: pd.Series | int, prompt: pd.Series, resamples: int
) -> Estimate:
    """sum(values) / sum(weights), resampling whole prompts."""
    answers = pd.DataFrame({"prompt": prompt, "value": values, "weight": weights})
    sums = answers.groupby("prompt").sum()
    return ratio_of_sums(sums["value"].to_numpy(float), sums["weight"].to_numpy(float), resamples)


def fork_change(answers: pd.DataFrame, resamples: int = 2000) -> Estimate:
    """By how many percent the fork position of `summary` changes from the first checkpoint to the last.

    The same resampled prompts enter both.
    """
    forked = answers.dropna(subset=["fork_position"])
    prompts, steps = np.unique(answers["prompt"]), sorted(answers["checkpoint"].unique())
    first, last = (
        _resampled(rows["fork_position"], rows["prompt"], prompts, resamples)
        for rows in (forked[forked["checkpoint"] == steps[end]] for end in (0, -1))
    )
    return of_draws(100 * (last / first - 1))


def _resampled(
    values: pd.Series, prompt: pd.Series, prompts: np.ndarray, resamples: int
) -> np.ndarray:
    """The mean of `values` over all `prompts`, then over each resampling of them, always the same."""
    answers = pd.DataFrame({"prompt": prompt, "value": values, "count": 1})
    sums = answers.groupby("prompt").sum().reindex(prompts, fill_value=0)
    return ratios(sums["value"].to_numpy(float), sums["count"].to_numpy(float), resamples)


def by_position(answers: pd.DataFrame, least: int = 30, resamples: int = 500) -> pd.DataFrame:
    """Fig. 6: mean log-probability (nats) of the tokens at each position, a row a position.

    Only answers that reach a position count there; positions that fewer than `least` answers
    of any checkpoint reach are left out, so that all checkpoints show the same ones. Columns
    checkpoint, position (from 0), answers, value, low, high: 95% over resampled prompts; and the
    difference from the first checkpoint, prompts resampled together: change, change_low, change_high.
    """
    rows: list[dict[str, float]] = []
    prompts = np.unique(answers["prompt"])
    first: dict[float, np.ndarray] = {}
    for step, rollouts in answers.groupby("checkpoint"):
        long = rollouts[["prompt", "log_probs"]].explode("log_probs")
        long["position"] = long.groupby(level=0).cumcount()
        for position, tokens in long.groupby("position"):
            if len(tokens) >= least:
                nats = tokens["log_probs"].astype(float)
                estimate = _over_prompts(nats, 1, tokens["prompt"], resamples)
                drawn = _resampled(nats, tokens["prompt"], prompts, resamples)
                moved = of_draws(drawn - first.setdefault(position, drawn))
                rows.append(
                    {
                        "checkpoint": step,
                        "position": position,
                        "answers": len(tokens),
                        "value": estimate.value,
                        "low": estimate.low,
                        "high": estimate.high,
                        "change": moved.value,
                        "change_low": moved.low,
                        "change_high": moved.high,
                    }
                )
    if not rows:
        raise ValueError(
            f"least is {least} and no position is reached by so many answers; lower it"
        )
    table = pd.DataFrame(rows)
    reached = table.groupby("position")["checkpoint"].transform("count")
    return table[reached == table["checkpoint"].nunique()].reset_index(drop=True)
