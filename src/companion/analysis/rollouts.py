"""Rollouts on held-out prompts, and what a policy makes of every token of given answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from companion import runs
from companion.evaluate import SUITES
from companion.params import Profile
from companion.sampling import encode_prompts, load_policy, sample
from companion.tasks import countdown


@dataclass(frozen=True)
class Rollouts:
    """Sampled answers, `samples` in a row to each prompt."""

    prompts: list[list[int]]
    """Token ids, one entry an answer."""
    answers: list[list[int]]
    """Token ids, the end token included."""
    log_probs: list[list[float]]
    """Nats, at the temperature they were sampled at."""
    samples: int

    @property
    def prompt(self) -> list[int]:
        """The number of each answer's prompt."""
        return [row // self.samples for row in range(len(self.answers))]


def asked(profile: Profile) -> list[str]:
    """The test prompts of the analyses: `analysis.problems` in equal parts of the suites."""
    each = -(-profile.analysis.problems // len(SUITES))
    problems = [p for suite in SUITES for p in countdown.problems("test", suite, each)]
    return [countdown.prompt(problem) for problem in problems[: profile.analysis.problems]]


def settings(profile: Profile) -> dict[str, object]:
    """What rollouts depend on beside the policy, for a run's fingerprint."""
    return {
        "data": runs.text_hash(asked(profile)), "samples": profile.analysis.samples,
        "max_new_tokens": profile.evaluation.max_new_tokens,
    }


def roll_out(
    profile: Profile, policy: Path, *, samples: int | None = None, greedy: bool = False
) -> Rollouts:
    """`samples` answers to every prompt at T = 1 (the profile's number if None), or greedy ones."""
    count = 1 if greedy else samples or profile.analysis.samples
    model, tokenizer = load_policy(policy)
    prompts = [p for p in encode_prompts(tokenizer, asked(profile)) for _ in range(count)]
    answers = sample(
        model, prompts, end_token=tokenizer.eos_token_id, seed=profile.seed,
        max_new_tokens=profile.evaluation.max_new_tokens, temperature=1.0,
        top_p=1e-9 if greedy else 1.0,  # nothing but the likeliest token
    )
    return Rollouts(prompts, answers.tokens, answers.log_probs, count)


@torch.inference_mode()
def read(
    policy: Path, rollouts: Rollouts, *, hidden: bool = False, batch: int = 64
) -> Iterator[tuple[Tensor, Tensor | None, list[int]]]:
    """The policy's view of every answer token, a batch of answers at a time.

    Yields:
        logits [tokens, V] that predict the batch's answer tokens, in order and without padding;
        the hidden states behind them [layers + 1, tokens, d] (embeddings first, after the final
        norm last) or None; and the number of each token's answer.
    """
    model, _ = load_policy(policy)
    for first in range(0, len(rollouts.answers), batch):
        rows = range(first, min(first + batch, len(rollouts.answers)))
        inputs, mask, predicts = padded(
            [rollouts.prompts[i] for i in rows], [rollouts.answers[i] for i in rows]
        )
        output = model(inputs, attention_mask=mask, output_hidden_states=hidden)
        states = torch.stack([h[predicts] for h in output.hidden_states]) if hidden else None
        yield output.logits[predicts].float(), states, [i for i in rows for _ in rollouts.answers[i]]


def padded(
    prompts: Sequence[list[int]], answers: Sequence[list[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and the places that predict an answer token, [rows, width]."""
    width = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    inputs = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    predicts = torch.zeros(len(prompts), width, dtype=torch.bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer)
        inputs[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        predicts[row, len(prompt) - 1 : end - 1] = True
    return inputs, mask, predicts
