"""A sampler by name: through transformers in this process, or through vLLM in one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from companion.schema import Profile
from companion.stages.answers import Sampler


@contextmanager
def opened(policy: Path, profile: Profile, engine: str | None = None) -> Iterator[Sampler]:
    """A sampler for the policy in a Hugging Face folder, by the profile's engine or another one."""
    # Only here, since transformers takes half of what a process imports, and who draws or asks for
    # what is finished needs no policy.
    if (engine or profile.evaluation.engine) == "vllm":
        from companion.stages import vllm_engine

        with vllm_engine.opened(policy, profile.hardware) as sampler:
            yield sampler
    else:
        from companion.stages import sampling

        yield sampling.sampler(policy)
