"""verl's replay buffer, which also says how many of a step's answers were cut at the token limit.

A `trainer.v1.sampler.custom_sampler` of verl 0.9.1 (verl/trainer/ppo/v1/replay_buffer.py:427),
called in the task runner, with any rollout engine on any platform; what it returns beside the batch
is logged with the step (v1/trainer_base.py:572). verl's own `response_length/clip_ratio` is no such
share: it counts the answers as long as the longest of the batch (ppo/metric_utils.py:576), of which
there is always one.

Where answers come from verl's agent loops (vLLM), one that could not be sampled or scored is logged
and left out, and the step goes on with the others (v1/agent_loop_tq.py:132, v1/replay_buffer.py:112).
Here it ends.
"""

from pathlib import Path

import transfer_queue
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from companion.policies import end_tokens
from companion.stages.answers import cut


class CountingReplayBuffer(ReplayBuffer):
    """Logs `response/truncated`, the share of cut answers in what the step trains on."""

    def __init__(self, *, sampler_kwargs, **given):
        """`sampler_kwargs`: policy (a folder), max_response_tokens, batch_size, filter_metric.

        The last two are what verl tells its own buffer of dynamic sampling, and leaves to others
        to know (v1/trainer_base.py:163); prompts come one by one then.
        """
        super().__init__(
            sampler_kwargs=sampler_kwargs,
            filter_groups_metric=sampler_kwargs.filter_metric,
            train_batch_size=sampler_kwargs.batch_size,
            gen_batch_size=1,
            **given,
        )
        self.limit = sampler_kwargs.max_response_tokens
        self.end_tokens = end_tokens(Path(sampler_kwargs.policy))

    def _terminal_eviction_reasons(self, global_steps, partition_id):
        """RuntimeError if an answer of a prompt failed; asked at every look at what is finished."""
        if failed := self.failure_keys[partition_id]:
            raise RuntimeError(
                f"step {global_steps}: an answer to {len(failed)} prompts could not be sampled or "
                "rewarded; what it was is in the log, at 'Error in _run_prompt'; mend that, and call "
                "again, which resumes"
            )
        return super()._terminal_eviction_reasons(global_steps, partition_id)

    def sample(self, **asked):
        batch, metrics = super().sample(**asked)
        rows = transfer_queue.kv_batch_get(
            keys=batch.keys,
            partition_id=batch.partition_id,
            select_fields=["responses", "entropies"],
        )
        cuts = [
            cut(row.tolist(), self.limit, self.end_tokens) for row in rows["responses"].unbind()
        ]
        metrics = metrics | {"response/truncated": sum(cuts) / len(cuts)}
        if "entropies" in rows:
            metrics["actor/entropy_loss"] = rows["entropies"].values().mean().item()
        return batch, metrics
