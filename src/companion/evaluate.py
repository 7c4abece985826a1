"""What a policy can do, and how sharp it is: avg@k, pass@k and the mean token entropy."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from companion import runs
from companion.analysis.statistics import Estimate, ratio_of_sums
from companion.params import Profile
from companion.tasks import countdown

SUITES = list(countdown.SUITES)
"""The in-domain suites, easiest first: the counterpart of the paper's five benchmarks."""
OOD = countdown.OOD
"""The out-of-distribution suite: the counterpart of GPQA."""

ENTROPY_SEED = 20260
"""Common random numbers: every checkpoint is measured on the same prompts and uniforms."""


def token_entropy(policy: Path, profile: Profile) -> Estimate:
    """Mean token entropy in nats at T = 1: the one measure behind collapse, gate and stop.

    One answer is sampled at T = 1, top-p 1, for each of `entropy.prompts` fixed validation
    prompts (all suites in equal parts). Averaged over every sampled token up to and including
    the end token, so long answers weigh more; the interval resamples prompts.
    """
    from companion.sampling import sample_policy

    answers = sample_policy(
        policy, entropy_prompts(profile), max_new_tokens=profile.evaluation.max_new_tokens,
        temperature=1.0, top_p=1.0, seed=ENTROPY_SEED,
    )
    sums = np.array([sum(row) for row in answers.entropies])
    return ratio_of_sums(sums, np.array([len(row) for row in answers.tokens], dtype=float))


def measure(profile: Profile) -> dict[str, object]:
    """What `token_entropy` depends on beside the policy, for a run's fingerprint."""
    return {
        "entropy_data": runs.text_hash(entropy_prompts(profile)),
        "entropy_tokens": profile.evaluation.max_new_tokens,
    }


def training_hash(profile: Profile) -> str:
    """The task's training prompts, for a run's fingerprint."""
    problems = countdown.training_set(profile.task.train_problems)
    return runs.text_hash(countdown.prompt(problem) for _, problem in problems)


def entropy_row(measured: Estimate) -> dict[str, float]:
    """The measure as columns of metrics.jsonl, in nats: token_entropy and its interval."""
    return {
        "token_entropy": measured.value,
        "entropy_low": measured.low,
        "entropy_high": measured.high,
    }


def entropy_prompts(profile: Profile) -> list[str]:
    """The fixed validation prompts of the entropy measure."""
    each = -(-profile.entropy.prompts // len(SUITES))
    problems = [p for s in SUITES for p in countdown.problems("validation", s, each)]
    return [countdown.prompt(problem) for problem in problems[: profile.entropy.prompts]]


def evaluate(
    profile: Profile, policy: Path, label: str, split: str = "test", engine: str | None = None
) -> runs.Run:
    """Sample `policy` on the five suites and the out-of-distribution one; keep every sample.

    The run's folder gets samples.parquet (one row a sample: suite, problem, prompt, answer,
    tokens, correct, ended) and, in run.json, the policy's token entropy in nats.

    Args:
        label: the row of Table 1 this policy is, such as "+DAPO w/ PR-FKL".
        split: "validation" to choose settings, "test" to report.
        engine: "transformers" or "vllm"; the profile's if None.
    """
    engine = profile.evaluation.engine if engine is None else engine
    rows = _questions(profile, split)
    settings = {
        "split": split, "seed": profile.seed, "label": label,
        "data": runs.text_hash(rows["prompt"]),
        **profile.evaluation.model_dump(exclude={"bootstrap"}), "engine": engine,
        **measure(profile),
    }
    run = runs.open_run(
        profile, "evaluate", f"{runs.slug(label)}-{split}-seed{profile.seed}", settings,
        {"policy": runs.check_policy(policy)},
    )
    if run.finished:
        return run
    with run.recording() as result:
        samples = _answer(rows, profile, policy, engine)
        samples.to_parquet(run.folder / "samples.parquet", index=False)
        result["label"] = label
        result["token_entropy"] = asdict(token_entropy(policy, profile))
    return run


def evaluate_each(
    profile: Profile, policies: dict[str, Path], split: str = "test"
) -> dict[str, runs.Run]:
    """`evaluate` for every policy, by its label."""
    return {
        label: evaluate(profile, policy, label, split)
        for label, policy in tqdm(policies.items(), desc="evaluate", unit="policy")
    }


def both_engines(profile: Profile, policy: Path, label: str) -> list[runs.Run]:
    """The policy's validation problems, answered through transformers and through vLLM."""
    return [
        evaluate(profile, policy, f"{label}, {engine}", "validation", engine)
        for engine in ("transformers", "vllm")
    ]


def _questions(profile: Profile, split: str) -> pd.DataFrame:
    """One row a sample to draw: suite, problem, sample, prompt."""
    count = getattr(profile.task, f"{split}_problems")
    return pd.DataFrame(
        [
            {"suite": suite, "problem": problem.key, "sample": k, "prompt": countdown.prompt(problem)}
            for suite in (*SUITES, OOD)
            for problem in countdown.problems(split, suite, count)
            for k in range(profile.evaluation.samples)
        ]
    )


def _answer(rows: pd.DataFrame, profile: Profile, policy: Path, engine: str) -> pd.DataFrame:
    """The rows with the policy's answers: answer, ended, tokens (their number), correct."""
    if engine == "vllm":
        from companion.adapters.vllm_engine import sample_policy
    else:
        from companion.sampling import sample_policy
    settings = profile.evaluation
    answers = sample_policy(
        policy, rows["prompt"].tolist(), max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature, top_p=settings.top_p, seed=profile.seed,
    )
    return rows.assign(
        answer=answers.texts,
        ended=answers.ended,
        tokens=[len(tokens) for tokens in answers.tokens],
        correct=[
            countdown.verify(countdown.parse_prompt(prompt), answer)
            for prompt, answer in zip(rows["prompt"], answers.texts, strict=True)
        ],
    )


def examples(policy: Path, profile: Profile) -> str:
    """One T = 1 answer to the first validation problem of every suite, with its verdict."""
    from companion.sampling import sample_policy

    suites = [*SUITES, OOD]
    asked = [countdown.problems("validation", suite, 1)[0] for suite in suites]
    answers = sample_policy(
        policy, [countdown.prompt(problem) for problem in asked],
        max_new_tokens=profile.evaluation.max_new_tokens, temperature=1.0, top_p=1.0, seed=0,
    )
    return "\n\n".join(
        f"{suite}: {countdown.prompt(problem)}  "
        f"({'right' if countdown.verify(problem, text) else 'wrong'}, {len(tokens)} tokens)\n"
        + "\n".join(f"    {line.strip()}" for line in text.split("\n"))
        for suite, problem, text, tokens in zip(
            suites, asked, answers.texts, answers.tokens, strict=True
        )
    )
