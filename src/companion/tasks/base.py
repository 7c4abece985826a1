"""Makes the base policy: a small Qwen3 fitted to random, correct Countdown searches.

`python -m companion.tasks.base --out DIR --seed S` trains it from scratch on problems of the
train split. First most attempts reach the target, so that the policy learns what leads there;
then few do, which leaves a policy that can solve more than it does: what RL starts from.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from companion.provenance import provenance
from companion.tasks import countdown

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM


@dataclass(frozen=True)
class Phase:
    """Supervised steps on searches of one kind."""

    steps: int
    solving: float
    """The share of attempts that follow the known solution; the others are random."""


PHASES = (Phase(3000, 0.85), Phase(300, 0.05))
COUNTS = {3: 0.75, 4: 0.25}
"""How many numbers a problem has -> its share of the rows."""
BATCH = 128
MICRO_BATCH = 32
LEARNING_RATE = 3e-3
ANSWER_TOKENS = 96
"""Longer searches are cut here, without an end token: giving up is not in the data."""


def search(
    problem: countdown.Problem, solution: list[str], phase: Phase, rng: random.Random
) -> str:
    """A random search: attempts until one reaches the target, or the answer is long enough."""
    lines: list[str] = []
    solved = False
    while not solved and len(" \n ".join(lines).split(" ")) <= ANSWER_TOKENS:
        known = rng.random() < phase.solving
        attempt = solution if known else countdown.random_attempt(problem.numbers, rng)
        solved = countdown.reached(attempt) == problem.target
        lines += [*attempt[:-1], f"{attempt[-1]} {'yes' if solved else 'no'}"]
    return " \n ".join(lines)


def example(
    tokenizer: PreTrainedTokenizerFast, phase: Phase, rng: random.Random
) -> tuple[list[int], list[int]]:
    """One row to fit: token ids of the prompt and of the answer with its end token."""
    (count,) = rng.choices(list(COUNTS), list(COUNTS.values()))
    problem, solution = countdown.random_problem(count, rng)
    while countdown.split_of(problem) != "train":
        problem, solution = countdown.random_problem(count, rng)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": countdown.prompt(problem)}],
        add_generation_prompt=True,
        return_dict=False,
    )
    answer = tokenizer(search(problem, solution, phase, rng))["input_ids"]
    return prompt, [*answer, tokenizer.eos_token_id][:ANSWER_TOKENS]


def padded(rows: list[tuple[list[int], list[int]]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows (prompt, answer) as inputs and labels [rows, tokens]; only answers are labelled.

    Padding is on the right: causal attention keeps it from every answer token.
    """
    import torch

    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    inputs = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), -100)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        inputs[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return inputs, labels


def new_policy(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """Qwen3 with random weights: 4 layers of width 128, 0.8M parameters, fp32."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            # Twice as fast as sdpa on a CPU, for sequences this short.
            attn_implementation="eager",
        )
    )


def fit(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Cross-entropy on the answers; AdamW, linear warm-up and decay over all phases."""
    import torch

    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.01
    )
    phases = [phase for phase in PHASES for _ in range(phase.steps)]
    started = time.monotonic()
    for step, phase in enumerate(phases):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / 50, 1 - step / len(phases))
        rows = [example(tokenizer, phase, rng) for _ in range(BATCH)]
        rows.sort(key=lambda row: len(row[0] + row[1]))  # rows of like lengths: less padding
        total = sum(len(answer) for _, answer in rows)
        optimizer.zero_grad()
        loss = 0.0
        for part in range(0, BATCH, MICRO_BATCH):
            inputs, labels = padded(rows[part : part + MICRO_BATCH], tokenizer.pad_token_id)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                share = model(input_ids=inputs, labels=labels, num_items_in_batch=total).loss
            share.backward()
            loss += share.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == len(phases) - 1:
            elapsed = time.monotonic() - started
            print(f"step {step:5d}  loss {loss:.4f} nats  {elapsed:6.0f} s", flush=True)


def make(out: Path, seed: int) -> None:
    """Train the base policy; writes a Hugging Face folder and how it was made (run.json)."""
    from transformers import GenerationConfig

    tokenizer = countdown.tokenizer()
    model = new_policy(tokenizer, seed)
    made = {
        "command": ["python", "-m", "companion.tasks.base", "--seed", str(seed)],
        "phases": [asdict(phase) for phase in PHASES],
        **provenance(),
    }
    fit(model, tokenizer, seed)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "run.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument("--seed", type=int, default=1)
    make(**vars(parser.parse_args()))
