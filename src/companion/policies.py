"""A policy on disk: a Hugging Face folder with its tokenizer, found, checked, loaded and asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from companion.params import ROOT
from companion.provenance import portable
from companion.schema import Profile

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""What a policy needs of a hub's repository: weights, configuration, tokenizer."""


def base(profile: Profile) -> Path:
    """Folder of the policy before any RL; a model of the hub is downloaded once and cached.

    Raises:
        ValueError: the folder is no policy.
        RuntimeError: neither a folder nor to be had from the hub.
    """
    folder = ROOT / profile.task.base
    return check_policy(folder if folder.is_dir() else _download(profile.task.base))


def check_policy(folder: Path) -> Path:
    """`folder`, made absolute, if it holds weights, config and tokenizer; else ValueError."""
    folder = folder.resolve()
    needed = ("config.json", "tokenizer.json", "model*.safetensors")
    missing = [name for name in needed if not list(folder.glob(name))]
    if missing:
        raise ValueError(
            f"'{portable(str(folder))}' is no policy: it has no {' and no '.join(missing)}; "
            "give a Hugging Face folder saved with its tokenizer"
        )
    return folder


def load_policy(
    folder: Path, *, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The policy in evaluation mode with its tokenizer, on the first GPU if there is one.

    Args:
        dtype: of the weights; fp32 on CPU and bf16 on a GPU if None.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # a bar for loading three megabytes
    gpu = torch.cuda.is_available()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype or (torch.bfloat16 if gpu else torch.float32),
        attn_implementation="sdpa",
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return model.eval().to("cuda:0" if gpu else "cpu"), tokenizer


def encode_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of user messages in the tokenizer's chat template, ready to be answered."""
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        for prompt in prompts
    ]


def _download(name: str) -> Path:
    """The model `owner/name`, or `owner/name@revision`, of the Hugging Face hub."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    unreachable = (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        httpx.HTTPError,
        OSError,
    )
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=FILES))
    except unreachable as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise RuntimeError(
            f"task.base is '{name}', which is no folder here and cannot be loaded from the "
            f"Hugging Face hub ({reason}); check the name and the network, or name a local folder"
        ) from None
