"""A policy on disk: a Hugging Face folder with its tokenizer, found, checked, loaded and asked."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from companion import hashes
from companion.params import ROOT, place
from companion.provenance import first_line, portable
from companion.schema import Profile

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Prompt: TypeAlias = "str | list[dict[str, str]]"
"""A user message; or a conversation that ends with one: messages with role and content."""
DRAWN = "random:"
"""Before the folder of a policy without weights: they are drawn."""
CAUSAL = ("ForCausalLM", "LMHeadModel")
"""How the architecture of a causal language model ends."""
FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
"""What a policy needs of a hub's repository: weights, configuration, tokenizer."""


def base(profile: Profile) -> Path:
    """Folder of the policy before any RL; errors as `find`."""
    return find(profile.task.base)


def find(name: str) -> Path:
    """Folder of a policy, by its path or its name on the hub, where it is downloaded from once.

    "random:FOLDER" has all that FOLDER has, and weights drawn from a fixed seed: a real shape for a
    trial where no hub is reachable.

    Raises:
        ValueError: the folder is no policy.
        RuntimeError: neither a folder nor to be had from the hub.
    """
    if name.startswith(DRAWN):
        return check_policy(_drawn(place(name.removeprefix(DRAWN))))
    folder = place(name)
    return check_policy(folder if folder.is_dir() else _download(name))


def check_policy(folder: Path) -> Path:
    """`folder`, made absolute, if a whole policy lies there; ValueError in one sentence otherwise.

    Looks at the configuration, the tokenizer's files and the head of every file of weights, without
    a framework. `load_policy` refuses what only loading tells.
    """
    folder = folder.absolute()  # not resolved: runs/ may be a link, and stays runs/ in run.json
    if (folder / "adapter_config.json").exists():
        raise _no_policy(folder, "it is an adapter, which is to be merged into its model first")
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise _no_policy(folder, f"it has no {' and no '.join(missing)}")
    for path in sorted(folder.glob("*.json")):
        try:
            if not isinstance(json.loads(path.read_text()), dict):
                raise ValueError("no JSON object")
        except ValueError as error:
            raise _no_policy(folder, f"its {path.name} cannot be read ({error})") from None
    for file, names in hashes.weights(folder).items():
        if absent := sorted(names - hashes.tensors(file)[0].keys()):
            raise _no_policy(
                folder, f"its {file.name} has no {absent[0]}, which {hashes.SHARDS} says it holds"
            )
    config = configuration(folder)
    if "quantization_config" in config:
        raise _no_policy(folder, "its weights are quantized, and it cannot be trained as it is")
    if not any(str(name).endswith(CAUSAL) for name in config.get("architectures") or []):
        raise _no_policy(folder, f"its architectures are {config.get('architectures')}")
    return folder


def configuration(folder: Path) -> dict[str, Any]:
    """The policy's config.json."""
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def _no_policy(folder: Path, why: str) -> ValueError:
    return ValueError(
        f"'{portable(str(folder))}' is no policy: {why}; give a whole Hugging Face folder of a "
        "causal language model, saved with its tokenizer"
    )


def load_policy(
    folder: Path, *, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The policy in evaluation mode with its tokenizer, on the first GPU if there is one.

    Args:
        dtype: of the weights; fp32 on CPU and bf16 on a GPU if None.

    Raises:
        ValueError: it does not load, weights are missing, not finite or of another shape than its
            configuration says, or its tokenizer knows tokens that it does not.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()  # a bar for loading three megabytes
    gpu = torch.cuda.is_available()
    check_policy(folder)
    tokenizer = load_tokenizer(folder)
    try:
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or (torch.bfloat16 if gpu else torch.float32),
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, as what is missing is
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a library says of a file that it cannot use
        raise _no_policy(folder, f"it does not load ({first_line(error)})") from None
    wrong = sorted(told["missing_keys"]) + sorted(key[0] for key in told["mismatched_keys"])
    if wrong:
        raise _no_policy(folder, f"it has no {wrong[0]} of the shape that its config.json says")
    if broken := [name for name, w in model.named_parameters() if not w.isfinite().all()]:
        raise _no_policy(folder, f"its {broken[0]} holds what is no finite number")
    if len(tokenizer) > (known := model.get_input_embeddings().num_embeddings):
        raise _no_policy(
            folder, f"its tokenizer has {len(tokenizer)} tokens and its weights {known}"
        )
    return model.eval().to("cuda:0" if gpu else "cpu"), tokenizer


def release() -> None:
    """Give back what torch keeps of a GPU after its last policy: a framework may want it next."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The policy's tokenizer; ValueError if it does not load, or cannot put or end a question."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # whatever a library says of a file that it cannot use
        raise _no_policy(folder, f"its tokenizer does not load ({first_line(error)})") from None
    if not tokenizer.chat_template:
        raise _no_policy(folder, "its tokenizer has no chat template")
    if tokenizer.eos_token_id is None:
        raise _no_policy(folder, "its tokenizer has no end token")
    return tokenizer


def end_tokens(folder: Path) -> frozenset[int]:
    """Every token that ends an answer: the tokenizer's, and those of generation_config.json.

    Qwen3 lists two. All engines end with all of them, and so does what counts cut answers.
    """
    path = folder / "generation_config.json"
    listed = json.loads(path.read_text()).get("eos_token_id") if path.exists() else []
    named = listed if isinstance(listed, list) else [listed]
    return frozenset({load_tokenizer(folder).eos_token_id, *named} - {None})


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]
) -> list[list[int]]:
    """Token ids of prompts in the tokenizer's chat template, ready to be answered."""
    return [
        tokenizer.apply_chat_template(
            as_messages(prompt), add_generation_prompt=True, return_dict=False
        )
        for prompt in prompts
    ]


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    """As a chat template takes it."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def as_text(prompt: Prompt) -> str:
    """As it is read, hashed and kept: the user message, or the conversation in JSON."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def _drawn(start: Path) -> Path:
    """The policy of this configuration and tokenizer with random weights, made once, in runs/random/."""
    import torch
    import transformers

    for name in ("config.json", "tokenizer.json"):
        if not (start / name).is_file():
            raise _no_policy(start, f"it has no {name}")
    files = {
        file.name: file.read_text() for pattern in FILES for file in sorted(start.glob(pattern))
    }
    config = transformers.AutoConfig.from_pretrained(start)
    files["tokenizer.json"] = _filled(files["tokenizer.json"], config.vocab_size)
    hashed = hashes.text_hash(name + text for name, text in files.items())
    folder = ROOT / "runs" / "random" / f"{start.name}-{hashed[:8]}"
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            transformers.AutoModelForCausalLM.from_config(config).float().save_pretrained(partial)
        for name, text in files.items():
            (partial / name).write_text(text)
        partial.rename(folder)
    return folder


def _filled(tokenizer: str, size: int) -> str:
    """A tokenizer.json with a token for each of the head's `size` rows.

    verl 0.9.1's rollouts draw none that the tokenizer lacks (vllm_rollout/utils.py): the weights of
    another vocabulary's size would be another policy there than where they are trained.
    """
    whole = json.loads(tokenizer)
    vocabulary = whole["model"]["vocab"]
    known = {*vocabulary.values(), *(token["id"] for token in whole["added_tokens"])}
    vocabulary |= {f"<unused {i}>": i for i in range(size) if i not in known}
    return json.dumps(whole, ensure_ascii=False)


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
        raise RuntimeError(
            f"the policy is '{name}', which is no folder here and cannot be loaded from the "
            f"Hugging Face hub ({first_line(error)}); check the name and the network, or name "
            "a local folder"
        ) from None
