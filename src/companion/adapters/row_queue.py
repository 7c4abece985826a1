"""verl's TransferQueue within the one process that uses it, and the rows that each rank is sent.

verl 0.9.1 keeps a step's rows in a TransferQueue (0.1.11), of which the trainer calls `init`, `close`
and four functions by `transfer_queue.NAME`; `install` puts ours there. Ranks would fetch their rows
from the queue themselves; here they come with the call (verl/protocol.py:1279 translates what is sent).
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import torch
import transfer_queue
from tensordict import NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import trainer_base
from verl.utils import tensordict_utils as tu
from verl.utils import transferqueue_utils

TRAINED_ON = (
    "prompts",
    "responses",
    "response_mask",
    "loss_mask",
    "input_ids",
    "position_ids",
    "old_log_probs",
    "advantages",
    "ref_log_prob",
    "rollout_is_weights",
)
"""What verl's update reads (workers/engine/fsdp/transformer_impl.py, workers/utils/losses.py)."""

MICRO_BATCH = 32
"""Rows at most that a rank works on at a time: they fit a core's cache."""

_tags: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
_rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))


def install() -> None:
    for function in (kv_batch_put, kv_batch_get, kv_list, kv_clear):
        setattr(transfer_queue, function.__name__, function)
    transfer_queue.init = transfer_queue.close = lambda *_: None
    transferqueue_utils.kv_batch_meta2batch_meta = Sent
    trainer_base.get_seqlen_balanced_partitions = _in_turn


def kv_batch_put(keys, partition_id, fields=None, tags=None) -> KVBatchMeta:
    """Keep `fields` (columns, or a TensorDict) and `tags` by key, beside what is there."""
    for key, tag in zip(keys, tags or [{}] * len(keys), strict=True):
        _tags[partition_id].setdefault(key, {}).update(tag)
    names = list(fields.keys()) if fields is not None else []
    for name in names:
        column = fields[name]
        values = column.unbind() if isinstance(column, torch.Tensor) else list(column)
        for key, value in zip(keys, values, strict=True):
            _rows[partition_id][key][name] = value
    return KVBatchMeta(
        keys=list(keys),
        tags=[dict(_tags[partition_id][key]) for key in keys],
        partition_id=partition_id,
        fields=names,
    )


def kv_batch_get(keys, partition_id, select_fields=None) -> TensorDict:
    """The rows of `keys`, with those of `select_fields` (default: all) that they have."""
    rows = [_rows[partition_id][key] for key in keys]
    names = [name for name in select_fields or rows[0] if name in rows[0]]
    return TensorDict(
        {name: _column([row[name] for row in rows]) for name in names}, batch_size=len(keys)
    )


def _column(values: list[Any]) -> Any:
    if not isinstance(values[0], torch.Tensor):
        return NonTensorStack(*values)
    if values[0].dim() == 0:
        return torch.stack(values)
    return torch.nested.as_nested_tensor(values, layout=torch.jagged)


def kv_list(partition_id=None) -> dict[str, dict[str, Any]]:
    """The tags of every key, by partition."""
    asked = [partition_id] if partition_id else list(_tags)
    return {name: {key: dict(tag) for key, tag in _tags[name].items()} for name in asked}


def kv_clear(keys, partition_id) -> None:
    for key in keys:
        _tags[partition_id].pop(key, None)
        _rows[partition_id].pop(key, None)


class Sent:
    """What verl takes for the queue's metadata of a batch, and asks for a part for each rank."""

    def __init__(self, batch: KVBatchMeta):
        self.batch = batch

    def chunk(self, chunks: int) -> list[TensorDict]:
        rows = [_rows[self.batch.partition_id][key] for key in self.batch.keys]
        return deal(rows, dict(self.batch.extra_info), chunks)


def deal(rows: list[dict[str, Any]], asked: dict[str, Any], ranks: int) -> list[TensorDict]:
    """The rows of an update for each rank, with verl's settings `asked`.

    A row whose advantages are all 0 has no gradient, unless an entropy or a KL term is asked for: it
    stays here. The loss is a mean over tokens, and the ranks count those that they got; so that the
    tokens of such rows count as well, the advantages are multiplied by the share of the others (the
    clipped loss is proportional to them). Rows of one length go side by side, in turn to every rank:
    micro-batches are padded to their longest.
    """
    if asked.get("mini_batch_size") != len(rows):  # a row's place says which update is its own
        bounds = [len(rows) * rank // ranks for rank in range(ranks + 1)]
        return [_part(rows[begin:end], asked) for begin, end in pairwise(bounds)]
    rows = sorted(rows, key=lambda row: len(row["input_ids"]))
    if not asked["calculate_entropy"] and "ref_log_prob" not in rows[0]:
        idle = [not row["advantages"].any() for row in rows]
        busy = len(rows) - sum(idle)
        micro_batches = max(1, -(-busy // (ranks * MICRO_BATCH)))
        share = ranks * micro_batches  # as many rows in every micro-batch of every rank
        wanted = -(-max(busy, 1) // share) * share
        if wanted < len(rows):
            fill = [i for i, x in enumerate(idle) if x][: wanted - busy]  # the shortest
            left = [row for i, row in enumerate(rows) if i in fill or not idle[i]]
            weight = sum(len(x["responses"]) for x in left) / sum(len(x["responses"]) for x in rows)
            rows = [row | {"advantages": row["advantages"] * weight} for row in left]
            asked = asked | {
                "mini_batch_size": wanted,
                "micro_batch_size_per_gpu": wanted // share,
            }
    return [_part(rows[rank::ranks], asked) for rank in range(ranks)]


def _part(rows: list[dict[str, Any]], asked: dict[str, Any]) -> TensorDict:
    names = [name for name in TRAINED_ON if name in rows[0]]
    part = TensorDict(
        {name: _column([row[name] for row in rows]) for name in names}, batch_size=len(rows)
    )
    for name, value in asked.items():
        tu.assign_non_tensor_data(part, name, value)
    return part


def _in_turn(workloads, k_partitions, equal_size) -> list[list[int]]:
    """Instead of verl's balancing, a third of a second: the rows come in the order of their lengths."""
    return [list(range(rank, len(workloads), k_partitions)) for rank in range(k_partitions)]
