"""Where the frameworks run, and on what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from companion.schema.values import Section


class Hardware(Section):
    """Where the frameworks run."""

    platform: Literal["cpu", "gpu"]
    gpus_per_node: PositiveInt = 1
    nodes: PositiveInt = 1
    tensor_parallel: PositiveInt = 1
    """GPUs that share one vLLM engine in the evaluation; the others answer beside it."""
    threads: PositiveInt = 2
    """Cores to use (CPU platform): verl's ranks, one thread each; OpenMP threads elsewhere."""

    @model_validator(mode="after")
    def _check(self) -> Hardware:
        if self.gpus_per_node % self.tensor_parallel:
            raise ValueError(
                f"tensor_parallel is {self.tensor_parallel} and must divide gpus_per_node "
                f"({self.gpus_per_node})"
            )
        return self


class Task(Section):
    """Problems, and the policies the study starts from."""

    name: Literal["countdown", "math", "own"]
    base: str
    """The base policy: a folder, below the repository if relative, or a model of the hub."""
    collapsed: str | None = None
    """A shipped collapsed policy, used when no collapse run of this profile is finished."""
    data: str | None = None
    """Folder with the data sets (mathematics); None: $COMPANION_DATA_DIR, and without it the hub."""
    prompts: str | None = None
    """A task of one's own (tasks/own.py): its file, JSON lines or parquet, below the repository if
    relative."""
    grader: str = "exact"
    """Of such a task: exact, math, or a function of one's own such as grader.py:grade."""
    held_out: float = Field(default=0.2, ge=0, lt=1)
    """The share of its prompts, by a hash, that is not trained on: half for validation, half for test.
    0: all are everything, which will do for reheating alone."""
    ood: str | None = None
    """Its suite that is never trained on, and reported apart."""
    train_problems: PositiveInt
    validation_problems: PositiveInt
    """Validation problems a suite: for choosing settings, never for reporting."""
    test_problems: PositiveInt | None
    """Test problems a suite: for reporting, never for choosing; None: all there are."""
    leave_out: list[str] = Field(default_factory=list)
    """Suites that are not asked, such as GPQA Main by those who have no access to it."""
    max_prompt_tokens: PositiveInt
