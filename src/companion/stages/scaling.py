"""Exact scaling, the control that the paper does not run: a reheating without any training.

Logits are linear in the weight and bias of the final norm, also where the output head is tied to the
embeddings, and in the head's own bias: divided by tau, they divide every logit by tau.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np

from companion import hashes, policies, runs
from companion.runs import Run
from companion.schema import Profile, check_tau
from companion.stages import checks, matching, weights
from companion.stages.entropy import measure, token_entropy

VERSION = 1
"""Raised by hand when the same settings give another policy (tests/test_versions.py)."""
_RMS, _GPT = ("model.norm.weight",), ("transformer.ln_f.weight", "transformer.ln_f.bias")
LINEAR = {
    **dict.fromkeys(("llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"), _RMS),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), _RMS),
    "phi": ("model.final_layernorm.weight", "model.final_layernorm.bias", "lm_head.bias"),
    "gpt2": _GPT,
}
"""By a policy's model_type, the tensors to divide: verified on logits, tests/test_reheat_families.py."""
PLUS_ONE = ("gemma", "gemma2", "gemma3_text")
"""Families whose norm multiplies by 1 + its weight."""


def scale(profile: Profile, start: Path, tau: float) -> Run:
    """The policy whose logits are exactly those of `start` divided by `tau`: no training.

    The run's result holds the `token_entropy` (nats) of the scaled policy. ValueError for a family
    whose logits no tensor of it divides (`save_scaled`).
    """
    start = policies.check_policy(start)
    run = runs.open_run(
        profile,
        "scale",
        f"tau{check_tau(tau):.4g}",
        {"tau": tau, "scale_version": VERSION, **measure(profile)},
        {"policy": start},
    )
    if run.finished:
        return run
    checks.same_task(profile, start)
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
    start = policies.check_policy(start)
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
    checks.same_task(profile, start)
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

    A few tensors are changed, in float32, and kept so, whatever type the others have: what is divided
    in bf16 would be off by up to 0.4%. Files without them are the same ones under a second name.

    Raises:
        ValueError: the family is none of LINEAR, its logits are capped, or a tensor is missing.
    """
    from safetensors import safe_open

    divided = _divided(start)
    for file in hashes.weights(start):
        path = weights.place(file, start, folder)
        here = divided.keys() & hashes.tensors(file)[0].keys()
        if not here:
            weights.link(file, path)
            continue
        with safe_open(file, "pt") as opened:
            values = {name: opened.get_tensor(name).float().numpy() for name in sorted(here)}
        weights.replace(
            file,
            {n: (v + divided[n]) / np.float32(tau) - divided[n] for n, v in values.items()},
            path,
        )
    for file in weights.index(start):
        shutil.copyfile(file, weights.place(file, start, folder))
    _describe(start, folder)


def scalable(start: Path) -> bool:
    """Whether `save_scaled` can divide the logits of this policy."""
    try:
        return bool(_divided(start))
    except ValueError:
        return False


def _divided(start: Path) -> dict[str, np.float32]:
    """The tensors of `start` to divide, by their names there, and what is added to each before."""
    config = policies.configuration(start)
    family = config.get("model_type")
    if config.get("final_logit_softcapping"):
        raise _unscalable(start, "its logits are capped (final_logit_softcapping)")
    if family not in LINEAR:
        raise _unscalable(
            start, f"its model_type is '{family}', and known are only {', '.join(sorted(LINEAR))}"
        )
    there = {name for file in hashes.weights(start) for name in hashes.tensors(file)[0]}
    found = {}
    for name in LINEAR[family]:
        bare = name.partition(".")[2]  # as GPT-2's own files have it
        [known] = {name, bare} & there or {""}
        if not known:
            raise _unscalable(start, f"it has no {name}")
        found[known] = np.float32(family in PLUS_ONE)
    return found


def _unscalable(start: Path, why: str) -> ValueError:
    return ValueError(
        f"the policy in '{start.name}' cannot be scaled exactly: {why}; distil it instead (reheat)"
    )


def _describe(start: Path, folder: Path) -> None:
    """Configuration and tokenizer, as transformers saves them with a model of float32 weights."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(start)
    config.dtype = "float32"
    config.save_pretrained(folder)
    if (start / "generation_config.json").exists():
        transformers.GenerationConfig.from_pretrained(start).save_pretrained(folder)
    policies.load_tokenizer(start).save_pretrained(folder)
