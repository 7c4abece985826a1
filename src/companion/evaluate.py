"""What a policy can do, and how sharp it is: avg@k, pass@k and the mean token entropy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from companion import params, runs, tasks
from companion.analysis.statistics import Estimate, ratio_of_sums
from companion.params import Profile

if TYPE_CHECKING:
    from companion.sampling import Answers

ENTROPY_SEED = 20260
"""Common random numbers: every checkpoint is measured on the same prompts and uniforms."""
RANKS = (
    "RANK",
    "LOCAL_",
    "WORLD_SIZE",
    "MASTER_",
    "GROUP_",
    "ROLE_",
    "TORCHELASTIC_",
    "ACCELERATE_",
    "FSDP_",
)
"""What torchrun and accelerate tell a rank of ms-swift, and nobody else should hear."""


def token_entropy(policy: Path, profile: Profile) -> Estimate:
    """Mean token entropy in nats at T = 1: the one measure behind collapse, gate and stop.

    One answer is sampled at T = 1, top-p 1, for each of `entropy.prompts` fixed validation
    prompts (all suites in equal parts). Averaged over every sampled token up to and including
    the end token, so long answers weigh more; the interval resamples prompts.

    On GPUs vLLM samples, and it is measured in a process of its own, which frees them when it
    ends: no trainer and no notebook must keep any.
    """
    if profile.hardware.platform == "cpu":
        return measure_here(policy, profile)
    own = {name: value for name, value in os.environ.items() if not name.startswith(RANKS)}
    child = subprocess.run(
        [sys.executable, "-m", __name__, str(policy), profile.model_dump_json()],
        env=own,
        capture_output=True,
        text=True,
    )
    if child.returncode:
        tail = "\n".join(child.stderr.strip().splitlines()[-15:])
        raise RuntimeError(f"the token entropy of {policy.name} could not be measured:\n{tail}")
    return Estimate(**json.loads(child.stdout.splitlines()[-1]))


def measure_here(policy: Path, profile: Profile) -> Estimate:
    """`token_entropy` in this process."""
    from companion.sampling import opened

    prompts = entropy_prompts(profile)
    engine = {"cpu": "transformers", "gpu": "vllm"}[profile.hardware.platform]
    with opened(policy, profile, engine) as sampler:
        answers = sampler(
            prompts,
            max_new_tokens=profile.evaluation.max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            seed=ENTROPY_SEED,
        )
    sums = _entropy_sums(policy, prompts, answers)
    return ratio_of_sums(sums, np.array([len(row) for row in answers.tokens], dtype=float))


def _entropy_sums(policy: Path, prompts: list[str], answers: Answers) -> np.ndarray:
    """The entropies of each answer's tokens, added up; read again where the engine reports none."""
    if answers.entropies:
        return np.array([sum(row) for row in answers.entropies])
    from companion import objective
    from companion.analysis.rollouts import read, rollouts_of

    sums = np.zeros(len(prompts))
    for logits, _, row in read(policy, rollouts_of(policy, prompts, answers)):
        np.add.at(sums, row, objective.entropy(logits).double().cpu().numpy())
    return sums


def measure(profile: Profile) -> dict[str, object]:
    """What `token_entropy` depends on beside the policy, for a run's fingerprint."""
    return {
        "entropy_data": runs.text_hash(entropy_prompts(profile)),
        "entropy_tokens": profile.evaluation.max_new_tokens,
    }


def training_hash(profile: Profile) -> str:
    """The task's training prompts, for a run's fingerprint."""
    return runs.text_hash(question.prompt for question in tasks.training(profile))


def entropy_row(measured: Estimate) -> dict[str, float]:
    """The measure as columns of metrics.jsonl, in nats: token_entropy and its interval."""
    return {
        "token_entropy": measured.value,
        "entropy_low": measured.low,
        "entropy_high": measured.high,
    }


def entropy_prompts(profile: Profile) -> list[str]:
    """The fixed validation prompts of the entropy measure."""
    asked = tasks.mixed(profile, "validation", profile.entropy.prompts)
    return [question.prompt for question in asked]


