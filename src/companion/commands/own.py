"""A profile for a policy and prompts of one's own: what is not asked for is measured, or the study's."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from companion import hashes, params, policies
from companion.schema import Profile, Teacher
from companion.tasks import own

PROFILES = {"cpu": "own", "gpu": "own-gpu"}
"""Whose settings hold but for what a caller says, by platform."""
COLLAPSED = 1 / 3
"""Of a reference's entropy: below it a policy counts as collapsed, as in the study."""
MEASURED = 320
"""Prompts of the entropy measure at most, as in the study."""
UPDATES = 60
"""Of a reheating, at most, as in the study."""
SHOWN = 100
"""Prompts whose answers are compared, token by token, at most."""


def profile(
    policy: str,
    prompts: str,
    *,
    platform: str = "cpu",
    max_tokens: int = 512,
    reward: str | None = None,
    seed: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Profile:
    """Every prompt of the file for everything: nothing of it is a label that could leak.

    Args:
        policy: a Hugging Face folder, or a model of the hub.
        prompts: a file of JSON lines or parquet (tasks/own.py), or a data set of the hub.
        max_tokens: of an answer, in reheating and in every measure.
        reward: what judges answers to rows with a gold: exact, math or file.py:function.
        changes: of fields of the profile, by their dotted names.

    Raises:
        ValueError: in one sentence: no policy, no prompts, or they do not fit into its context.
    """
    if platform not in PROFILES:
        raise ValueError(f"--platform is '{platform}' and must be {' or '.join(PROFILES)}")
    folder, file = found(policy), here(prompts)
    try:
        rows = len(own.read(file))
    except RuntimeError as error:  # the hub's
        raise ValueError(str(error)) from None
    longest = _longest(folder, file)
    known = policies.configuration(folder).get("max_position_embeddings")
    if known and longest + max_tokens > known:
        raise ValueError(
            f"the longest prompt has {longest} tokens, and with --max-tokens {max_tokens} it does not "
            f"fit into the policy's context of {known}; lower --max-tokens, or leave that prompt out"
        )
    asked = {
        "task.base": str(folder),
        "task.collapsed": str(folder),
        "task.prompts": file,
        "task.grader": _from_here(reward) if reward else "exact",
        "task.ood": None,
        "task.held_out": 0,
        "task.train_problems": rows,
        "task.validation_problems": rows,
        "task.test_problems": rows,
        "task.max_prompt_tokens": longest,
        "rl.max_response_tokens": max_tokens,
        "rl.overlong_buffer_tokens": 0,
        "reheat.max_completion_tokens": max_tokens,
        "reheat.max_steps": UPDATES,
        "reheat.keep_checkpoints": False,
        "entropy.prompts": min(rows, MEASURED),
        "evaluation.max_new_tokens": max_tokens,
        "analysis.problems": min(rows, SHOWN),
        "analysis.samples": 1,
    }
    overrides = None if seed is None else {"seed": seed}
    return params.load(PROFILES[platform], overrides, asked | dict(changes or {}))


def found(policy: str) -> Path:
    """The policy's folder, whole; a model of the hub is downloaded once. ValueError if there is none."""
    if not (Path(policy).expanduser().exists() or own.of_a_hub(policy)):
        raise ValueError(
            f"'{policy}' is no folder here, and no name of a hub's model; give a policy"
        )
    try:
        return policies.find(here(policy))
    except RuntimeError as error:  # the hub's
        raise ValueError(str(error)) from None


def here(name: str) -> str:
    """A path from where the command is called, where there is one; else as it is, for a hub."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() or not own.of_a_hub(name) else name


def _from_here(reward: str) -> str:
    """A grader's file, from where the command is called."""
    file, colon, function = reward.rpartition(":")
    return f"{Path(file).expanduser().absolute()}:{function}" if colon else reward


def _longest(policy: Path, prompts: str) -> int:
    """Tokens of the longest prompt, in the policy's own chat template."""
    tokenizer = policies.load_tokenizer(policy)
    asked = [question.prompt for question in own.read(prompts)]
    return max(map(len, policies.encode_prompts(tokenizer, asked)))


def parameters(policy: Path) -> int:
    """How many numbers a policy's tensors hold."""
    tensors = [t for file in hashes.weights(policy) for t in hashes.tensors(file)[0].values()]
    return sum(math.prod(tensor["shape"]) for tensor in tensors)


RATES: dict[Teacher, float] = {"frozen": 2e-4, "live": 2e-5}
"""Learning rates that suit 0.8M parameters, by the teacher; the paper's 1e-6 suits 4B."""


def learning_rate(parameters: int, teacher: Teacher) -> float:
    """On a straight line in logarithms from RATES to the paper's: a place to begin, to two digits."""
    slope = math.log(RATES[teacher] / 1e-6) / math.log(4e9 / 0.8e6)
    return float(f"{RATES[teacher] * (0.8e6 / parameters) ** slope:.1e}")


def check_empty(out: Path) -> None:
    """ValueError unless a policy may be written there."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out is '{out}', where something is already; name another folder")


def saved(out: Path, save: Callable[[Path], None]) -> Path:
    """`out` with what `save` writes to a folder: a whole policy, all of it or nothing."""
    check_empty(out)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save(partial)
    policies.check_policy(partial)
    if out.exists():
        out.rmdir()  # empty
    return partial.rename(out)
