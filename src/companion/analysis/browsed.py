"""Answers to look at: a few problems, several answers of each policy, each token with its entropy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from companion import hashes, tasks
from companion.analysis.measure import measured
from companion.policies import as_text, load_tokenizer
from companion.runs import Run
from companion.schema import Profile
from companion.stages.answers import VERSIONS
from companion.stages.engines import opened
from companion.stages.entropy import token_entropies
from companion.tasks import Question

PROBLEMS, ANSWERS = 20, 8
"""Test problems, in equal parts of all suites, and answers of each policy to each, at T = 1."""


def problems(profile: Profile) -> list[Question]:
    """The first test problems of every suite, the out-of-distribution one's among them."""
    suites = tasks.asked(profile, "test")
    each = -(-PROBLEMS // len(suites))
    kept: dict[str, list[Question]] = {suite: [] for suite in suites}
    for question in tasks.held_out(profile, "test"):
        if len(kept[question.suite]) < each:
            kept[question.suite].append(question)
    return [question for suite in suites for question in kept[suite]][:PROBLEMS]


def answers(profile: Profile, policies: Mapping[str, Path]) -> Run:
    """What each policy answers, sampled from all of its distribution (T = 1, top-p 1).

    Measurements: a row an answer: policy (its name), suite, prompt, answer (its number), correct, tokens
    (their text, one an entry; that of the end token is empty), entropies (nats, before each of them).
    """

    def compute() -> pd.DataFrame:
        asked = [question for question in problems(profile) for _ in range(ANSWERS)]
        prompts = [question.prompt for question in asked]
        frames = []
        for name, policy in policies.items():
            tokenizer = load_tokenizer(policy)
            with opened(policy, profile) as sampler:
                said = sampler(
                    prompts,
                    max_new_tokens=profile.evaluation.max_new_tokens,
                    temperature=1.0,
                    top_p=1.0,
                    seed=profile.seed,
                )
            golds = [question.gold for question in asked]
            frames.append(
                pd.DataFrame(
                    {
                        "policy": name,
                        "suite": [question.suite for question in asked],
                        "prompt": [as_text(prompt) for prompt in prompts],
                        "answer": [i % ANSWERS for i in range(len(asked))],
                        "correct": tasks.judge(profile, said.texts, golds)["correct"],
                        "tokens": [
                            [tokenizer.decode([token], skip_special_tokens=True) for token in row]
                            for row in said.tokens
                        ],
                        "entropies": token_entropies(policy, prompts, said),
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    engine = profile.evaluation.engine
    settings = {
        "data": hashes.text_hash(as_text(question.prompt) for question in problems(profile)),
        "samples": ANSWERS,
        "max_new_tokens": profile.evaluation.max_new_tokens,
        "engine": engine,
        "platform": profile.hardware.platform,
        "sampler_version": VERSIONS[engine],
        "grader_version": tasks.of(profile.task.name).GRADER_VERSION,
        **tasks.grader(profile),
    }
    return measured(profile, "browsed", settings, dict(policies), compute)