def evaluate(
    profile: Profile, policy: Path, label: str, split: str = "test", engine: str | None = None
) -> runs.Run:
    """Sample `policy` on the five suites and the out-of-distribution one; keep every sample.

    The run's folder gets samples.parquet (one row a sample: suite, problem, sample, prompt, gold,
    answer, ended, tokens, token_ids, correct and what else the task's grader says) and, in
    run.json, the policy's token entropy in nats.

    Args:
        label: the row of Table 1 this policy is, such as "+DAPO w/ PR-FKL".
        split: "validation" to choose settings, "test" to report.
        engine: "transformers" or "vllm"; the profile's if None.
    """
    engine = profile.evaluation.engine if engine is None else engine
    rows = _questions(profile, split)
    settings = {
        "split": split,
        "seed": profile.seed,
        "label": label,
        "data": runs.text_hash(rows["prompt"]),
        **profile.evaluation.model_dump(exclude={"bootstrap"}),
        "engine": engine,
        **measure(profile),
    }
    run = runs.open_run(
        profile,
        "evaluate",
        f"{runs.slug(label)}-{split}-seed{profile.seed}",
        settings,
        {"policy": runs.check_policy(policy)},
    )
    if run.finished:
        return run
    with run.recording(data=tasks.source(profile, split)) as result:
        samples = _sample(run, rows, profile, policy, engine)
        _write_samples(run.folder / "samples.parquet", samples)
        result["label"] = label
        result["token_entropy"] = asdict(token_entropy(policy, profile))
    for part in run.folder.glob("samples-*.parquet"):  # not before: a failed run resumes from them
        part.unlink()
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
    """The policy's validation problems, answered through transformers and through vLLM.

    On GPUs two of each suite: the loop through transformers is made for small policies.
    """
    if profile.hardware.platform == "gpu":
        profile = params.change(profile, {"task.validation_problems": 2})
    return [
        evaluate(profile, policy, f"{label}, {engine}", "validation", engine)
        for engine in ("transformers", "vllm")
    ]


def _questions(profile: Profile, split: str) -> pd.DataFrame:
    """One row a sample to draw: suite, problem, sample, prompt, gold."""
    samples = range(profile.evaluation.samples)
    return pd.DataFrame(
        [
            {
                "suite": question.suite,
                "problem": question.key,
                "sample": k,
                "prompt": question.prompt,
                "gold": question.gold,
            }
            for question in tasks.held_out(profile, split)
            for k in samples
        ]
    )


def _sample(
    run: runs.Run, rows: pd.DataFrame, profile: Profile, policy: Path, engine: str
) -> pd.DataFrame:
    """The rows with the policy's answers, a suite at a time; suites of an earlier try are reused.

    Adds answer, ended, tokens (their number), token_ids, and what `tasks.judge` says.
    """
    from companion.sampling import opened

    settings, parts = profile.evaluation, []
    with ExitStack() as stack:
        sampler = None
        for suite, asked in rows.groupby("suite", sort=False):
            part = run.folder / f"samples-{runs.slug(suite)}.parquet"
            if not part.exists():
                sampler = sampler or stack.enter_context(opened(policy, profile, engine))
                answers = sampler(
                    asked["prompt"].tolist(),
                    max_new_tokens=settings.max_new_tokens,
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    seed=profile.seed,
                    first=int(asked.index[0]),
                )
                _write_samples(part, _judged(asked, answers, profile))
            parts.append(part)
    return pd.concat(map(pd.read_parquet, parts), ignore_index=True)


def _judged(asked: pd.DataFrame, answers: Answers, profile: Profile) -> pd.DataFrame:
    verdicts = tasks.judge(profile, answers.texts, asked["gold"].tolist())
    return asked.assign(
        answer=answers.texts,
        ended=answers.ended,
        tokens=[len(tokens) for tokens in answers.tokens],
        token_ids=answers.tokens,
        **{name: verdicts[name].to_numpy() for name in verdicts},
    )


def _write_samples(path: Path, samples: pd.DataFrame) -> None:
    partial = path.with_suffix(".partial")
    samples.to_parquet(partial, index=False)
    partial.replace(path)


def as_asked(policy: Path, profile: Profile) -> str:
    """The first validation problem as the policy reads it, in training and in evaluation alike."""
    from transformers import AutoTokenizer

    message = {"role": "user", "content": tasks.first_of_each(profile, "validation")[0].prompt}
    return AutoTokenizer.from_pretrained(policy).apply_chat_template(
        [message], tokenize=False, add_generation_prompt=True
    )


def disagreements(samples: pd.DataFrame) -> pd.DataFrame:
    """Where a task's two graders differ: gold, stated, correct, math_dapo, count; maybe empty."""
    from companion.tasks import grading

    if "math_dapo" not in samples:  # the task has one rule
        return pd.DataFrame(columns=["gold", "stated", "correct", "math_dapo", "count"])
    return grading.disagreements(samples)


def examples(policy: Path, profile: Profile) -> str:
    """One T = 1 answer to the first validation problem of every suite, with its verdict."""
    from companion.sampling import opened

    asked = tasks.first_of_each(profile, "validation")
    with opened(policy, profile) as sampler:
        answers = sampler(
            [question.prompt for question in asked],
            max_new_tokens=profile.evaluation.max_new_tokens,
            temperature=1.0,
            top_p=1.0,
            seed=0,
        )
    verdicts = tasks.judge(profile, answers.texts, [question.gold for question in asked])
    return "\n\n".join(
        f"{question.suite}: {question.prompt}  "
        f"({'right' if right else 'wrong'}, {len(tokens)} tokens)\n"
        + "\n".join(f"    {line.strip()}" for line in text.split("\n"))
        for question, right, text, tokens in zip(
            asked, verdicts["correct"], answers.texts, answers.tokens, strict=True
        )
    )


if __name__ == "__main__":
    print(
        json.dumps(
            asdict(measure_here(Path(sys.argv[1]), Profile.model_validate_json(sys.argv[2])))
        )
    )
