"""Merging, a rival to reheating: weights between those of a collapsed policy and of its base.

WiSE-FT (Wortsman et al. 2021, arXiv 2109.01903); for reasoning Dang et al. 2025 (arXiv 2504.10478),
who find that it brings back pass@k. No training, and no more memory than a file of weights.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from companion import hashes, policies, runs
from companion.runs import Run
from companion.schema import Profile
from companion.stages import checks, matching, weights
from companion.stages.entropy import measure, token_entropy

VERSION = 1
"""Raised by hand when the same settings give another policy (tests/test_versions.py)."""
HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


def merge(profile: Profile, start: Path, strength: float) -> Run:
    """The policy (1 - strength) x `start` + strength x the profile's base, tensor by tensor.

    The run's result holds `strength` and the `token_entropy` (nats) of the merged policy.

    Raises:
        ValueError: a strength that is not in (0, 1], or policies whose tensors differ in names or
            shapes.
    """
    strength = checked(strength)
    start, base = policies.check_policy(start), policies.base(profile)
    run = runs.open_run(
        profile,
        "merge",
        f"strength{strength:.4g}",
        {"strength": strength, "merge_version": VERSION, **measure(profile)},
        {"policy": start, "base": base},
    )
    if run.finished:
        return run
    checks.same_task(profile, start)
    with run.recording() as result:
        if not run.policy.exists():  # all of it or nothing
            partial = run.policy.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            save_merged(start, base, strength, partial)
            policies.check_policy(partial).rename(run.policy)
        result.update(strength=strength, token_entropy=token_entropy(run.policy, profile).value)
    return run


def matching_strength(profile: Profile, start: Path, entropy: float) -> float:
    """The strength at which the merged policy's mean token entropy is `entropy` nats.

    Raises:
        ValueError: `entropy` does not lie between that of `start` and that of the base.
    """
    start, base = policies.check_policy(start), policies.base(profile)
    run = runs.open_run(
        profile,
        "match",
        f"merge-{entropy:.3f}nats",
        {
            "target": entropy,
            "match_version": matching.VERSION,
            "merge_version": VERSION,
            **measure(profile),
        },
        {"policy": start, "base": base},
    )
    if run.finished:
        return run.result["strength"]
    checks.same_task(profile, start)
    with run.recording() as result:
        result["strength"] = matching.search(
            profile,
            entropy,
            run.folder / "trial",
            lambda strength, folder: save_merged(start, base, strength, folder),
            (0.0, 1.0),
            "strength between 0 and 1",
        )
    return result["strength"]


def save_merged(start: Path, base: Path, strength: float, folder: Path) -> None:
    """Save the policy (1 - strength) x `start` + strength x `base`: in all else it is `start`.

    Computed in float32, and saved in the types of `start` and the files of its shards: one such file
    and one tensor of `base` are in memory at a time. What both agree on stays as it is to the last
    bit, and so do both ends (torch.lerp).

    Raises:
        ValueError: tensors differ in names or shapes. Nothing has been written then.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    theirs = _alike(start, base)
    with ExitStack() as stack:
        files = {stored.file for stored in theirs.values()}
        opened = {file: stack.enter_context(safe_open(file, "pt")) for file in files}
        for file in hashes.weights(start):
            merged = {}
            with safe_open(file, "pt") as own:
                for name in hashes.tensors(file)[0]:
                    tensor, other = own.get_tensor(name), theirs[name]
                    counterpart = opened[other.file].get_tensor(other.name)
                    between = torch.lerp(tensor.float(), counterpart.float(), strength)
                    merged[name] = between.to(tensor.dtype)
                metadata = own.metadata()
            save_file(merged, weights.place(file, start, folder), metadata=metadata)
    for file in [*hashes.beside_weights(start), *weights.index(start)]:
        shutil.copyfile(file, weights.place(file, start, folder))


class Stored(NamedTuple):
    """Where a tensor lies."""

    file: Path
    name: str
    shape: list[int]


def _tensors(policy: Path) -> dict[str, Stored]:
    """A policy's tensors, from the heads of its files.

    With tied embeddings the output head is one of them, stored by itself (as Qwen does) or not (as
    transformers does).
    """
    found = {
        name: Stored(file, name, entry["shape"])
        for file in hashes.weights(policy)
        for name, entry in hashes.tensors(file)[0].items()
    }
    tied = json.loads((policy / "config.json").read_text()).get("tie_word_embeddings")
    if tied and EMBEDDINGS in found:
        found.setdefault(HEAD, found[EMBEDDINGS])
    return found


def _alike(start: Path, base: Path) -> dict[str, Stored]:
    """The base's tensors; ValueError unless those of `start` have the same names and shapes."""
    ours, theirs = _tensors(start), _tensors(base)
    for name in sorted(ours.keys() | theirs.keys()):
        shapes = [side[name].shape if name in side else "none" for side in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"the policy in '{start.name}' cannot be merged with '{base.name}': its {name} has "
                f"the shape {shapes[0]} and the base's {shapes[1]}; give a policy that was trained "
                "from that base"
            )
    return theirs


def checked(strength: float) -> float:
    """`strength` if a policy can be merged by it; ValueError otherwise."""
    number = isinstance(strength, int | float) and not isinstance(strength, bool)
    if not (number and 0 <= strength <= 1):
        raise ValueError(
            f"strength is {strength!r} and must be a number above 0 and at most 1, for example 0.4"
        )
    if strength == 0:
        raise ValueError(
            "strength is 0, which leaves the policy as it is; use more, for example 0.4, or 1 for "
            "the base itself"
        )
    return float(strength)
