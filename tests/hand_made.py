"""A study of hand-made runs, as the stages would have left them: in milliseconds, of nonsense."""

import pandas as pd
from conftest import save_policy

from companion import params, runs
from companion.study import arms
from companion.tasks import countdown

PROFILE = params.load("smoke", {"seed": 7})
METRICS = pd.DataFrame({"step": [1, 2], "reward": [0.1, 0.2], "token_entropy": [None, 0.2]})


def run(profile, root, stage, slug, settings, arm=None, samples=None, policy="base", entropy=0.1):
    """A finished run of this seed; with samples, or the steps of a training."""
    made = runs.open_run(profile, stage, slug, settings | {"seed": profile.seed},
                         {"policy": save_policy(root / policy, norm=[float(len(policy))])})  # fmt: skip
    with made.recording(arm=arm) as result:
        result["token_entropy"] = {
            "value": entropy, "low": entropy - 0.01, "high": entropy + 0.01
        }  # fmt: skip
        if samples is None:
            save_policy(made.policy)
            METRICS.to_json(made.folder / "metrics.jsonl", orient="records", lines=True)
        else:
            samples.to_parquet(made.folder / "samples.parquet")
    return made


def samples(shift, label):
    return pd.DataFrame(
        {"suite": suite, "problem": f"p{p}", "sample": s, "correct": (p + s + shift) % 3 == 0,
         "prompt": f"{p}", "gold": f"{p}", "answer": "yes", "token_ids": [p, s],
         "ended": s > 0 or label != "Base"}
        for suite in countdown.suites(PROFILE.task, "test") for p in range(4) for s in range(8)
    )  # fmt: skip


def study(profile, root, **changes):
    """The study's runs of the profile's seed, by role; `changes` of their settings."""
    training = {
        arm: run(profile, root, "rl", f"{i}-seed{profile.seed}",
                 {"stop_entropy": None if i else 0.1, "steps": 2, "train_data": "a"} | changes, arm)
        for i, arm in enumerate(("Collapsed", *arms.ARMS))
    }  # fmt: skip
    evaluations = {
        label: run(profile, root, "evaluate", f"{i}-seed{profile.seed}",
                   {"label": label, "split": "test", "samples": 8} | changes, samples=samples(i, label))
        for i, label in enumerate((*arms.ROWS, *arms.REHEATED))
    }  # fmt: skip
    return {"training": training, "reheated": {}, "evaluations": evaluations}
