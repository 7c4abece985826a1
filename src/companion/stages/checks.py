"""What must hold before a stage starts: each refusal is one sentence, and nothing has been trained."""

from __future__ import annotations

import difflib
import importlib.util
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from companion import hashes, policies, tasks
from companion.provenance import first_line
from companion.schema import Profile
from companion.stages import verl_command


def settings(profile: Profile) -> None:
    """ValueError for a combination of settings that verl, or reheating after it, would trip over."""
    rl, task = profile.rl, profile.task
    if rl.batch_size > task.train_problems:
        raise ValueError(
            f"rl.batch_size is {rl.batch_size} and must not exceed task.train_problems "
            f"({task.train_problems})"
        )
    if rl.responses_per_prompt < 2:
        raise ValueError(
            "rl.responses_per_prompt is 1 and must be at least 2: advantages compare answers to "
            "the same prompt"
        )
    if rl.overlong_buffer_tokens >= rl.max_response_tokens:
        raise ValueError(
            f"rl.overlong_buffer_tokens is {rl.overlong_buffer_tokens} and must be smaller than "
            f"rl.max_response_tokens ({rl.max_response_tokens})"
        )
    if profile.hardware.platform == "gpu" and rl.rollout_engine != "vllm":
        raise ValueError(f"rl.rollout_engine is '{rl.rollout_engine}' and must be 'vllm' on GPUs")
    if profile.hardware.platform == "cpu" and rl.importance_cap:
        raise ValueError(
            f"rl.importance_cap is {rl.importance_cap} and must be null on the CPU platform, whose "
            "rollouts and trainer are one policy to 1e-4 nats"
        )
    _check_shares(profile)
    verl_settings(profile)


def _check_shares(profile: Profile) -> None:
    """ValueError unless every rank, of reheating too, gets an equal share of each update."""
    rl, heat, hardware = profile.rl, profile.reheat, profile.hardware
    gpu = hardware.platform == "gpu"
    each = "gpus_per_node" if gpu else "threads"
    ranks = (hardware.gpus_per_node if gpu else verl_command.ranks(profile)) * hardware.nodes
    updates: dict[str, float] = {
        "rl.mini_batch_size x rl.responses_per_prompt": rl.mini_batch_size
        * rl.responses_per_prompt,
    }
    if gpu:  # on a CPU ms-swift is one process
        updates |= {
            f"{name} / reheat.micro_batch_size": batch / heat.micro_batch_size
            for name, batch in (
                ("reheat.batch_size", heat.batch_size),
                ("analysis.long_batch_size", profile.analysis.long_batch_size),
            )
        }
    for name, answers in updates.items():
        if answers % ranks:
            raise ValueError(
                f"hardware.{each} is {getattr(hardware, each)} and, times hardware.nodes "
                f"({hardware.nodes}), must divide {name} ({answers:g}): every rank trains on an "
                "equal share"
            )


def verl_settings(profile: Profile) -> None:
    """ValueError if `rl.verl` sets what verl does not have, by verl's own configuration."""
    if not profile.rl.verl:
        return
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    place = Path("policy")  # nothing is read
    words = verl_command.overrides(profile, start=place, folder=place, steps=1, temperature=1.0)
    spec = importlib.util.find_spec("verl")  # not imported: it patches
    config = Path(str(spec and spec.origin)).parent / "trainer" / "config"
    with initialize_config_dir(str(config), version_base=None):
        try:
            compose("ppo_trainer", overrides=words)
        except HydraException as error:
            raise ValueError(
                f"rl.verl is {profile.rl.verl}, of which verl says: {first_line(error)}; "
                "name settings that it has, or begin a new one's name with +"
            ) from None


def swift_arguments(profile: Profile) -> None:
    """ValueError if `reheat.swift` names no argument of ms-swift's."""
    if not profile.reheat.swift:
        return
    # In a process of its own: ms-swift patches transformers wherever it is imported.
    code = "import dataclasses as d; from swift.arguments import RLHFArguments as A; "
    code += "print(*(field.name for field in d.fields(A)))"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    known = set(asked.stdout.splitlines()[-1].split())
    if unknown := sorted(profile.reheat.swift.keys() - known):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else "name one that it has"
        raise ValueError(f"reheat.swift holds '{unknown[0]}', no argument of `swift rlhf`; {hint}")


def prompts(profile: Profile, policy: Path) -> None:
    """ValueError if a training prompt is too long: verl would end there, ms-swift leave it out."""
    asked = [question.prompt for question in tasks.training(profile)]
    tokenizer = policies.load_tokenizer(policy)
    longest = max(map(len, policies.encode_prompts(tokenizer, asked)))
    if longest > profile.task.max_prompt_tokens:
        raise ValueError(
            f"task.max_prompt_tokens is {profile.task.max_prompt_tokens} and the longest training "
            f"prompt has {longest} tokens; raise it to that"
        )


def plain_head(profile: Profile, policy: Path) -> None:
    """ValueError if logits are to be made of hidden states where a weight is not all that makes them."""
    if not profile.reheat.through_head:
        return
    config = policies.configuration(policy)
    capped_or_scaled = ("final_logit_softcapping", "logit_scale", "logits_scaling")
    more = [name for name in capped_or_scaled if config.get(name)]
    if any("lm_head.bias" in hashes.tensors(file)[0] for file in hashes.weights(policy)):
        more.append("lm_head.bias")
    if more:
        raise ValueError(
            f"reheat.through_head is true and the policy in '{policy.name}' has {more[0]}, on which its "
            "logits depend beside the head's weight; set it to false"
        )


def same_task(profile: Profile, policy: Path) -> None:
    """ValueError unless `policy` reads and writes the tokens of the profile's base policy."""
    own, base = (_language(path) for path in (policy, policies.base(profile)))
    if (own.vocabulary, own.template) != (base.vocabulary, base.template):
        raise ValueError(
            f"the policy in '{policy.name}' has another vocabulary or chat template than "
            f"'{profile.task.base}'; give a policy that was trained from that base"
        )
    if own.ends != base.ends:
        raise ValueError(
            f"the policy in '{policy.name}' ends its answers with the tokens {sorted(own.ends)} and "
            f"'{profile.task.base}' with {sorted(base.ends)}; give both the same eos_token_id in "
            "generation_config.json"
        )


class _Language(NamedTuple):
    """What a policy reads and writes."""

    vocabulary: str
    """SHA-256."""
    template: str
    ends: frozenset[int]


def _language(policy: Path) -> _Language:
    return _read_language(policy, hashes.stamp(hashes.beside_weights(policy)))


@lru_cache
def _read_language(policy: Path, stamp: tuple[tuple[str, int, int], ...]) -> _Language:
    """Cached by its files: each exhibit asks again for each run, and Qwen3's takes seconds to load."""
    tokenizer = policies.load_tokenizer(policy)
    tokens = sorted(tokenizer.get_vocab().items())
    vocabulary = hashes.text_hash(f"{token}\n{number}" for token, number in tokens)
    return _Language(vocabulary, str(tokenizer.chat_template), policies.end_tokens(policy))
