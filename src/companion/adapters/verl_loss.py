"""verl's policy loss, with the largest gap between rollout and trainer beside it.

Registered by `model.external_lib` (verl/trainer/ppo/core_algos.py:68, 0.9.1). In bypass mode the
old log-probabilities are the rollout's, so in a batch's first update the two arguments are the
same policy's, once as sampled and once as trained on.

verl averages whatever a policy loss returns over micro-batches and ranks
(verl/workers/utils/losses.py:116). Of everything else it takes the largest where the name holds
"max" (utils/metric/utils.py:25, v1/utils.py:93); here its policy losses learn the same.
"""

from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla, register_policy_loss
from verl.utils.metric import Metric


@register_policy_loss("vanilla_with_gap")
def vanilla_with_gap(old_log_prob, log_prob, advantages, response_mask, **settings):
    """As `vanilla`, and `actor/rollout_gap_max`: max |log p_trainer - log p_rollout| in nats.

    The tensors are [answers, tokens] of a micro-batch; what verl logs is the step's largest.
    """
    loss, metrics = compute_policy_loss_vanilla(
        old_log_prob, log_prob, advantages, response_mask, **settings
    )
    gap = (log_prob.detach() - old_log_prob).abs().masked_fill(~response_mask.bool(), 0.0)
    return loss, metrics | {"actor/rollout_gap_max": gap.max().item()}


def _by_name(data, aggregation):
    """verl's `Metric.from_dict`, which ppo_loss calls and nothing else, but for names with "max"."""
    return {
        name: Metric(value=value, aggregation="max" if "max" in name else aggregation)
        for name, value in data.items()
    }


Metric.from_dict = staticmethod(_by_name)
