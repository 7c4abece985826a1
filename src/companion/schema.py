"""Every setting of the study, typed and described; what cannot be is refused with one sentence."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

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
    leave_out: list[str] = []
    """Suites that are not asked, such as GPQA Main by those who have no access to it."""
    max_prompt_tokens: PositiveInt


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

Teacher = Literal["live", "frozen"]
"""Whose logits reheating softens: see `Reheat.teacher`."""


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
    verl: dict[str, Any] = {}
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
    swift: dict[str, Any] = {}
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
    rivals: list[Arm] = []
    """Further arms, of the seeds whose analyses are made (Fig. D)."""
    entropy_bonuses: list[PositiveFloat] = []
    """Coefficients of an entropy bonus from the base policy on, a run each (Fig. D)."""

    @model_validator(mode="after")
    def _check(self) -> Analysis:
        for tau in self.frontier_taus:
            check_tau(tau)
        return self


class Profile(Section):
    name: str
    about: str
    seed: Seed
    hardware: Hardware
    task: Task
    rl: RL
    reheat: Reheat
    frozen: Frozen = Frozen()
    merge: Merge = Merge()
    entropy: Entropy
    evaluation: Evaluation
    analysis: Analysis

    @model_validator(mode="after")
    def _check(self) -> Profile:
        if self.task.name == "own" and not self.task.prompts:
            raise ValueError("task.prompts is missing; name the file with the task's prompts")
        if self.task.name == "countdown" and not self.task.test_problems:
            raise ValueError("task.test_problems is missing; countdown has no end, give a number")
        if twice := set(self.rl.arms) & set(self.analysis.rivals):
            raise ValueError(
                f"analysis.rivals holds '{min(twice)}', which is in rl.arms; name it in one of them"
            )
        if self.rl.batch_size % self.rl.mini_batch_size:
            raise ValueError(
                f"rl.mini_batch_size is {self.rl.mini_batch_size} and must divide "
                f"rl.batch_size ({self.rl.batch_size})"
            )
        return self
