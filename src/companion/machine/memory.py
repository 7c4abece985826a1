"""What of a GPU's memory each stage takes at its peak: arithmetic on the model's shape.

Left out is what CUDA contexts, NCCL and a sleeping vLLM take beside it: a few GiB a GPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd

from companion import policies
from companion.params import place
from companion.schema import Profile, Reheat

GIB = 2**30
GPU_GIB = 79.0
"""What an 80 GB H100 or H800 says it has."""
VLLM_SHARE = {"RL": 0.8, "reheating": 0.5, "evaluation": 0.6}
"""Of a GPU, as rl.py, reheat.py and adapters/vllm_engine.py ask for it."""
PIECE, HEAD_PIECE = 2**25, 2**27
"""Logits that `distillation` works on at a time on GPUs, and that `through_head` makes at a time."""
FUSED_TOKENS = 512
"""Tokens whose logits verl's fused kernels make at a time (FusedLinearForPPO's chunk_size)."""
PROCESSES_GIB = 6.0
"""Of the host, for the frameworks' processes: all of them on CPU (by `ps`, while verl trained on
the laptop profile); as much for each GPU's is a guess."""


@dataclass(frozen=True)
class Shape:
    """A Qwen3 model: no biases, and an RMSNorm over every head's queries and keys."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """Whether the output head is the embeddings."""

    @property
    def layer(self) -> int:
        """Parameters of a layer."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim
        norms = 2 * self.hidden + 2 * self.head_dim
        return attention + 3 * self.hidden * self.intermediate + norms

    @property
    def ends(self) -> int:
        """Parameters outside the layers: embeddings, final norm, output head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.ends

    @property
    def cache_bytes(self) -> int:
        """Of one token's keys and values, in bf16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


SHAPES = {
    "Qwen/Qwen3-0.6B-Base": Shape(28, 1024, 3072, 16, 8, 128, 151_936, tied=True),
    "Qwen/Qwen3-4B-Base": Shape(36, 2560, 9728, 32, 8, 128, 151_936, tied=True),
    "Qwen/Qwen3-8B-Base": Shape(36, 4096, 12_288, 32, 8, 128, 151_936, tied=False),
}
FIELDS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "tie_word_embeddings",
)
"""A Shape's fields, in order, as config.json calls them."""


def shape(base: str) -> Shape:
    """The shape of a task.base; ValueError for a hub's model not known here, or no Qwen3."""
    config = place(base.removeprefix(policies.DRAWN)) / "config.json"
    if not config.is_file():
        name = base.partition("@")[0]
        if name not in SHAPES:
            raise ValueError(
                f"task.base is '{base}', whose shape is not known here; name a local folder, or "
                f"one of {', '.join(SHAPES)}"
            )
        return SHAPES[name]
    values = json.loads(config.read_text())
    missing = [field for field in FIELDS if field not in values]
    if values.get("model_type") != "qwen3" or missing:
        what = f"no {missing[0]}" if missing else f"model_type '{values.get('model_type')}'"
        raise ValueError(f"task.base is '{base}', whose config.json has {what}; name a Qwen3 model")
    return Shape(*(values[field] for field in FIELDS))


def peaks(profile: Profile, gpu_gib: float = GPU_GIB) -> pd.DataFrame:
    """Peak memory of one GPU in GiB, by its parts; on CPU, of the whole host.

    A row a stage and moment, such as (RL, update). `cache` is what vLLM has left for keys and
    values, `cache_tokens` how many tokens the cache of an engine holds.

    Args:
        gpu_gib: memory of a GPU.
    """
    model, hardware, heat = shape(profile.task.base), profile.hardware, profile.reheat
    if hardware.platform == "cpu":
        processes = {"processes": PROCESSES_GIB * GIB}
        return _table(
            {
                ("RL", "update"): _sharded(model, 1, 8) | processes,
                ("reheating", "update"): _sharded(model, 1, moments(profile))
                | _teacher(profile, model, 1)
                | processes,
                ("evaluation", "rollout"): {"weights": 4 * model.parameters} | processes,
            }
        )
    ranks, prompt = hardware.gpus_per_node * hardware.nodes, profile.task.max_prompt_tokens
    teacher = _teacher(profile, model, ranks)
    share = {stage: part * gpu_gib * GIB for stage, part in VLLM_SHARE.items()}
    rl_tokens = prompt + profile.rl.max_response_tokens  # rl.py: room for one longest answer
    heat_tokens = heat.micro_batch_size * (prompt + heat.max_completion_tokens)
    return _table(
        {
            ("RL", "rollout"): _vllm(model, share["RL"]),  # all of verl's is on the host
            ("RL", "update"): _sharded(model, ranks, 8)
            | _passing(model, rl_tokens)
            | {"logits": rl_logits(model)},
            # Of ms-swift's, only the optimizer is on the host.
            ("reheating", "rollout"): {"weights": 4 * model.parameters / ranks}
            | teacher
            | _vllm(model, share["reheating"]),
            ("reheating", "update"): _sharded(model, ranks, moments(profile))
            | _passing(model, heat_tokens)
            | {"logits": reheating_logits(model, heat, heat_tokens)}
            | teacher,
            # Between two updates vLLM measures a checkpoint in a process beside it; verl leaves it all.
            ("reheating", "measure"): _kept(model, ranks, moments(profile))
            | teacher
            | _vllm(model, share["evaluation"], hardware.tensor_parallel),
            ("evaluation", "rollout"): _vllm(model, share["evaluation"], hardware.tensor_parallel),
        }
    )


