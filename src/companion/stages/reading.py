"""What a policy makes of every token of given answers: logits and hidden states, without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from companion.policies import Prompt, encode_prompts, load_policy, load_tokenizer
from companion.stages.answers import Answers

BATCH_TOKENS = 8192
"""Tokens that a policy reads at a time, padding included."""


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


def rollouts_of(
    policy: Path, prompts: Sequence[Prompt], answers: Answers, samples: int = 1
) -> Rollouts:
    """Answers to user messages as rollouts of the policy, whose tokenizer encodes the prompts."""
    tokenizer = load_tokenizer(policy)
    return Rollouts(encode_prompts(tokenizer, prompts), answers.tokens, answers.log_probs, samples)


@torch.inference_mode()
def read(
    policy: Path, rollouts: Rollouts, *, hidden: bool = False
) -> Iterator[tuple[Tensor, Tensor | None, list[int]]]:
    """The policy's view of every answer token, a batch of answers at a time.

    The output head is applied in fp32, and at these tokens alone, even where the policy computes in
    bf16, whose logits are spaced by a tenth of a nat. What a family makes of the head's logits
    (a cap, a scale) is the model's own.

    Yields:
        logits [tokens, V] in fp32 that predict the batch's answer tokens, in order and without
        padding; the hidden states behind them [layers + 1, tokens, d] (embeddings first, after
        the final norm last) or None; and the number of each token's answer.
    """
    model, _ = load_policy(policy)
    head = model.get_output_embeddings()
    weight, bias = head.weight.float(), None if head.bias is None else head.bias.float()
    for rows, inputs, mask, predicts in batches(rollouts, model.device):

        def chosen(states: Tensor, predicts: Tensor = predicts) -> Tensor:
            return torch.nn.functional.linear(states[predicts].float(), weight, bias)

        with answering(head, chosen):
            output = model(inputs, attention_mask=mask, output_hidden_states=hidden)
        logits = output.logits
        states = torch.stack([h[predicts] for h in output.hidden_states]) if hidden else None
        yield logits, states, [i for i in rows for _ in rollouts.answers[i]]


@contextmanager
def answering(head: torch.nn.Module, forward: Callable[[Tensor], Any]) -> Iterator[None]:
    """Within it the forward pass of a policy's output head is another: what follows the head stays."""
    head.forward = forward
    try:
        yield
    finally:
        del head.forward


def batches(
    rollouts: Rollouts, device: torch.device
) -> Iterator[tuple[range, Tensor, Tensor, Tensor]]:
    """Answers in order behind their prompts, as many at a time as BATCH_TOKENS hold, at least one.

    Yields:
        the answers' numbers; and on `device`, [rows, width] each and padded on the right: token
        ids and attention mask (int64), and the places that predict an answer token (bool).
    """
    for rows in _rows(rollouts):
        parts = _padded([rollouts.prompts[i] for i in rows], [rollouts.answers[i] for i in rows])
        inputs, mask, predicts = (part.to(device) for part in parts)
        yield rows, inputs, mask, predicts


def _rows(rollouts: Rollouts) -> Iterator[range]:
    """The answers of each batch, by number."""
    start, width = 0, 0
    for i, (prompt, answer) in enumerate(zip(rollouts.prompts, rollouts.answers, strict=True)):
        wider = max(width, len(prompt) + len(answer))
        if i > start and wider * (i + 1 - start) > BATCH_TOKENS:
            yield range(start, i)
            start, wider = i, len(prompt) + len(answer)
        width = wider
    if start < len(rollouts.answers):
        yield range(start, len(rollouts.answers))


def _padded(
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
