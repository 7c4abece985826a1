"""The queue in one process beside verl's TransferQueue, and the rows an update is made of."""

import inspect
import re

import pytest
import torch
from jagged import jagged
from tensordict import NonTensorStack, TensorDict

from companion.adapters import row_queue


@pytest.fixture
def queue(monkeypatch):
    monkeypatch.setattr(row_queue, "_rows", type(row_queue._rows)(row_queue._rows.default_factory))
    monkeypatch.setattr(row_queue, "_tags", type(row_queue._tags)(dict))
    return row_queue


def test_what_is_put_is_got_row_by_row(queue):
    fields = TensorDict(
        {"responses": jagged([[1, 2], [3]]), "uid": NonTensorStack("u", "v")}, batch_size=2
    )
    queue.kv_batch_put(keys=["p"], partition_id="train", tags=[{"status": "pending"}])
    queue.kv_batch_put(["a", "b"], "train", fields, tags=[{"x": 1}, {"x": 2}])
    more = TensorDict({"advantages": jagged([[0.5], [1.0, 2.0]], torch.float32)}, batch_size=2)
    batch = queue.kv_batch_put(["b", "a"], "train", more)
    assert batch.tags == [{"x": 2}, {"x": 1}] and batch.fields == ["advantages"]
    got = queue.kv_batch_get(["b", "a"], "train", ["responses", "advantages", "values", "uid"])
    assert set(got.keys()) == {"responses", "advantages", "uid"}
    assert [row.tolist() for row in got["responses"].unbind()] == [[3], [1, 2]]
    assert [row.tolist() for row in got["advantages"].unbind()] == [[0.5], [1.0, 2.0]]
    assert list(got["uid"]) == ["v", "u"]
    assert queue.kv_list() == {"train": {"p": {"status": "pending"}, "a": {"x": 1}, "b": {"x": 2}}}
    queue.kv_clear(["p", "a"], "train")
    assert queue.kv_list("train") == {"train": {"b": {"x": 2}}}


def test_verls_trainer_uses_no_more_of_the_queue_than_there_is():
    from verl.trainer import main_ppo
    from verl.trainer.ppo.v1 import replay_buffer, trainer_base

    modules = (main_ppo, replay_buffer, trainer_base)
    used = {name for x in modules for name in re.findall(r"\btq\.(\w+)\(", inspect.getsource(x))}
    of_asynchronous_trainers = {"save_checkpoint", "load_checkpoint"}
    ours = {"init", "close", "kv_batch_put", "kv_batch_get", "kv_list", "kv_clear"}
    assert used - of_asynchronous_trainers == ours