def host_gib(profile: Profile) -> float:
    """Peak host memory of a node in GiB: processes, what its GPUs put off there, a checkpoint.

    More than the analyses take there when nothing trains (Fig. 3's sums, Fig. 8's gradients).
    """
    if profile.hardware.platform == "cpu":
        return float(peaks(profile)["total"].max())
    nodes, gpus = profile.hardware.nodes, profile.hardware.gpus_per_node
    verl = (4 + 8) / nodes  # fp32 weights and moments, while vLLM answers
    swift = moments(profile) / nodes + 2 * gpus  # moments; weights of every sleeping engine
    whole = 4  # rank 0 gathers the model to save it
    each = max(verl, swift) + whole
    return each * shape(profile.task.base).parameters / GIB + PROCESSES_GIB * gpus


def moments(profile: Profile) -> int:
    """Bytes a parameter of what reheating's optimizer keeps, in fp32."""
    return 8 if profile.reheat.optimizer == "adamw" else 0


def _sharded(model: Shape, ranks: int, optimizer: int) -> dict[str, float]:
    """Bytes of a rank's shard in an update: `_kept`, and gradients in fp32."""
    return _kept(model, ranks, optimizer) | {"gradients": 4 * model.parameters / ranks}


def _kept(model: Shape, ranks: int, optimizer: int) -> dict[str, float]:
    """Bytes of a rank's shard: weights in fp32, `optimizer` bytes a parameter."""
    each = model.parameters / ranks
    return {"weights": 4 * each, "optimizer": optimizer * each}


def _passing(model: Shape, tokens: int) -> dict[str, float]:
    """Bytes of a micro-batch of `tokens`, where the backward pass begins."""
    return {
        # bf16; both ends stay gathered, and of the layers the one at work and the next.
        "gathered": 2 * (model.ends + 2 * model.layer),
        # bf16; checkpointing keeps what goes into each layer.
        "activations": 2 * model.layers * tokens * model.hidden,
    }


def _teacher(profile: Profile, model: Shape, ranks: int) -> dict[str, float]:
    """Bytes of a rank's shard of a frozen teacher, in fp32 as the student."""
    frozen = profile.reheat.teacher == "frozen"
    return {"teacher": 4 * model.parameters / ranks} if frozen else {}


def rl_logits(model: Shape) -> float:
    """Bytes of what verl's fused kernels make of a piece's logits, whatever the number of tokens.

    Going back (utils/experimental/torch_functional.py), in fp32: logits, softmax, which tokens were
    drawn, the gradient twice; or three of them, the gradient in bf16, and the head's. Beside them the
    head's gradient of the piece before, and their sum, in bf16.
    """
    piece, head = FUSED_TOKENS * model.vocabulary, model.vocabulary * model.hidden
    return max(5 * 4 * piece, (3 * 4 + 2) * piece + 2 * head) + 2 * 2 * head


def reheating_logits(model: Shape, heat: Reheat, tokens: int) -> float:
    """Bytes of what ms-swift and our loss make of the logits of a micro-batch's `tokens`.

    In fp32 those of all positions, of the answers, their gradient, and a frozen teacher's; beside them
    five of a piece. Through the head those of its pieces alone, or with them their gradient in bf16; and
    the head's, added up in fp32.
    """
    teacher = 4 if heat.teacher == "frozen" else 0
    if not heat.through_head:
        return (3 * 4 + teacher) * tokens * model.vocabulary + 5 * 4 * PIECE
    head = model.vocabulary * model.hidden
    return (4 + teacher) * HEAD_PIECE + max(5 * 4 * PIECE, 2 * HEAD_PIECE) + 4 * head


def _vllm(model: Shape, share: float, tensor_parallel: int = 1) -> dict[str, float]:
    """Bytes of a GPU's `share`: the weights in bf16, and the cache in what is left."""
    weights = 2 * model.parameters / tensor_parallel
    cache = max(0.0, share - weights)
    tokens = cache * tensor_parallel // model.cache_bytes
    return {"vllm_weights": weights, "cache": cache, "cache_tokens": tokens}


def _table(rows: dict[tuple[str, str], dict[str, float]]) -> pd.DataFrame:
    tokens = [int(row.pop("cache_tokens", 0)) for row in rows.values()]
    table = pd.DataFrame(rows.values()).fillna(0.0) / GIB
    table.index = pd.MultiIndex.from_tuples(rows, names=["stage", "moment"])
    return table.assign(total=table.sum(axis=1), cache_tokens=tokens)
