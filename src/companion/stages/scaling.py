"""Exact scaling, the control that the paper does not run: a reheating without any training.

Dividing the weight of the final RMSNorm by tau divides every logit by tau, also where the output
head is tied to the embeddings.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from companion import hashes, policies, runs
from companion.runs import Run
from companion.schema import Profile, check_tau
from companion.stages import checks, matching, weights
from companion.stages.entropy import measure, token_entropy

VERSION = 1
"""Raised by hand when the same settings give another policy (tests/test_versions.py)."""
NORM = "model.norm.weight"


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
        if not run.policy.exists():  # all of it or nothing
            partial = run.policy.with_suffix(".partial")
            save_scaled(start, tau, partial)
            policies.check_policy(partial).rename(run.policy)
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
            run.folder / "trial",
            lambda log_tau, folder: save_scaled(start, math.exp(log_tau), folder),
            (-math.log(4), math.log(4)),
            "tau between 1/4 and 4",
        )
        result["tau"] = math.exp(found)
    return result["tau"]


def save_scaled(start: Path, tau: float, folder: Path) -> None:
    """Save the policy in `start` with every logit divided by `tau`; no model is loaded.

    One tensor is changed, in float32, and kept so, whatever type the others have: what is divided in
    bf16 would be off by up to 0.4%. Files without it are the same ones under a second name.

    Raises:
        ValueError: `start` has no final norm of the form that is divided.
    """
    import torch
    from safetensors import safe_open

    holding = [file for file in hashes.weights(start) if NORM in hashes.tensors(file)[0]]
    if not holding:
        raise ValueError(
            f"the policy in '{start.name}' cannot be scaled: it has no {NORM}; give a whole policy"
        )
    for file in hashes.weights(start):
        path = weights.place(file, start, folder)
        if file not in holding:
            weights.link(file, path)
            continue
        with safe_open(file, "pt") as opened:
            scaled = opened.get_tensor(NORM).to(torch.float32, copy=True).div_(tau)
        weights.replace(file, NORM, scaled.numpy(), path)
    for file in weights.index(start):
        shutil.copyfile(file, weights.place(file, start, folder))
    _describe(start, folder)


def _describe(start: Path, folder: Path) -> None:
    """Configuration and tokenizer, as transformers saves them with a model of float32 weights."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(start)
    config.dtype = "float32"
    config.save_pretrained(folder)
    if (start / "generation_config.json").exists():
        transformers.GenerationConfig.from_pretrained(start).save_pretrained(folder)
    policies.load_tokenizer(start).save_pretrained(folder)
