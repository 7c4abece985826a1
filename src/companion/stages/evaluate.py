"""Held-out problems, answered and judged: every sample of a policy, kept as it came."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from companion import hashes, outputs, params, policies, runs, tasks
from companion.schema import Profile
from companion.stages import answers as engines
from companion.stages.answers import ROWS
from companion.stages.engines import opened
from companion.stages.entropy import measure, token_entropy

if TYPE_CHECKING:
    from companion.stages.answers import Answers

VERSION = 1
"""Raised by hand when the same settings ask or keep something else (tests/test_versions.py)."""


WORDS = ["prompt", "gold", "answer", "token_ids"]
"""The columns of samples.parquet that take nine tenths of its room."""


def evaluate(
    profile: Profile,
    policy: Path,
    label: str,
    split: str = "test",
    engine: str | None = None,
    *,
    words: bool = True,
) -> runs.Run:
    """Sample `policy` on the five suites and the out-of-distribution one; keep every sample.

    The run's folder gets samples.parquet (one row a sample: suite, problem, sample, prompt, gold,
    answer, ended, tokens, token_ids, correct and what else the task's grader says) and, in
    run.json, the policy's token entropy in nats and the share of its answers that were cut at the
    token limit. It is published as it is; of those in 0.1.0 most lack gold and token_ids
    (results/README.md).

    Args:
        label: the row of Table 1 this policy is, such as "+DAPO w/ PR-FKL".
        split: "validation" to choose settings, "test" to report.
        engine: "transformers" or "vllm"; the profile's if None.
        words: keep WORDS; without them there is what pass@k needs, of many samples a problem.
    """
    engine = profile.evaluation.engine if engine is None else engine
    rows = _questions(profile, split)
    run = _run(profile, policy, label, split, engine, rows, words)
    if run.finished:
        return run
    with run.recording(data=tasks.source(profile, split)) as result:
        result["label"] = label
        result["token_entropy"] = asdict(token_entropy(policy, profile))
        if not (whole := run.folder / "samples.parquet").exists():
            samples = _sample(run, rows, profile, policy, engine)
            _write_samples(whole, samples if words else samples.drop(columns=WORDS))
            policies.release()
        result["cut"] = float(1 - pd.read_parquet(whole, columns=["ended"])["ended"].mean())
        for part in run.folder.glob("samples-*.parquet"):  # from which a failed run resumes
            part.unlink()
    return run


def evaluate_each(
    profile: Profile, by_label: Mapping[str, Path], split: str = "test", *, words: bool = True
) -> dict[str, runs.Run]:
    """`evaluate` for every policy, by its label; a bar counts those that are not finished."""
    engine, rows = profile.evaluation.engine, _questions(profile, split)
    made = {
        label: _run(profile, policy, label, split, engine, rows, words)
        for label, policy in by_label.items()
    }
    missing = [label for label, run in made.items() if not run.finished]
    for label in tqdm(missing, desc="evaluate", unit="policy", disable=not missing):
        evaluate(profile, by_label[label], label, split, words=words)
    return made


def _run(
    profile: Profile,
    policy: Path,
    label: str,
    split: str,
    engine: str,
    rows: pd.DataFrame,
    words: bool,
) -> runs.Run:
    settings = {
        "split": split,
        "seed": profile.seed,
        "label": label,
        "data": _hash(rows),
        **profile.evaluation.model_dump(exclude={"bootstrap"}),
        "engine": engine,
        "evaluate_version": VERSION,
        "grader_version": tasks.of(profile.task.name).GRADER_VERSION,
        **tasks.grader(profile),
        "sampler_version": engines.VERSIONS[engine],
        **measure(profile),
    } | ({} if words else {"words": False})
    return runs.open_run(
        profile,
        "evaluate",
        f"{runs.slug(label)}-{split}-seed{profile.seed}",
        settings,
        {"policy": policies.check_policy(policy)},
    )


def _hash(rows: pd.DataFrame) -> str:
    """Of all that is asked: a corrected gold, or a problem of another suite, is another evaluation."""
    asked = rows.loc[rows["sample"] == 0, ["suite", "problem", "prompt", "gold"]]
    return hashes.text_hash(json.dumps(row) for row in asked.to_numpy().tolist())


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
    """The rows with the policy's answers; suites of an earlier try are reused.

    Adds answer, ended, tokens (their number), token_ids, and what `tasks.judge` says.
    """
    settings = profile.evaluation
    suites = dict(iter(rows.groupby("suite", sort=False)))
    parts = {suite: run.folder / f"samples-{runs.slug(suite)}.parquet" for suite in suites}
    missing = [
        suites[suite]
        for suite, part in parts.items()
        if not (part.exists() and outputs.opens(part))
    ]
    if missing:
        with opened(policy, profile, engine) as sampler:
            for asked in _together(missing):
                answers = sampler(
                    asked["prompt"].tolist(),
                    max_new_tokens=settings.max_new_tokens,
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    seed=profile.seed,
                    first=int(asked.index[0]),
                )
                judged = _judged(asked, answers, profile)
                for suite, samples in judged.groupby("suite", sort=False):
                    _write_samples(parts[suite], samples)
    return pd.concat(map(pd.read_parquet, parts.values()), ignore_index=True)


def _together(suites: list[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Small suites that follow each other, as many as are answered at a time: six of 80 answers each
    take half as long again one by one."""
    batch: list[pd.DataFrame] = []
    for asked in suites:
        follows = batch and batch[-1].index[-1] + 1 == asked.index[0]
        if batch and not (follows and sum(map(len, batch)) + len(asked) <= ROWS):
            yield pd.concat(batch)
            batch = []
        batch.append(asked)
    if batch:
        yield pd.concat(batch)


def _judged(asked: pd.DataFrame, answers: Answers, profile: Profile) -> pd.DataFrame:
    verdicts = tasks.judge(profile, answers.texts, asked["gold"].tolist())
    return asked.assign(
        prompt=asked["prompt"].map(policies.as_text),
        answer=answers.texts,
        ended=answers.ended,
        tokens=[len(tokens) for tokens in answers.tokens],
        token_ids=answers.tokens,
        **{name: verdicts[name].to_numpy() for name in verdicts},
    )


def _write_samples(path: Path, samples: pd.DataFrame) -> None:
    partial = path.with_suffix(".partial")
    # Half of the default's size, token ids included: small enough to be published as it is.
    samples.to_parquet(partial, index=False, compression="zstd", compression_level=12)
    partial.replace(path)


def as_asked(policy: Path, profile: Profile) -> str:
    """The first validation problem as the policy reads it, in training and in evaluation alike."""
    messages = policies.as_messages(tasks.first_of_each(profile, "validation")[0].prompt)
    return policies.load_tokenizer(policy).apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def disagreements(samples: pd.DataFrame) -> pd.DataFrame:
    """Where a task's two graders differ: gold, stated, correct, math_dapo, count; maybe empty."""
    from companion.tasks import grading

    if "math_dapo" not in samples:  # the task has one rule
        return pd.DataFrame(columns=["gold", "stated", "correct", "math_dapo", "count"])
    return grading.disagreements(samples)


def examples(policy: Path, profile: Profile) -> str:
    """One T = 1 answer to the first validation problem of every suite, with its verdict."""
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
        f"{question.suite}: {policies.as_text(question.prompt)}  "
        f"({'right' if right else 'wrong'}, {len(tokens)} tokens)\n"
        + "\n".join(f"    {line.strip()}" for line in text.split("\n"))
        for question, right, text, tokens in zip(
            asked, verdicts["correct"], answers.texts, answers.tokens, strict=True
        )
    )
