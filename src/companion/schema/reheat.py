"""Reheating with ms-swift, and its rival without training."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from companion.schema.values import Section, Strength, Temperature, check_tau

Teacher = Literal["live", "frozen"]
"""Whose logits reheating softens: see `Reheat.teacher`."""


class Reheat(Section):
    """ms-swift GKD (Table 4)."""

    tau: Temperature
    optimizer: Literal["adamw", "sgd"]
    """The method's is AdamW; plain SGD shows the gradients' scale, which AdamW cancels (Fig. 7)."""
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    adam_beta2: PositiveFloat = Field(lt=1)
    gradient_clip: PositiveFloat
    batch_size: PositiveInt
    """On-policy rollouts an update."""
    micro_batch_size: PositiveInt
    max_completion_tokens: PositiveInt
    recovery_entropy: PositiveFloat | None
    """Stop at the first checkpoint whose mean token entropy (nats) reaches this; None: never."""
    ceiling_entropy: PositiveFloat | None
    """Give up before divergence (App. D), once a checkpoint is above this many nats; None: never."""
    max_steps: PositiveInt
    check_every: PositiveInt
    """Updates between two saved and measured checkpoints."""
    keep_checkpoints: bool
    """Keep every checkpoint, for the analyses of the path, or only the last ones."""
    through_head: bool = False
    """Make logits, KL and gradient in pieces, from hidden states: for vocabularies whose logits
    of a micro-batch would not fit. The same numbers, to rounding."""
    swift: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of ms-swift by their names, such as report_to: tensorboard; none that this
    profile has a field for."""
    teacher: Teacher = "live"
    """Whose logits are softened: the student's own as it moves (the paper's), or, frozen, those of
    the policy that reheating starts from, by a second forward. A frozen teacher has a fixed point,
    the policy scaled by tau."""

    @model_validator(mode="after")
    def _check(self) -> Reheat:
        check_tau(self.tau)
        ceiling, recovery = self.ceiling_entropy, self.recovery_entropy
        if ceiling and recovery and ceiling <= recovery:
            raise ValueError(
                f"ceiling_entropy is {ceiling} and must lie above recovery_entropy ({recovery})"
            )
        return self


class Frozen(Section):
    """The arm whose teacher stands still: what differs from `Reheat`.

    Its fixed point is the policy scaled by tau, whose entropy must lie above
    `reheat.recovery_entropy` for the stop to be reached."""

    tau: Temperature = 1.3
    learning_rate: PositiveFloat | None = None
    """None: `reheat`'s. A target that stands still bears a larger one."""

    @model_validator(mode="after")
    def _check(self) -> Frozen:
        check_tau(self.tau)
        return self


class Merge(Section):
    """Weights between the collapsed policy's and the base's, a rival to reheating."""

    strength: Strength = 0.4
    """The base's share. Chosen on validation problems: at 0.3 what RL never saw is lost again after
    a hundred steps (docs/lab-log.md)."""
