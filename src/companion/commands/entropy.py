"""The one measure alone: mean token entropy of a policy of one's own, and whether it is collapsed."""

from __future__ import annotations

import time
from typing import Any

from companion.commands import own
from companion.stages.entropy import token_entropy
from companion.statistics import Estimate


def measure(policy: str, prompts: str, **asked: Any) -> Estimate:
    """Mean token entropy in nats at T = 1 of a policy's answers to prompts of one's own.

    One answer a prompt, sampled at T = 1 with nothing cut off, of at most 320 prompts; averaged over all
    sampled tokens, the end token included; the 95% interval resamples prompts.

    Args:
        policy: a Hugging Face folder, or a model of the hub.
        prompts: JSON lines or parquet (tasks/own.py), or a data set of the hub.
        asked: `max_tokens` of an answer (512) and `platform` ("cpu"), as `own.profile`.

    Raises:
        ValueError: no policy, no prompts, or they do not fit into its context.
    """
    settings = own.profile(policy, prompts, **asked)
    return token_entropy(own.found(policy), settings)


def report(
    policy: str, prompts: str, threshold: float | None, reference: str | None, **asked: Any
) -> None:
    """Print the measure, and by a threshold in nats or a reference policy whether it is collapsed."""
    begun = time.monotonic()
    found = measure(policy, prompts, **asked)
    print(f"mean token entropy {found:.4f} nats at T = 1 ({time.monotonic() - begun:.0f} s)")
    if reference is not None:
        theirs = measure(reference, prompts, **asked)
        threshold = own.COLLAPSED * theirs.value
        print(f"of the reference {theirs:.4f} nats; collapsed is below a third of it")
    if threshold is not None:
        verdict = "collapsed" if found.value < threshold else "not collapsed"
        print(
            f"{verdict}: {'below' if found.value < threshold else 'not below'} {threshold:.4f} nats"
        )
