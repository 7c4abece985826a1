"""What an engine gives: answers, and the call that gets them. Knows nothing of any engine."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from companion.policies import Prompt

VERSIONS = {"transformers": 1, "vllm": 1}
"""Of each engine's sampler (sampling.py, vllm_engine.py): raised by hand when the same call gives
answers of another kind (tests/test_versions.py). Part of the identity of whatever samples."""

ROWS = 256
"""Answers that transformers samples at a time: 1,200 of 55 tokens took 0.6 of the time in such batches
that they took in one, whose growing KV cache no processor cache holds."""


@dataclass
class Answers:
    """One entry a prompt, each a list over the answer's tokens (the end token included)."""

    tokens: list[list[int]]
    log_probs: list[list[float]]
    """Nats, under softmax(logits / temperature) over the full vocabulary (before top-p)."""
    entropies: list[list[float]]
    """Nats, of softmax(logits): always at temperature 1, whatever was sampled at. Empty from vLLM."""
    ended: list[bool]
    """False where the answer was cut at the token limit."""
    texts: list[str] = field(default_factory=list)
    """Decoded without special tokens; filled by a `Sampler`."""
    drawn_entropies: list[list[float]] = field(default_factory=list)
    """Nats, of what was drawn from, softmax(logits / temperature). Empty from vLLM."""


def cut(answer: Sequence[int], limit: int, end_tokens: Container[int]) -> bool:
    """Whether an answer was cut at `limit` tokens: it has so many and ends with no end token.

    The one meaning of `truncated` in every metrics.jsonl; our own sampler's `ended` is its opposite.
    """
    return len(answer) >= limit and answer[-1] not in end_tokens


class Sampler(Protocol):
    def __call__(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        seed: int,
        first: int = 0,
    ) -> Answers:
        """One answer to each prompt.

        Args:
            first: the number of the first prompt among all that share the seed: answers do not
                depend on how prompts are divided into calls.
        """
