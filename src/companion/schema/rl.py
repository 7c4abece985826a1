"""RL with verl: to collapse, and from there on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from companion.schema.values import Section, Temperature


class Collapse(Section):
    """When RL counts as collapsed (§4.1)."""

    entropy: PositiveFloat
    """Collapsed once the mean token entropy falls below this many nats."""
    check_every: PositiveInt
    """RL steps between two saved and measured checkpoints."""
    max_steps: PositiveInt


Arm = Literal[
    "+DAPO",
    "+DAPO w/ RR",
    "+DAPO w/ PR-RKL",
    "+DAPO w/ PR-FKL",
    "+DAPO w/ PR-scale",
    "+DAPO w/ PR-scale*",
    "+DAPO w/ PR-FKL frozen",
    "+DAPO w/ merge",
    "+DAPO w/ merge*",
    "+DAPO, equal tokens",
    "+DAPO, optimizer kept",
]
"""RL resumed from the collapsed policy, by its row of Table 1, in the paper's order.

From PR-scale on they are ours: controls, rivals, and the optimizer of the run to collapse taken over.
"""


RewardRule = Literal["answer-line", "answer-line-or-box"]
r"""Where RL looks for a mathematics answer, in its last 300 characters, by verl's `math_dapo`.

answer-line: after the last "Answer:", which DAPO's prompt asks for; the rule of verl up to 0.9.0,
and so of the paper's time. answer-line-or-box: verl 0.9.1's, which without any "Answer:" takes the
last \boxed{} of the last 100 characters.
"""


class RL(Section):
    """verl DAPO (Table 3)."""

    learning_rate: PositiveFloat
    warmup_steps: NonNegativeInt
    weight_decay: NonNegativeFloat
    batch_size: PositiveInt
    """Prompts a step."""
    responses_per_prompt: PositiveInt
    mini_batch_size: PositiveInt
    clip_low: PositiveFloat
    clip_high: PositiveFloat
    clip_c: PositiveFloat
    gradient_clip: PositiveFloat
    entropy_coeff: NonNegativeFloat = 0.0
    """verl's entropy bonus: this times the mean token entropy is added to the objective; 0: none."""
    max_response_tokens: PositiveInt
    overlong_buffer_tokens: NonNegativeInt
    overlong_penalty: NonNegativeFloat
    rollout_temperature: Temperature
    rollout_top_p: PositiveFloat = Field(le=1)
    rollout_engine: Literal["transformers", "vllm"]
    dynamic_sampling: bool
    importance_cap: PositiveFloat | None = None
    """Truncated importance sampling, on GPUs: each token's gradient times p_trainer / p_vLLM, at most
    this much (verl's documentation: 2 to 5). None: vLLM's bf16 answers count as the trainer's own."""
    reward_rule: RewardRule = "answer-line"
    """What the reward of mathematics takes for the answer; of no effect on other tasks."""
    collapse: Collapse
    continued_steps: PositiveInt
    """RL steps of every arm that branches from the collapsed policy."""
    evaluated_checkpoints: PositiveInt = 1
    """An arm's last checkpoints that are evaluated; its accuracy is their mean."""
    evaluated_every: PositiveInt = 50
    """RL steps between two of them."""
    rr_temperature: Temperature
    """Rollout temperature of the rollout-reheating arm (RR)."""
    verl: dict[str, Any] = Field(default_factory=dict)
    """Further settings of verl by their dotted names, such as trainer.logger: [console, file, wandb];
    none that this profile has a field for."""
    arms: list[Arm]
    """What is continued from the collapsed policy; plain DAPO, which all are compared with, leads."""

    @model_validator(mode="after")
    def _check(self) -> RL:
        unique = len(set(self.arms)) == len(self.arms)
        if self.arms[:1] != ["+DAPO"] or "+DAPO w/ PR-FKL" not in self.arms or not unique:
            raise ValueError(
                f"arms is {self.arms} and must begin with '+DAPO', hold '+DAPO w/ PR-FKL', the "
                "method, and name every arm once"
            )
        return self
