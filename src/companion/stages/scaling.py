"""Exact scaling, the control that the paper does not run: a reheating without any training.

Dividing the weight of the final RMSNorm by tau divides every logit by tau, also where the output
head is tied to the embeddings.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from companion import policies, runs
from companion.runs import Run
from companion.schema import Profile, check_tau
from companion.stages import checks
from companion.stages.entropy import measure, token_entropy

SCALE_VERSION, MATCH_VERSION = 1, 1
"""Raised by hand when the same settings give another policy, or another tau (tests/test_versions.py)."""


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
        {"tau": tau, "scale_version": SCALE_VERSION, **measure(profile)},
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

    Every trial answers the same prompts with the same uniforms (`token_entropy`), so that the
    search follows tau and not the sampling noise.

    Raises:
        ValueError: no tau between 1/4 and 4 gives this entropy.
    """
    from scipy.optimize import brentq

    start = checks.same_task(profile, policies.check_policy(start))
    run = runs.open_run(
        profile,
        "match",
        f"{entropy:.3f}nats",
        {
            "target": entropy,
            "match_version": MATCH_VERSION,
            "scale_version": SCALE_VERSION,
            **measure(profile),
        },
        {"policy": start},
    )
    if run.finished:
        return run.result["tau"]

    with run.recording() as result, tempfile.TemporaryDirectory() as folder:

        def excess(log_tau: float) -> float:
            save_scaled(start, math.exp(log_tau), Path(folder))
            return token_entropy(Path(folder), profile).value - entropy

        try:
            result["tau"] = math.exp(brentq(excess, -math.log(4), math.log(4), xtol=1e-3))
        except ValueError:  # the same sign at both ends
            raise ValueError(
                f"entropy is {entropy:.3f} nats, which no tau between 1/4 and 4 gives this policy"
            ) from None
    return result["tau"]


def save_scaled(start: Path, tau: float, folder: Path) -> None:
    """Save the policy in `start` with every logit divided by `tau` (fp32)."""
    import torch

    model, tokenizer = policies.load_policy(start, dtype=torch.float32)
    with torch.no_grad():
        model.model.norm.weight.div_(tau)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
