"""The one measure behind collapse, gate and stop: mean token entropy of a saved checkpoint, in nats."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from companion import hashes, tasks
from companion.policies import Prompt, as_text
from companion.schema import Profile
from companion.stages import keeper
from companion.stages.answers import VERSIONS
from companion.stages.engines import opened
from companion.stages.log_end import log_end
from companion.statistics import Estimate, ratio_of_sums

if TYPE_CHECKING:
    from companion.stages.answers import Answers

VERSION = 1
"""Raised by hand when the same policy is measured otherwise (tests/test_versions.py)."""
ENGINES = {"cpu": "transformers", "gpu": "vllm"}
"""What samples the measure's answers, by platform."""
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
    the end token, so long answers weigh more; the interval resamples prompts. Answers end where RL
    would cut them (`rl.max_response_tokens`), however long an evaluation lets them be.

    On GPUs vLLM samples, and it is measured in a process of its own, which frees them when it
    ends: no trainer and no notebook must keep any.
    """
    if profile.hardware.platform == "cpu":
        return measure_here(policy, profile)
    own = {name: value for name, value in os.environ.items() if not name.startswith(RANKS)}
    child = subprocess.run(
        [sys.executable, "-m", __name__, str(policy), profile.model_dump_json(), str(os.getpid())],
        env=own,
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise RuntimeError(
            f"the token entropy of {policy.name} could not be measured:\n{log_end(child.stderr)}"
        )
    return Estimate(**json.loads(child.stdout.splitlines()[-1]))


def measure_here(policy: Path, profile: Profile) -> Estimate:
    """`token_entropy` in this process."""
    prompts = entropy_prompts(profile)
    with opened(policy, profile, ENGINES[profile.hardware.platform]) as sampler:
        answers = sampler(
            prompts,
            max_new_tokens=profile.rl.max_response_tokens,
            temperature=1.0,
            top_p=1.0,
            seed=ENTROPY_SEED,
        )
    sums = np.array([sum(row) for row in token_entropies(policy, prompts, answers)])
    measured = ratio_of_sums(sums, np.array([len(row) for row in answers.tokens], dtype=float))
    if not math.isfinite(measured.value):
        raise ValueError(
            f"the mean token entropy of the policy in '{policy.name}' is {measured.value} nats, since "
            "its logits overflow; restore it, or lower the learning rate that made it"
        )
    return measured


def token_entropies(policy: Path, prompts: list[Prompt], answers: Answers) -> list[list[float]]:
    """Of each answer's tokens, in nats at T = 1; read again where the engine reports none."""
    if answers.entropies:
        return answers.entropies
    from companion import objective
    from companion.stages.reading import read, rollouts_of

    found: list[list[float]] = [[] for _ in prompts]
    for logits, _, rows in read(policy, rollouts_of(policy, prompts, answers)):
        for row, entropy in zip(rows, objective.entropy(logits).tolist(), strict=True):
            found[row].append(entropy)
    return found


def measure(profile: Profile) -> dict[str, object]:
    """What `token_entropy` depends on beside the policy, for a run's fingerprint."""
    platform = profile.hardware.platform
    return {
        "platform": platform,
        "entropy_data": hashes.text_hash(map(as_text, entropy_prompts(profile))),
        "entropy_tokens": profile.rl.max_response_tokens,
        "entropy_version": VERSION,
        "entropy_sampler_version": VERSIONS[ENGINES[platform]],
    }


def entropy_row(measured: Estimate) -> dict[str, float]:
    """The measure as columns of metrics.jsonl, in nats: token_entropy and its interval."""
    return {
        "token_entropy": measured.value,
        "entropy_low": measured.low,
        "entropy_high": measured.high,
    }


def entropy_prompts(profile: Profile) -> list[Prompt]:
    """The fixed validation prompts of the entropy measure."""
    asked = tasks.mixed(profile, "validation", profile.entropy.prompts)
    return [question.prompt for question in asked]


if __name__ == "__main__":
    keeper.end_with(int(sys.argv[3]))  # nobody else would hear the number, nor free the GPUs
    print(
        json.dumps(
            asdict(measure_here(Path(sys.argv[1]), Profile.model_validate_json(sys.argv[2])))
        )
    )
