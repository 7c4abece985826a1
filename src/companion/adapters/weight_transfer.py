"""A limit to how long verl 0.9.1 waits for vLLM to take the weights.

Its sender (workers/rollout/vllm_rollout/bucketed_weight_transfer.py:135) has none: where vLLM ends
while it loads them, the run neither goes on nor ends. Loaded by `model.external_lib`, which is one
library: our policy loss comes with it.
"""

from typing import Any

import zmq
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender

import companion.adapters.verl_loss  # noqa: F401

PATIENCE = 600.0
"""Seconds for a piece of the weights."""

_open, _send = BucketedWeightSender._init_socket, BucketedWeightSender.async_send_weights


def _open_with_limit(sender: Any) -> None:
    _open(sender)
    for waiting in (zmq.SNDTIMEO, zmq.RCVTIMEO):
        sender.socket.setsockopt(waiting, int(1000 * PATIENCE))
    sender.socket.setsockopt(zmq.LINGER, 0)  # what was sent last, to nobody


async def _send_within_limit(sender: Any, weights: Any) -> None:
    try:
        await _send(sender, weights)
    except zmq.Again:
        raise RuntimeError(
            f"vLLM has not taken the weights within {PATIENCE:g} s; its own error stands further up"
        ) from None


BucketedWeightSender._init_socket = _open_with_limit
BucketedWeightSender.async_send_weights = _send_within_limit
