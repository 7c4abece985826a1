"""Sampling from a policy through transformers, batched with a KV cache.

This sampler is also verl's rollout server on CPU, so that one piece of code decides
what is sampled. On two cores it is several times faster than vLLM's CPU build for a policy of a
million parameters (no start-up, all answers in one batch).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from companion.policies import Prompt, encode_prompts, end_tokens, load_policy
from companion.stages.answers import ROWS, Answers, Sampler


def sampler(policy: Path) -> Sampler:
    """Answers of the policy in a Hugging Face folder, which is loaded once."""
    model, tokenizer = load_policy(policy)
    ends = end_tokens(policy)

    def answer(prompts: Sequence[Prompt], **settings: Any) -> Answers:
        answers = sample(model, encode_prompts(tokenizer, prompts), end_tokens=ends, **settings)
        answers.texts = tokenizer.batch_decode(answers.tokens, skip_special_tokens=True)
        return answers

    return answer


def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    end_tokens: Collection[int],
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    first: int = 0,
) -> Answers:
    """One answer a prompt (repeat a prompt for more), sampled in batches.

    Every prompt draws its uniforms from its own row of a [prompts, max_new_tokens] table, so
    that its answer does not depend on its neighbours.

    Args:
        prompts: token ids, of any lengths (padded on the left).
        max_new_tokens: tokens an answer may have, its end token included.
        top_p: keep the smallest set of tokens whose probability reaches this.
        first: the row of the first prompt in that table, for a batch that is split over ranks.
    """
    uniforms = torch.rand(
        first + len(prompts),
        max_new_tokens,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )[first:]
    answers = Answers([], [], [], [])
    for start in range(0, len(prompts), ROWS):
        rows = slice(start, start + ROWS)
        _sample(model, prompts[rows], uniforms[rows], end_tokens, temperature, top_p, answers)
    return answers


@torch.inference_mode()
def _sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    uniforms: torch.Tensor,
    end_tokens: Collection[int],
    temperature: float,
    top_p: float,
    answers: Answers,
) -> None:
    """Add one answer to each prompt, sampled as one batch."""
    device = model.device
    ends = torch.tensor(sorted(end_tokens), device=device)
    count, max_new_tokens = uniforms.shape
    uniforms = uniforms.to(device)
    # The answers to one prompt share its reading.
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(map(tuple, prompts)))}
    which = torch.tensor([places[tuple(prompt)] for prompt in prompts], device=device)
    width = max(map(len, places))
    inputs = torch.full((len(places), width), min(end_tokens))
    mask = torch.zeros(len(places), width, dtype=torch.long)
    for row, prompt in enumerate(places):
        inputs[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    inputs, mask = inputs.to(device), mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    padded = not bool(mask.all())
    cache = DynamicCache(config=model.config)
    cache.layers = [_Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]

    def logits() -> torch.Tensor:
        """Of the next token, after `inputs`. [rows, vocabulary]"""
        read = model(
            input_ids=inputs,
            attention_mask=mask if padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return read.logits[:, -1].float()

    tokens = torch.full((count, max_new_tokens), -1, device=device)
    log_probs = torch.zeros(count, max_new_tokens, device=device)
    entropies = torch.zeros(count, max_new_tokens, device=device)
    drawn_entropies = entropies if temperature == 1 else torch.zeros_like(entropies)
    active = torch.arange(count, device=device)
    going = torch.ones(count, dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        following = logits()
        if step == 0:  # from a row a prompt to a row an answer
            cache.batch_select_indices(which)
            following, positions, mask = following[which], positions[which], mask[which]
        log_p = torch.log_softmax(following, -1)
        entropies[active, step] = _entropy(log_p)
        if temperature != 1:
            log_p = torch.log_softmax(following / temperature, -1)
            drawn_entropies[active, step] = _entropy(log_p)
        drawn = _draw(log_p.exp(), top_p, uniforms[active, step])
        tokens[active, step] = drawn
        log_probs[active, step] = log_p.gather(-1, drawn[:, None])[:, 0]

        going &= ~torch.isin(drawn, ends)
        if not going.any():
            break
        inputs, positions = drawn[:, None], positions[:, -1:] + 1
        if padded:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], -1)
        # Dropping ended rows pays once an eighth of the batch is idle: it copies the cache.
        if going.sum() <= len(going) * 7 // 8:
            keep = going.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            active, inputs, positions, mask, going = (
                rows[keep] for rows in (active, inputs, positions, mask, going)
            )
    _collect(tokens, log_probs, entropies, drawn_entropies, end_tokens, answers)


class _Roomy(DynamicLayer):
    """A layer's cache that grows by blocks: a token is written, and the cache seldom copied for it."""

    BLOCK = 8

    def update(self, key_states, value_states, *_, **__):
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
            self.room = self.keys, self.values
        begin = self.keys.shape[-2]
        end = begin + key_states.shape[-2]
        if end > self.room[0].shape[-2]:
            self.room = self._more(self.keys, end), self._more(self.values, end)
        for room, states in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, begin:end] = states
        self.keys, self.values = (room[:, :, :end] for room in self.room)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self.room = self.keys, self.values

    def _more(self, states: torch.Tensor, length: int) -> torch.Tensor:
        rows, heads, now, width = states.shape
        room = states.new_empty(rows, heads, length + self.BLOCK, width)
        room[:, :, :now] = states
        return room


def _entropy(log_p: torch.Tensor) -> torch.Tensor:
    """Nats; log_p [rows, vocabulary] -> [rows]."""
    return -(log_p.exp() * log_p.nan_to_num(neginf=0.0)).sum(-1)


def _draw(probs: torch.Tensor, top_p: float, uniform: torch.Tensor) -> torch.Tensor:
    """Inverse-transform draws. probs [rows, vocabulary], uniform [rows] -> token ids [rows]."""
    if top_p < 1:
        ordered, index = probs.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= top_p, 0.0)
    else:
        ordered, index = probs, None
    total = ordered.double().cumsum(-1)
    # Below the total, should rounding carry the draw past the last token with any probability.
    below = torch.nextafter(total[:, -1], torch.zeros_like(total[:, -1]))
    drawn = torch.searchsorted(total, (uniform * total[:, -1]).minimum(below)[:, None], right=True)[
        :, 0
    ]
    return drawn if index is None else index.gather(-1, drawn[:, None])[:, 0]


def _collect(
    tokens: torch.Tensor,
    log_probs: torch.Tensor,
    entropies: torch.Tensor,
    drawn_entropies: torch.Tensor,
    end_tokens: Collection[int],
    answers: Answers,
) -> None:
    columns = (tokens, log_probs, entropies, drawn_entropies)
    for row, log_p, entropy, drawn in zip(*(x.tolist() for x in columns), strict=True):
        end = next((at for at, token in enumerate(row) if token in end_tokens), None)
        ended, length = end is not None, len(row) if end is None else end + 1
        answers.tokens.append(row[:length])
        answers.log_probs.append(log_p[:length])
        answers.entropies.append(entropy[:length])
        answers.drawn_entropies.append(drawn[:length])
        answers.ended.append(ended)
