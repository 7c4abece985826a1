"""Output distributions at single token positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from companion.evaluate import entropy_prompts
from companion.params import Profile


@dataclass(frozen=True)
class Position:
    """One token position of one answer."""

    prompt: str
    answer_so_far: str
    logits: np.ndarray
    """[V], float32."""
    tokens: list[str]
    """The vocabulary, as text, [V]."""

    def __str__(self) -> str:
        return f"prompt  {self.prompt}\nanswer  {self.answer_so_far} …"


def hesitation(policy: Path, profile: Profile, prompts: int = 20) -> Position:
    """The position with the highest entropy in the policy's greedy-most answers.

    Looks at one answer for each of the first validation prompts (T = 1, top-p 0.01, so that
    the path is the likeliest one).
    """
    import torch

    from companion.sampling import encode_prompts, load_policy, sample

    model, tokenizer = load_policy(policy)
    asked = entropy_prompts(profile)[:prompts]
    encoded = encode_prompts(tokenizer, asked)
    answers = sample(
        model, encoded, end_token=tokenizer.eos_token_id,
        max_new_tokens=profile.evaluation.max_new_tokens, temperature=1.0, top_p=0.01, seed=0,
    )
    row = int(np.argmax([max(entropies) for entropies in answers.entropies]))
    step = int(np.argmax(answers.entropies[row]))
    before = answers.tokens[row][:step]
    with torch.inference_mode():
        logits = model(torch.tensor([encoded[row] + before])).logits[0, -1].float()
    return Position(
        asked[row], tokenizer.decode(before), logits.numpy(),
        tokenizer.convert_ids_to_tokens(range(len(logits))),
    )
