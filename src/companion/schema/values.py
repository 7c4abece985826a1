"""What fields of a profile are made of: numbers within bounds, and sections that know their fields."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Temperature = Annotated[float, Field(ge=0.01, le=100)]
"""Below it logits overflow, and vLLM takes the likeliest token; above it nothing is left of them."""
Strength = Annotated[float, Field(gt=0, le=1)]
"""The base's share of a merged policy's weights."""
Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""numpy's and transformers' range."""


def check_tau(tau: float) -> float:
    """`tau` if it can reheat (> 1) or cool (< 1) a policy; ValueError otherwise."""
    if isinstance(tau, bool) or not isinstance(tau, int | float) or not tau > 0 or tau == math.inf:
        raise ValueError(f"tau is {tau!r} and must be a positive number, for example 1.2")
    if not 0.01 <= tau <= 100:
        raise ValueError(f"tau is {tau} and must lie between 0.01 and 100, for example 1.2")
    if tau == 1:
        raise ValueError(
            "tau is 1, which makes the teacher the student itself and leaves nothing to learn; "
            "use tau > 1 to reheat (the paper: 1.2) or tau < 1 to cool"
        )
    return tau


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's and papermill's true and false, which pydantic would take for 1 and 0."""
        if (
            isinstance(value, bool)
            and cls.model_fields[str(info.field_name)].annotation is not bool
        ):
            raise ValueError(
                f"is {str(value).lower()}, which stands for true or false; give a value"
            )
        return value
