"""Rollouts on held-out prompts: what the analyses ask, and the policy's answers."""

from __future__ import annotations

from pathlib import Path

from companion import hashes, tasks
from companion.policies import Prompt, as_text
from companion.schema import Profile
from companion.stages.answers import VERSIONS
from companion.stages.engines import opened
from companion.stages.reading import Rollouts, rollouts_of


def asked(profile: Profile) -> list[Prompt]:
    """The test prompts of the analyses: `analysis.problems` in equal parts of the suites."""
    return [q.prompt for q in tasks.mixed(profile, "test", profile.analysis.problems)]


def settings(profile: Profile) -> dict[str, object]:
    """What rollouts depend on beside policy and seed, for a run's fingerprint."""
    return {
        "data": hashes.text_hash(map(as_text, asked(profile))),
        "samples": profile.analysis.samples,
        "max_new_tokens": profile.evaluation.max_new_tokens,
        "engine": profile.evaluation.engine,
        "platform": profile.hardware.platform,
        "sampler_version": VERSIONS[profile.evaluation.engine],
    }


def roll_out(profile: Profile, policy: Path, *, greedy: bool = False) -> Rollouts:
    """`analysis.samples` answers to every prompt at T = 1, or one greedy answer."""
    count = 1 if greedy else profile.analysis.samples
    prompts = [prompt for prompt in asked(profile) for _ in range(count)]
    with opened(policy, profile) as sampler:
        answers = sampler(
            prompts,
            max_new_tokens=profile.evaluation.max_new_tokens,
            temperature=1.0,
            top_p=1e-9 if greedy else 1.0,  # nothing but the likeliest token
            seed=profile.seed,
        )
    return rollouts_of(policy, prompts, answers, count)
