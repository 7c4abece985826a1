"""Tables 3 to 5: the paper's settings beside those that ran."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from companion import paper, tasks
from companion.exhibits.exhibit import Shown
from companion.schema import Profile


def make(profile: Profile, number: int, ran: Mapping[str, str] | None = None) -> Shown:
    """Table 3, 4 or 5; args as `table`."""
    plain = table(profile, number, ran)
    return Shown(table=plain, as_text=plain, sentence=sentence(plain))


def table(profile: Profile, number: int, ran: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Table 3 (RL), 4 (OPSD) or 5 (evaluation): the paper's settings beside the profile's.

    A row a hyperparameter: columns paper and here as text (empty where the paper's text lost the
    number), and differs, "≠" where both are given and are not equal.

    Args:
        ran: by the paper's name, what the runs say and the profile only bounds.
    """
    reported = paper.hyperparameters().query("table == @number")
    ours = _settings(profile)[number] | dict(ran or {})
    rows = {
        row.hyperparameter: (row.value, ours.get(row.hyperparameter, ""))
        for row in reported.fillna("").itertuples()
    }
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["paper", "here"])
    unequal = [paper and here and not _equal(paper, here) for paper, here in rows.values()]
    return frame.assign(differs=["≠" if odd else "" for odd in unequal])


def _settings(profile: Profile) -> dict[int, dict[str, str]]:
    """What the profile says under the paper's names, by table."""
    rl, heat, asked = profile.rl, profile.reheat, profile.evaluation
    precision = "float32" if profile.hardware.platform == "cpu" else "bfloat16"
    tables: dict[int, dict[str, object]] = {
        3: {
            "Framework": "verl",
            "Training data": tasks.of(profile.task.name).TRAINING,
            "Optimizer": "AdamW",
            "Learning rate": rl.learning_rate,
            "LR warmup steps": rl.warmup_steps,
            "Weight decay": rl.weight_decay,
            "Train batch size": rl.batch_size,
            "Responses per prompt": rl.responses_per_prompt,
            "PPO mini-batch size": rl.mini_batch_size,
            "Clip ratio low": rl.clip_low,
            "Clip ratio high": rl.clip_high,
            "Clip ratio c": rl.clip_c,
            "Gradient clip": rl.gradient_clip,
            "Loss aggregation": "token-mean",
            "KL loss": "disabled",
            "Entropy coefficient": rl.entropy_coeff,
            "Max response length": rl.max_response_tokens,
            "Rollout temperature": rl.rollout_temperature,
            "Rollout top-p": rl.rollout_top_p,
            "Overlong buffer": "enabled" if rl.overlong_buffer_tokens else "disabled",
            "Overlong buffer length": rl.overlong_buffer_tokens,
            "Rollout temperature (RR)": rl.rr_temperature,
            "Overlong penalty factor": rl.overlong_penalty,
            "Dynamic sampling": "on" if rl.dynamic_sampling else "off",
        },
        4: {
            "Framework": "GKD (swift)",
            "Teacher temperature": heat.tau,
            "Logit coverage": "full vocabulary",
            "Learning rate": heat.learning_rate,
            "LR schedule": "constant",
            "Effective batch size": heat.batch_size,
            "Rollout sampling": "on-policy",
            "Rollout temperature": 1.0,
            "Precision": precision,
            "Max completion length": heat.max_completion_tokens,
        },
        5: {
            "Samples per prompt": asked.samples,
            "Sampling temperature": asked.temperature,
            "Top-p": asked.top_p,
            "Top-k": "disabled",
            "Max new tokens": asked.max_new_tokens,
            "Precision": precision,
        },
    }
    return {table: {k: str(v) for k, v in rows.items()} for table, rows in tables.items()}


def _equal(paper: str, here: str) -> bool:
    try:
        return float(paper) == float(here)
    except ValueError:
        return paper.lower() == here.lower()


def sentence(table: pd.DataFrame) -> str:
    odd = list(table.index[table["differs"] == "≠"])
    same = int((table["paper"] != "").sum()) - len(odd)
    return f"{same} settings are the paper's; different are: {', '.join(odd).lower() or 'none'}."
