"""What is measured of policies, and the runs that the analyses add."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from companion.schema.rl import Arm
from companion.schema.values import Section, Strength, Temperature, check_tau


class Entropy(Section):
    """The one measure that decides collapse, gate and stop."""

    prompts: PositiveInt
    """Validation prompts, one T = 1 sample each."""


class Evaluation(Section):
    """Sampling of the held-out suites (Table 5)."""

    samples: PositiveInt
    temperature: Temperature
    top_p: PositiveFloat = Field(le=1)
    max_new_tokens: PositiveInt
    engine: Literal["transformers", "vllm"]
    bootstrap: PositiveInt = 2000
    """Resamples behind each interval."""


class Analysis(Section):
    """What the notebooks after 04 look at, and the runs that they add."""

    problems: PositiveInt
    """Test prompts, in equal parts of the suites."""
    samples: PositiveInt
    """Answers to each, at T = 1."""
    checkpoints: PositiveInt = Field(ge=2)
    """Reheating checkpoints looked at, evenly spaced, the first and the last among them."""
    taus: list[Temperature]
    """Teacher temperatures compared (Fig. 8)."""
    cooling_tau: Temperature = Field(lt=1)
    """The sharpening teacher's temperature (App. E)."""
    sgd_learning_rate: PositiveFloat
    """Of the plain-SGD control (Fig. 7)."""
    base_steps: PositiveInt
    """Reheating steps on the policy before any RL (Fig. 9)."""
    long_batch_size: PositiveInt
    long_steps: PositiveInt
    """The long-horizon run, past the stop (App. D, Fig. 10)."""
    scarce_problems: PositiveInt
    """Training prompts of data-scarce RL (App. F, Fig. 13)."""
    scarce_steps: PositiveInt
    """RL steps on them before, and again after, the point where the arms part."""
    frontier_problems: PositiveInt = 50
    """Test problems a suite along the frontier (Fig. C), of `task.test_problems`."""
    frontier_samples: PositiveInt = 64
    """Answers to each: pass@k is measured up to this k."""
    frontier_taus: list[Temperature] = Field(default=[1.1, 1.2, 1.3, 1.4, 1.6], min_length=1)
    """Temperatures that the collapsed policy is scaled by."""
    frontier_strengths: list[Strength] = Field(default=[0.1, 0.2, 0.3, 0.4, 0.5], min_length=1)
    """Shares of the base's weights that it is merged with."""
    frontier_checkpoints: PositiveInt = 5
    """Checkpoints of reheating, by a live teacher and by a frozen one, evenly spaced up to the last."""
    rivals: list[Arm] = Field(default_factory=list)
    """Further arms, of the seeds whose analyses are made (Fig. D)."""
    entropy_bonuses: list[PositiveFloat] = Field(default_factory=list)
    """Coefficients of an entropy bonus from the base policy on, a run each (Fig. D)."""

    @model_validator(mode="after")
    def _check(self) -> Analysis:
        for tau in self.frontier_taus:
            check_tau(tau)
        return self
