"""verl's policy loss, with the largest gap between rollout and trainer beside it.

Registered by `model.external_lib` (verl/trainer/ppo/core_algos.py:68, 0.9.1). In bypass mode the
old log-probabilities are the rollout's, so in a batch's first update the two arguments are the
same policy's, once as sampled and once as trained on.
"""

from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla, register_policy_loss


@register_policy_loss("vanilla_with_gap")
def vanilla_with_gap(old_log_prob, log_prob, advantages, response_mask, **settings):
    """As `vanilla`, and `actor/rollout_gap`: max |log p_trainer - log p_rollout| in nats.

    The tensors are [answers, tokens]. verl averages the metric over micro-batches.
    """
    loss, metrics = compute_policy_loss_vanilla(
        old_log_prob, log_prob, advantages, response_mask, **settings
    )
    gap = (log_prob.detach() - old_log_prob).abs().masked_fill(~response_mask.bool(), 0.0)
    return loss, metrics | {"actor/rollout_gap": gap.max().item()}
