"""One step of verl (as rl.py runs it) beside one step of a bare loop of the same arithmetic.

The loop is plain PyTorch around the policy: it samples 64 x 8 answers, grades them, and updates once
by DAPO's clipped loss on the rows that have an advantage. It shares nothing with verl or sampling.py,
so that it also checks what verl's runs mean: reward, length and entropy should lie near each other.
Both train from one policy, in turn, `--pairs` times.

    python benchmarks/verl_vs_bare.py --policy results/checkpoints/countdown-base --steps 12 --pairs 5

writes results/benchmarks/verl_vs_bare.{csv,json}: medians (seconds a step, tokens an answer), ratio.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from companion import params, tasks  # before torch: GOMP_SPINCOUNT
from companion.adapters.rewards import compute_score
from companion.provenance import provenance
from companion.schema import Profile

# isort: split
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from verl_vs_trl import verl_steps

BAR = 1.25
SETTLED = 3
"""Steps that are left out: in the first ones both still import and allocate."""


@torch.inference_mode()
def answer(model, prompts, end, limit):
    """Sample at T = 1: tokens (-1 past the end), log-probabilities, entropies, each [answers, limit]."""
    tokens = torch.full((len(prompts), limit), -1)
    log_probs, entropies = torch.zeros(2, len(prompts), limit)
    width = max(map(len, prompts))
    inputs = torch.tensor([[end] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    going, cache = torch.arange(len(prompts)), DynamicCache(config=model.config)
    for step in range(limit):
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -inputs.shape[1] :]
        logits = model(
            input_ids=inputs,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            logits_to_keep=1,
        ).logits[:, -1]
        log_p = logits.log_softmax(-1)
        drawn = log_p.exp().multinomial(1)
        tokens[going, step] = drawn[:, 0]
        log_probs[going, step] = log_p.gather(-1, drawn)[:, 0]
        entropies[going, step] = -(log_p.exp() * log_p).sum(-1)
        on = drawn[:, 0] != end
        if not on.any():
            break
        if on.sum() < 7 / 8 * len(on):
            cache.batch_select_indices(on.nonzero()[:, 0])
            going, drawn, mask = going[on], drawn[on], mask[on]
        inputs, mask = drawn, torch.cat([mask, mask.new_ones(len(mask), 1)], -1)
    after_end = (tokens == end).cumsum(-1) - (tokens == end).long() > 0
    tokens[after_end] = -1
    return tokens, log_probs, entropies.masked_fill(tokens < 0, 0.0)


def reward(profile, question, row, tokenizer):
    """1 or 0, less DAPO's penalty for answers that reach into the last tokens of the budget."""
    rl, text = profile.rl, tokenizer.decode(row, skip_special_tokens=True)
    source = f"{profile.task.name}/{question.suite}"
    score = compute_score(source, text, question.gold, **tasks.reward(profile))["score"]
    excess = len(row) - (rl.max_response_tokens - rl.overlong_buffer_tokens)
    return score - max(0.0, excess / rl.overlong_buffer_tokens) * rl.overlong_penalty


def update(model, optimizer, rl, prompts, tokens, old, advantages, rows=32):
    """One step on the clipped loss, a mean over all tokens, those without advantage included."""
    count = (tokens >= 0).sum()
    busy = advantages.nonzero()[:, 0]
    busy = busy[(tokens[busy] >= 0).sum(-1).argsort()]
    optimizer.zero_grad()
    for part in busy.split(rows):
        length = int((tokens[part] >= 0).sum(-1).max())
        texts = [prompts[i] + tokens[i, tokens[i] >= 0].tolist() for i in part]
        width = max(map(len, texts))
        inputs = torch.tensor([text + [0] * (width - len(text)) for text in texts])
        log_p = model(input_ids=inputs).logits.log_softmax(-1)
        begins = torch.tensor([len(prompts[i]) - 1 for i in part])
        places = (begins[:, None] + torch.arange(length)).clamp(max=width - 1)
        answers = tokens[part, :length]
        rows_of = torch.arange(len(part))[:, None]
        log_p = log_p[rows_of, places, answers.clamp(min=0)]
        ratio = (log_p - old[part, :length]).exp()
        gain = advantages[part, None]
        clipped = ratio.clamp(1 - rl.clip_low, 1 + rl.clip_high)
        loss = torch.maximum(-gain * ratio, -gain * clipped)
        loss = torch.where(gain < 0, loss.minimum(-gain * rl.clip_c), loss)
        ((loss * (answers >= 0)).sum() / count).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), rl.gradient_clip)
    optimizer.step()


