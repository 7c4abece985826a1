"""Collapsed policies in results/checkpoints: one goes in from a finished run, and can be one again.

Readers ask for checkpoints first, and reheating needs nothing but the collapsed policy. A clone
trains its own all the same, unless it is told to begin with a shipped one (`restore`).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from companion import runs
from companion.commands import manifest
from companion.params import ROOT
from companion.runs import Run
from companion.schema import Profile
from companion.stages import rl

KEPT = ("run.json", "metrics.jsonl")
"""Of the run, beside its policy's files."""
CARD = "README.md"


def ship(profile: Profile) -> Path:
    """Copy the collapsed policy of this profile and seed to results/checkpoints, with its run.

    Raises:
        ValueError: it is not finished here, or another one of this name was shipped.
    """
    run, target = rl.collapse_run(profile), _folder(profile)
    if not run.finished:
        raise ValueError(f"run {run.name} is not finished here; finish it first: {_train(profile)}")
    if target.exists() and runs.read_run(target).record != run.record:
        raise ValueError(f"{target.name} was shipped before, from another run; remove it first")
    manifest.check_unchanged(target.parent)
    if target.exists():
        manifest.write(target.parent, manifest.SHIPPED)  # which a kill may have prevented
        return target
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(run.policy, partial)
    for name in KEPT:
        shutil.copy2(run.folder / name, partial)
    (partial / CARD).write_text(card(profile, run))
    partial.rename(target)
    manifest.write(target.parent, manifest.SHIPPED)
    return target


def _train(profile: Profile) -> str:
    """The command that makes this profile's and seed's collapsed policy."""
    return f"companion reproduce --profile {profile.name} --seed {profile.seed} --only 01_collapse"


def card(profile: Profile, run: Run) -> str:
    """The checkpoint's model card, in the Hub's format."""
    steps, name = run.metrics, _folder(profile).name
    entropy = steps["token_entropy"].dropna().iloc[-1]
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
base_model: countdown-base
tags: [ts-opsd, collapsed, countdown]
---

# {name}

The policy that DAPO (verl) leaves when its entropy has collapsed: where every arm of the study
begins. Profile `{profile.name}`, seed {profile.seed}, {steps["step"].max():.0f} RL steps from
[countdown-base](../countdown-base).

| | |
|---|---|
| mean token entropy, T = 1, of the tokens it samples | {entropy:.4f} nats |
| training reward, mean of the last 10 steps | {steps["reward"].tail(10).mean():.3f} |
| made by | `{run.record["run"]}`: [run.json](run.json), [metrics.jsonl](metrics.jsonl) |

It solves Countdown with three numbers and a vocabulary of a hundred words, and nothing else: a
subject for experiments with entropy that take minutes on two CPU cores.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

policy = AutoModelForCausalLM.from_pretrained("results/checkpoints/{name}")
tokenizer = AutoTokenizer.from_pretrained("results/checkpoints/{name}")
asked = [{{"role": "user", "content": "17 14 9 -> 22"}}]
prompt = tokenizer.apply_chat_template(
    asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
print(tokenizer.decode(policy.generate(**prompt, do_sample=True, max_new_tokens=64)[0]))
```

Reheat it: `companion reheat --policy results/checkpoints/{name} --prompts FILE --out reheated/`.
"""


def restore(profile: Profile) -> Run:
    """The run to collapse of this profile and seed, from what was shipped of it: nothing is trained.

    Finished as it was, but without verl's checkpoint, which the arm that keeps its optimizer needs.

    Raises:
        ValueError: none was shipped of this seed, or one of other settings.
    """
    run, source = rl.collapse_run(profile), _folder(profile)
    if run.finished:
        return run
    if not source.exists():
        raise ValueError(
            f"no collapsed policy of profile '{profile.name}' and seed {profile.seed} is shipped in "
            f"results/checkpoints; train it: {_train(profile)}"
        )
    shipped = runs.read_run(source)
    if shipped.record["run"] != run.name:
        raise ValueError(
            f"{source.name} comes from run {shipped.record['run']}, which other settings than today's "
            f"made (today: {run.name}); train it: {_train(profile)}"
        )
    if run.folder.exists():
        raise ValueError(
            f"run {run.name} was begun here and is not finished; finish it, or remove its folder first"
        )
    partial = run.folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in KEPT:
        shutil.copy2(source / name, partial)
    shutil.copytree(source, partial / "policy", ignore=shutil.ignore_patterns(*KEPT, CARD))
    if wrong := replace(run, folder=partial).shortfalls(wholly=True):
        shutil.rmtree(partial)
        raise ValueError(f"of {source.name} in results/checkpoints, {wrong[0]}; restore that first")
    partial.rename(run.folder)
    return run


def _folder(profile: Profile) -> Path:
    return ROOT / "results" / "checkpoints" / f"{profile.name}-collapsed-seed{profile.seed}"
