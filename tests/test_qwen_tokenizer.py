"""Qwen3's real tokenizer: what it makes of the paper-scale prompts (slow: its ranks are downloaded).

No hub can be reached from here. Qwen's byte-pair ranks also lie in a package of the registry
(dashscope's qwen.tiktoken, Apache-2.0), and Qwen3's chat template in TRL.
"""

import json
import subprocess
import sys
import zipfile

import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter
from trl.chat_template_utils import qwen3_chat_template

from companion import params, policies, tasks

pytestmark = pytest.mark.slow

RANKS = (
    "dashscope==2.0.2"
    " --hash=sha256:0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258"
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Qwen2 and Qwen3 split text before their ranks apply: transformers' models/qwen2."""
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
PLAIN = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
]  # fmt: skip
"""From 151,643 on, as Qwen3's tokenizer_config.json lists them; the latter stay in decoded text."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Qwen3's tokenizer as a Hugging Face folder."""
    place = tmp_path_factory.mktemp("qwen")
    wanted = place / "wanted.txt"
    wanted.write_text(RANKS)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "-r", str(wanted), "-d", str(place)], check=True)
    [wheel] = place.glob("dashscope-*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extract("dashscope/resources/qwen.tiktoken", place)
    made = TikTokenConverter(
        str(place / "dashscope" / "resources" / "qwen.tiktoken"), pattern=SPLIT
    ).converted()
    # In this order, before any is named: their ids are their places.
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    made.add_tokens([AddedToken(t, special=False, normalized=False) for t in PLAIN])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = qwen3_chat_template
    tokenizer.save_pretrained(place / "tokenizer")
    ends = {"eos_token_id": [151645, 151643]}
    (place / "tokenizer" / "generation_config.json").write_text(json.dumps(ends))
    return place / "tokenizer"


@pytest.fixture(scope="module")
def tokenizer(folder):
    return policies.load_tokenizer(folder)


def test_it_is_qwens(tokenizer):
    """Ids that are widely printed; digits stand alone."""
    assert tokenizer.encode("Hello, world!") == [9707, 11, 1879, 0]
    assert tokenizer.encode("123") == [16, 17, 18]
    ids = {t: tokenizer.convert_tokens_to_ids(t) for t in (*SPECIAL, *PLAIN)}
    assert list(ids.values()) == list(range(151643, 151669))
    assert (ids["<|im_end|>"], ids["<think>"], ids["</think>"]) == (151645, 151667, 151668)
    assert len(tokenizer) == 151669 <= 151936  # what the models' embeddings are padded to


def test_a_prompt_is_one_user_turn_without_thinking(tokenizer):
    [ids] = policies.encode_prompts(tokenizer, ["What is 2 + 2?"])
    text = tokenizer.decode(ids)
    assert text == "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert "<think>" not in text and ids.count(151644) == 2  # each turn's start is one token


def test_an_answer_ends_with_either_end_and_keeps_its_thoughts(folder, tokenizer):
    assert policies.end_tokens(folder) == {151643, 151645}
    said = [*tokenizer.encode("<think>\nfour\n</think>\n\nAnswer: 4"), 151645]
    text = tokenizer.decode(said, skip_special_tokens=True)
    assert text == "<think>\nfour\n</think>\n\nAnswer: 4"  # a grader sees them, and no end token
    profile = params.load("qwen3-4b")
    assert tasks.judge(profile, [text, text.replace("4", "5")], ["4", "4"])["correct"].tolist() == [
        True, False
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["qwen3-0.6b", "qwen3-4b", "qwen3-8b"])
def test_every_real_problem_fits_into_the_prompts_limit(folder, tokenizer, real, name):
    """MATH-500, AIME 2024 and 2025, OlymMATH; those that are not at hand are left out."""
    have = {"MATH-500", "AIME24", "AIME25", "OlymMATH"}
    profile = params.load(name, {"task.data": str(real)})
    missing = [s for s in tasks.of("math").suites(profile.task, "test") if s not in have]
    profile = params.change(profile, {"task.leave_out": missing})
    asked = [q.prompt for q in tasks.held_out(profile, "test")]
    lengths = [len(ids) for ids in policies.encode_prompts(tokenizer, asked)]
    assert len(asked) == 500 + 30 + 30 + 200
    assert max(lengths) <= profile.task.max_prompt_tokens
    assert min(lengths) > 60  # the template's words and the problem's