def bare_steps(profile: Profile, policy: Path, steps: int) -> pd.DataFrame:
    """Seconds, mean answer length (tokens), reward and entropy (nats) of every step."""
    torch.set_num_threads(profile.hardware.threads)
    torch.manual_seed(profile.seed)
    rl, tokenizer = profile.rl, AutoTokenizer.from_pretrained(policy)
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=rl.weight_decay)
    questions, found = tasks.training(profile), []
    for step in range(steps):
        begun = time.perf_counter()
        optimizer.param_groups[0]["lr"] = rl.learning_rate * min(1.0, step / rl.warmup_steps)
        chosen = [questions[i] for i in torch.randperm(len(questions))[: rl.batch_size].tolist()]
        chosen = [question for question in chosen for _ in range(rl.responses_per_prompt)]
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question.prompt}],
                add_generation_prompt=True,
                return_dict=False,
            )
            for question in chosen
        ]
        parts = [
            answer(model, prompts[i : i + 256], tokenizer.eos_token_id, rl.max_response_tokens)
            for i in range(0, len(prompts), 256)
        ]
        tokens, old, entropies = map(torch.cat, zip(*parts, strict=True))
        rewards = torch.tensor(
            [
                reward(profile, question, row[row >= 0].tolist(), tokenizer)
                for question, row in zip(chosen, tokens, strict=True)
            ]
        )
        groups = rewards.view(-1, rl.responses_per_prompt)
        spread = groups.std(-1, keepdim=True) + 1e-6
        advantages = ((groups - groups.mean(-1, keepdim=True)) / spread).flatten()
        update(model, optimizer, rl, prompts, tokens, old, advantages)
        found.append(
            {
                "step": step + 1,
                "seconds": time.perf_counter() - begun,
                "tokens": float((tokens >= 0).sum() / len(tokens)),
                "reward": float(rewards.mean()),
                "entropy": float(entropies.sum() / (tokens >= 0).sum()),
            }
        )
    return pd.DataFrame(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--policy", default="results/checkpoints/countdown-collapsed")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=params.ROOT / "results" / "benchmarks")
    asked = parser.parse_args()
    profile = params.load(asked.profile, {"task.base": asked.policy})
    frames = []
    for pair in range(asked.pairs):
        with tempfile.TemporaryDirectory() as folder:
            verl = verl_steps(profile, Path(folder), asked.steps)
        bare = bare_steps(profile, params.ROOT / asked.policy, asked.steps)
        frames += [verl.assign(loop="verl", pair=pair), bare.assign(loop="bare", pair=pair)]
        print(pd.concat(frames[-2:]).groupby("loop").median(numeric_only=True), flush=True)
    frame = pd.concat(frames)
    medians = frame[frame["step"] > SETTLED].groupby(["pair", "loop"]).median(numeric_only=True)
    seconds = medians["seconds"].unstack()
    ratios = seconds["verl"] / seconds["bare"]
    summary = {
        "median_seconds": seconds.median().round(3).to_dict(),
        "mean_tokens": medians["tokens"].unstack().mean().round(1).to_dict(),
        "ratio": round(float(ratios.median()), 3),
        "ratios": ratios.round(3).tolist(),
        "bar": BAR,
        "policy": asked.policy,
        "profile": asked.profile,
        "steps": asked.steps,
        **provenance(),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(asked.out / "verl_vs_bare.csv", index=False)
    (asked.out / "verl_vs_bare.json").write_text(json.dumps(summary, indent=1) + "\n")
    print(json.dumps({k: summary[k] for k in ("median_seconds", "mean_tokens", "ratio")}))


if __name__ == "__main__":
    main()
