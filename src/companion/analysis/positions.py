"""Three token positions of a policy's likeliest answers: sharp, middling, hesitant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from companion import hashes, objective
from companion.analysis import measure
from companion.policies import as_text, load_tokenizer
from companion.runs import Run
from companion.schema import Profile
from companion.stages.answers import VERSIONS
from companion.stages.engines import opened
from companion.stages.entropy import entropy_prompts
from companion.stages.reading import read, rollouts_of

PROMPTS = 20
"""How many of the entropy measure's prompts are answered to find the positions in."""
SOUGHT: dict[str, Callable[[Tensor], Tensor]] = {
    "sharp": lambda logits: (_likeliest(logits) - 0.99).abs(),
    "middling": lambda logits: (_likeliest(logits) - 0.9).abs(),
    "hesitant": lambda logits: -objective.entropy(logits),
}
"""By name, of logits [positions, V] what is least at the position meant: [positions]."""


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


def find(profile: Profile, policy: Path) -> Run:
    """The position where the policy hesitates most, and those nearest to a probability of 0.9 and 0.99.

    In one answer to each of PROMPTS validation prompts (T = 1, top-p 0.01: the likeliest path).

    Measurements: a row a position and token of the vocabulary: name (of SOUGHT), prompt, so_far
    (the answer before it), token (as text), logit (fp32).
    """

    def compute() -> pd.DataFrame:
        asked, tokenizer = entropy_prompts(profile)[:PROMPTS], load_tokenizer(policy)
        with opened(policy, profile) as sampler:
            answers = sampler(
                asked,
                max_new_tokens=profile.evaluation.max_new_tokens,
                temperature=1.0,
                top_p=0.01,
                seed=0,
            )
        rollouts = rollouts_of(policy, asked, answers)
        places = [(i, n) for i, row in enumerate(rollouts.answers) for n in range(len(row))]
        found, seen = dict[str, tuple[float, tuple[int, int], Tensor]](), 0
        for logits, _, answer in read(policy, rollouts):
            for name, badness in SOUGHT.items():
                values = badness(logits)
                best = int(values.argmin())
                if name not in found or float(values[best]) < found[name][0]:
                    here = float(values[best]), places[seen + best], logits[best].cpu()
                    found[name] = here
            seen += len(answer)
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "name": name,
                        "prompt": as_text(asked[i]),
                        "so_far": tokenizer.decode(rollouts.answers[i][:n]),
                        "token": tokenizer.convert_ids_to_tokens(range(len(logits))),
                        "logit": logits.numpy(),
                    }
                )
                for name, (_, (i, n), logits) in found.items()
            ],
            ignore_index=True,
        )

    engine = profile.evaluation.engine
    asked = {
        "data": hashes.text_hash(map(as_text, entropy_prompts(profile)[:PROMPTS])),
        "max_new_tokens": profile.evaluation.max_new_tokens,
        "engine": engine,
        "platform": profile.hardware.platform,
        "sampler_version": VERSIONS[engine],
        "objective_version": objective.VERSION,
    }
    return measure.measured(profile, "positions", asked, {"policy": policy}, compute)


def of(run: Run) -> dict[str, Position]:
    """What `find` found, by the names of SOUGHT."""
    return {
        str(name): Position(
            rows["prompt"].iloc[0],
            rows["so_far"].iloc[0],
            rows["logit"].to_numpy(copy=True),  # torch warns of one that cannot be written
            rows["token"].tolist(),
        )
        for name, rows in measure.table(run).groupby("name", sort=False)
    }


def _likeliest(logits: Tensor) -> Tensor:
    """The probability of the likeliest token. [positions, V] -> [positions]"""
    return objective.log_probs(logits).max(-1).values.exp()
