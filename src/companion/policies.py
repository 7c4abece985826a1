"""The base policy that a profile names: a folder of the repository, or a model of the hub."""

from __future__ import annotations

from pathlib import Path

from companion import runs, tasks
from companion.params import ROOT, Profile

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""What a policy needs of a hub's repository: weights, configuration, tokenizer."""


def base(profile: Profile) -> Path:
    """Folder of the policy before any RL; a model of the hub is downloaded once and cached.

    Raises:
        ValueError: the folder is no policy.
        RuntimeError: neither a folder nor to be had from the hub.
    """
    folder = ROOT / profile.task.base
    return runs.check_policy(folder if folder.is_dir() else _download(profile.task.base))


def check_prompts(profile: Profile, policy: Path) -> None:
    """ValueError if a training prompt is too long: verl would end there, ms-swift leave it out."""
    from transformers import AutoTokenizer

    from companion.sampling import encode_prompts

    prompts = [question.prompt for question in tasks.training(profile)]
    longest = max(map(len, encode_prompts(AutoTokenizer.from_pretrained(policy), prompts)))
    if longest > profile.task.max_prompt_tokens:
        raise ValueError(
            f"task.max_prompt_tokens is {profile.task.max_prompt_tokens} and the longest training "
            f"prompt has {longest} tokens; raise it to that"
        )


def _download(name: str) -> Path:
    """The model `owner/name`, or `owner/name@revision`, of the Hugging Face hub."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        httpx.HTTPError,
        OSError,
    ) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise RuntimeError(
            f"task.base is '{name}', which is no folder here and cannot be loaded from the "
            f"Hugging Face hub ({reason}); check the name and the network, or name a local folder"
        ) from None
