"""A sampler by name: through transformers in this process, or through vLLM in one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from companion.schema import Profile
from companion.stages import sampling, vllm_engine
from companion.stages.answers import Sampler


@contextmanager
def opened(policy: Path, profile: Profile, engine: str | None = None) -> Iterator[Sampler]:
    """A sampler for the policy in a Hugging Face folder, by the profile's engine or another one."""
    if (engine or profile.evaluation.engine) == "vllm":
        with vllm_engine.opened(policy, profile.hardware) as sampler:
            yield sampler
    else:
        yield sampling.sampler(policy)
