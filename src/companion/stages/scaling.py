"""Exact scaling, the control that the paper does not run: a reheating without any training.

Dividing the weight of the final RMSNorm by tau divides every logit by tau, also where the output
head is tied to the embeddings.
"""

from __future__ import annotations

import math
from pathlib import Path

from companion import policies, runs
from companion.runs import Run
from companion.schema import Profile, check_tau
from companion.stages import checks, matching
from companion.stages.entropy import measure, token_entropy

VERSION = 1
"""Raised by hand when the same settings give another policy (tests/test_versions.py)."""


def scale(profile: Profile, start: Path, tau: float) -> Run:
    """The policy whose logits are exactly those of `start` divided by `tau`: no training.

    Divides the weight of the final RMSNorm, which also works where the output head is tied to
    the embeddings. The run's result holds the `token_entropy` (nats) of the scaled policy.
    """
    start = checks.same_task(profile, policies.check_policy(start))
    run = runs.open_run(
        profile,
        "scale",
        f"tau{check_tau(tau):.4g}",
        {"tau": tau, "scale_version": VERSION, **measure(profile)},
        {"policy": start},
    )
    if run.finished:
        return run
    with run.recording() as result:
        save_scaled(start, tau, run.policy)
        result.update(tau=tau, token_entropy=token_entropy(run.policy, profile).value)
    return run


def matching_tau(profile: Profile, start: Path, entropy: float) -> float:
    """The tau at which the scaled policy's mean token entropy is `entropy` nats.

    Raises:
        ValueError: no tau between 1/4 and 4 gives this entropy.
    """
    start = checks.same_task(profile, policies.check_policy(start))
    run = runs.open_run(
        profile,
        "match",
        f"{entropy:.3f}nats",
        {
            "target": entropy,
            "match_version": matching.VERSION,
            "scale_version": VERSION,
            **measure(profile),
        },
        {"policy": start},
    )
    if run.finished:
        return run.result["tau"]
    with run.recording() as result:
        found = matching.search(
            profile,
            entropy,
            lambda log_tau, folder: save_scaled(start, math.exp(log_tau), folder),
            (-math.log(4), math.log(4)),
            "tau between 1/4 and 4",
        )
        result["tau"] = math.exp(found)
    return result["tau"]


def save_scaled(start: Path, tau: float, folder: Path) -> None:
    """Save the policy in `start` with every logit divided by `tau` (fp32)."""
    import torch

    model, tokenizer = policies.load_policy(start, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight.div_(tau)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
