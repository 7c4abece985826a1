"""Batched transformers rollouts for verl 0.9.1 on CPU.

verl's own way, one agent loop a sample over an asynchronous server, is made for answers that
take minutes; on two cores its bookkeeping costs more than sampling. Here one call samples a
step's whole batch. Three pieces, at verl's own plug-in points:

- `BatchRollout` holds the rollout policy in the trainer's process ("rollout engine and training
  engine fused in same process", verl/workers/rollout/replica.py:66) and gets its weights there;
- `Replica` tells verl that there is no server to launch beside it (replica.py:300);
- `BatchAgentLoopManager` (`rollout.agent.agent_loop_manager_class`, verl/trainer/main_ppo.py:117)
  does for a batch what AgentLoopWorkerTQ does for a sample (trainer/ppo/v1/agent_loop_tq.py:54):
  samples, scores with verl's reward manager, and puts the rows into the queue (row_queue.py).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import ray
import torch
import transfer_queue
from tensordict import TensorDict
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry

from companion.adapters import verl_loss  # noqa: F401  registers the loss
from companion.policies import end_tokens
from companion.stages.answers import Answers
from companion.stages.sampling import sample


class BatchRollout(BaseRollout):
    """The rollout policy, in the trainer's process: a copy without FSDP's hooks."""

    def __init__(self, config, model_config, device_mesh, replica_rank=-1):
        super().__init__(config, model_config, device_mesh)
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(
            self.model_config.local_path, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        self.end_tokens = end_tokens(Path(self.model_config.local_path))

    async def update_weights(self, weights, **_):
        state = {name: tensor.detach() for name, tensor in weights}
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        tied = set(self.model._tied_weights_keys or ())
        if unexpected or set(missing) - tied:
            raise RuntimeError(f"weights of another model: {missing=}, {unexpected=}")

    async def resume(self, tags):
        pass

    async def release(self):
        pass

    def sample(self, prompts: list[list[int]], seed: int, **sampling: Any) -> Answers:
        return sample(
            self.model,
            prompts,
            end_tokens=self.end_tokens,
            max_new_tokens=self.config.response_length,
            seed=seed,
            **sampling,
        )


def _sample_in_worker(worker, *args, **kwargs) -> Answers:
    (fused,) = worker.worker_dict.values()
    return fused.rollout.sample(*args, **kwargs)


class Replica(RolloutReplica):
    """No server beside the worker; the manager below finds the workers of all ranks here."""

    by_rank: ClassVar[dict[int, ray.actor.ActorHandle]] = {}

    async def launch_servers(self):
        (worker,) = self.workers
        Replica.by_rank[self.replica_rank] = worker
        self._server_address, self._server_handle = "in-process", worker


class BatchAgentLoopManager:
    """Answers a batch of prompts in one call, in verl's task runner."""

    def __init__(self, config):
        self.config, self.rollout = config, config.actor_rollout_ref.rollout
        self.tokenizer = omega_conf_to_dataclass(config.actor_rollout_ref.model).tokenizer
        self.rewards = load_reward_manager(config, self.tokenizer)
        self.rewards.loop = _AtOnce()
        self.at, self.calls = (-1, False), 0

    @classmethod
    def create(cls, config, **_):
        return cls(config)

    def generate_sequences(self, prompts: TensorDict) -> None:
        """Answer, score and queue; returns when all is in the TransferQueue."""
        validate = bool(prompts["validate"]) if "validate" in prompts else False
        step = int(prompts["global_steps"])
        chosen = self.rollout.val_kwargs if validate else self.rollout
        repeats = [i for i in range(len(prompts)) for _ in range(chosen.n)]
        encoded = [
            self.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=True, return_dict=False
            )
            for messages in prompts["raw_prompt"]
        ]
        asked = [encoded[i] for i in repeats]
        # One stream a step and phase: a resumed run samples what the uninterrupted one would.
        # Dynamic sampling asks again within a step, and each time gets a stream of its own.
        self.calls = self.calls + 1 if (step, validate) == self.at else 0
        self.at = step, validate
        words = [self.rollout.seed, step, validate, *([self.calls] if self.calls else [])]
        seed = np.random.SeedSequence(words).generate_state(1)[0]
        ranks = len(Replica.by_rank)
        bounds = [len(asked) * rank // ranks for rank in range(ranks + 1)]
        parts = ray.get(
            [
                Replica.by_rank[rank].__ray_call__.remote(
                    _sample_in_worker,
                    asked[begin:end],
                    int(seed),
                    first=begin,
                    temperature=chosen.temperature,
                    top_p=chosen.top_p,
                )
                for rank, (begin, end) in enumerate(itertools.pairwise(bounds))
            ]
        )
        answers = Answers(
            *(
                [row for part in parts for row in getattr(part, field.name)]
                for field in dataclasses.fields(Answers)
            )
        )
        self._queue(prompts, repeats, asked, answers, step, validate)

    def _queue(
        self,
        prompts: TensorDict,
        repeats: list[int],
        encoded: list[list[int]],
        answers: Answers,
        step: int,
        validate: bool,
    ) -> None:
        partition = "val" if validate else "train"
        uids = list(prompts["uid"])
        # Rows of one length side by side: micro-batches are padded to their longest.
        order = sorted(range(len(repeats)), key=lambda row: len(answers.tokens[row]))
        repeats, encoded = [repeats[i] for i in order], [encoded[i] for i in order]
        tokens = [answers.tokens[i] for i in order]
        log_probs, entropies = (
            [column[i] for i in order] for column in (answers.log_probs, answers.drawn_entropies)
        )
        sources, rules = list(prompts["data_source"]), list(prompts["reward_model"])
        rewards = [
            self._score(sources[i], rules[i], answer)
            for i, answer in zip(repeats, tokens, strict=True)
        ]
        seen: dict[int, int] = {}
        keys, tags, extras, rm_scores = [], [], [], []
        for i, prompt, answer, reward in zip(repeats, encoded, tokens, rewards, strict=True):
            seen[i] = seen.get(i, -1) + 1
            keys.append(f"{uids[i]}_{seen[i]}_0")
            # The policy that answered is the one after the step before.
            version = {"min_global_steps": step - 1, "max_global_steps": step - 1}
            tags.append(
                {
                    "status": "success",
                    "global_steps": step,
                    **version,
                    "prompt_len": len(prompt),
                    "response_len": len(answer),
                    "seq_len": len(prompt) + len(answer),
                }
            )
            extras.append({"reward_extra_info": reward["reward_extra_info"], **version})
            rm_scores.append([0.0] * (len(answer) - 1) + [float(reward["reward_score"])])
        texts = [prompt + answer for prompt, answer in zip(encoded, tokens, strict=True)]
        ones = [torch.ones(len(answer), dtype=torch.int64) for answer in tokens]
        fields = {
            "prompts": [torch.tensor(prompt) for prompt in encoded],
            "responses": [torch.tensor(answer) for answer in tokens],
            "response_mask": ones,
            "loss_mask": ones,
            "input_ids": [torch.tensor(text) for text in texts],
            "position_ids": [torch.arange(len(text)) for text in texts],
            "rollout_log_probs": [torch.tensor(row) for row in log_probs],
            "entropies": [torch.tensor(row) for row in entropies],
            "rm_scores": [torch.tensor(row) for row in rm_scores],
            "uid": [uids[i] for i in repeats],
            "num_turns": [2] * len(repeats),
            "data_source": [sources[i] for i in repeats],
            "reward_model": [rules[i] for i in repeats],
            "extra_fields": extras,
        }
        transfer_queue.kv_batch_put(keys=keys, fields=fields, tags=tags, partition_id=partition)
        # verl samples prompts whose whole group is finished (v1/replay_buffer.py:90).
        finished = [{"is_prompt": True, "status": "finished", "global_steps": step}] * len(uids)
        transfer_queue.kv_batch_put(keys=uids, tags=finished, partition_id=partition)

    def _score(self, source: str, rule: dict[str, Any], answer: list[int]) -> dict[str, Any]:
        """What verl's reward manager says of an answer: reward_score, reward_extra_info."""
        batch = {
            "responses": torch.tensor(answer),
            "attention_mask": torch.tensor([1] * len(answer)),
        }
        try:
            self.rewards.run_single(
                _Row(batch, {"data_source": source, "reward_model": rule})
            ).send(None)
        except StopIteration as ended:
            return ended.value
        raise RuntimeError("verl's reward manager waits for something else than _AtOnce")


class _Row:
    """A `DataProto` of one row, as far as verl's reward manager looks, without its tensordict."""

    def __init__(self, batch: dict[str, torch.Tensor], non_tensor_batch: dict[str, Any]):
        self.batch, self.non_tensor_batch = batch, non_tensor_batch

    def __getitem__(self, _) -> _Row:
        return self


class _AtOnce:
    """An event loop whose executor is the caller: two threads a row take longer than the rewards."""

    async def run_in_executor(self, _, call: Callable[[], Any]) -> Any:
        return call()


_ROLLOUT_REGISTRY["transformers", "async"] = f"{__name__}.BatchRollout"
RolloutReplicaRegistry.register("transformers", lambda: Replica)
