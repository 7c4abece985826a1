"""The runs behind the paper's analyses: reheating and RL under other conditions than the study's.

Each starts from the study's policies and changes what its figure is about, nothing else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from companion import params, policies
from companion.runs import Run
from companion.schema import Profile
from companion.stages import evaluate, merge, reheat, rl, scaling
from companion.study import arms

ENDLESS = {"reheat.recovery_entropy": None, "reheat.ceiling_entropy": None}
"""Neither the stop nor the guard against divergence: reheating goes on to its last step."""


def path(profile: Profile) -> dict[int, Path]:
    """Policies along the study's PR-FKL reheating by step, from the collapsed one (step 0).

    `analysis.checkpoints` of them, evenly spaced, the last one included (Fig. 4 to 6, Table 2).
    """
    policies = {0: arms.collapsed(profile), **_reheating(profile, "PR-FKL")}
    at = np.linspace(0, len(policies) - 1, min(profile.analysis.checkpoints, len(policies)))
    return _at(policies, at)


def _reheating(profile: Profile, name: str) -> dict[int, Path]:
    """The kept checkpoints of one of `arms.heated`, by step; the last is the policy that it made."""
    run = arms.heated(profile, name)
    last = run.result["step"]
    kept = {step: policy for step, policy in reheat.checkpoints(run).items() if step < last}
    return {**kept, last: run.policy}


def _at(policies: dict[int, Path], places: np.ndarray) -> dict[int, Path]:
    """Those at these places of their order, rounded."""
    steps = sorted(policies)
    return {steps[i]: policies[steps[i]] for i in places.round().astype(int)}


def along_path(profile: Profile) -> dict[int, Run]:
    """`path`'s policies on the held-out suites by step (Fig. 4).

    Both ends are the study's own; of those between nobody reads the answers.
    """
    policies = path(profile)
    ends = {0: "Collapsed", max(policies): "PR-FKL"}
    labels = {step: ends.get(step, f"PR-FKL, step {step}") for step in policies}
    own = {labels[step]: policies[step] for step in policies if step in ends}
    between = {labels[step]: policies[step] for step in policies if step not in ends}
    made = evaluate.evaluate_each(profile, own)
    made |= evaluate.evaluate_each(profile, between, words=False)
    return {step: made[label] for step, label in labels.items()}


def frontier(profile: Profile) -> dict[str, Run]:
    """Four ways to raise the collapsed policy's entropy, some way along each, on test problems (Fig. C).

    Keys: "Base", "Collapsed", "scaling 1.2" (the temperature), "merge 0.4" (the base's share),
    "live step 12" and "frozen step 20" (of reheating by PR-FKL, by whose teacher; the last step is
    where it stopped). Evaluated as in the study, but on `analysis.frontier_problems` a suite with
    `analysis.frontier_samples` each, as many as pass@k is wanted for, of which no answer is kept.
    """
    start, asked = arms.collapsed(profile), profile.analysis
    problems = min(asked.frontier_problems, profile.task.test_problems or asked.frontier_problems)
    longer = params.change(
        profile,
        {"evaluation.samples": asked.frontier_samples, "task.test_problems": problems},
    )
    found = {"Base": policies.base(profile), "Collapsed": start}
    for tau in asked.frontier_taus:
        found[f"scaling {tau:g}"] = scaling.scale(profile, start, tau).policy
    for teacher, name in (("frozen", "PR-FKL frozen"), ("live", "PR-FKL")):
        route = _reheating(profile, name)
        count = min(asked.frontier_checkpoints, len(route))
        for step, policy in _at(route, np.linspace(-1, len(route) - 1, count + 1)[1:]).items():
            found[f"{teacher} step {step}"] = policy
    for strength in asked.frontier_strengths:
        found[f"merge {strength:g}"] = merge.merge(profile, start, strength).policy
    return evaluate.evaluate_each(longer, found, words=False)


def worth_reading(profile: Profile) -> dict[str, Path]:
    """The policies whose answers are put side by side: before and after each step of the story."""
    made, ends = arms.reheated(profile), arms.continued(profile)
    hot = ("PR-FKL", "PR-FKL frozen", "PR-scale*", "merge")
    return (
        {"Base": policies.base(profile), "Collapsed": arms.collapsed(profile)}
        | {name: made[name].policy for name in hot if name in made}
        | {arm: ends[arm].policy for arm in (arms.DAPO, "+DAPO w/ PR-FKL")}
    )


def rivals(profile: Profile) -> dict[str, Run]:
    """What fewer seeds are compared with (Fig. D): `analysis.rivals`, and an entropy bonus.

    The bonus is verl's own, from the base policy on and never reheated, for as many steps as plain
    DAPO took in all: to the collapse, and after it.
    """
    asked = profile.analysis
    found: dict[str, Run] = {arm: arms.resumed(profile, arm) for arm in asked.rivals}
    for coefficient in asked.entropy_bonuses:
        arm, before = bonus(coefficient), rl.collapse(profile).result["step"]
        anew = {
            "rl.entropy_coeff": coefficient,
            "rl.continued_steps": before + profile.rl.continued_steps,
        }
        found[arm] = rl.resume(params.change(profile, anew), policies.base(profile), arm=arm)
    return found


def bonus(coefficient: float) -> str:
    """What the arm with this entropy bonus is called."""
    return f"DAPO, entropy bonus {coefficient:g}"


def rival_ends(profile: Profile) -> dict[str, Run]:
    """The policies of `rivals` on the held-out suites, as those of the study's arms."""
    return evaluate.evaluate_each(profile, arms.ends(rivals(profile)))


def objectives(profile: Profile) -> dict[str, Run]:
    """Forward and reverse KL on the same prompts, by AdamW as in the study and by plain SGD.

    SGD's pair takes the steps of PR-FKL: equal steps, where AdamW cancels the gradients' scale.
    """
    forward = arms.heated(profile, "PR-FKL")
    steps = int(forward.result["step"])
    plain = params.change(
        profile,
        ENDLESS
        | {
            "reheat.optimizer": "sgd",
            "reheat.learning_rate": profile.analysis.sgd_learning_rate,
            "reheat.max_steps": steps,
            "reheat.keep_checkpoints": False,
        },
    )
    start = arms.collapsed(profile)
    return {
        "FKL, AdamW": forward,
        "RKL, AdamW": arms.heated(profile, "PR-RKL"),
        "FKL, SGD": reheat.reheat(plain, start, direction="forward"),
        "RKL, SGD": reheat.reheat(plain, start, direction="reverse"),
    }


def temperatures(profile: Profile) -> dict[float, Run]:
    """PR-FKL by the teacher's temperature (Fig. 8)."""
    lean = params.change(profile, {"reheat.keep_checkpoints": False})
    return {
        tau: arms.heated(profile, "PR-FKL")
        if tau == profile.reheat.tau
        else reheat.reheat(lean, arms.collapsed(profile), tau=tau)
        for tau in profile.analysis.taus
    }


def on_base(profile: Profile) -> Run:
    """Reheating a policy that is not collapsed: gate forced open, stop and guard off (Fig. 9)."""
    endless = params.change(
        profile,
        ENDLESS
        | {
            "reheat.max_steps": profile.analysis.base_steps,
            "reheat.keep_checkpoints": False,
        },
    )
    return reheat.reheat(endless, policies.base(profile), force=True)


def long_horizon(profile: Profile) -> Run:
    """Reheating far past the recovery entropy, in smaller batches, stop and guard off (Fig. 10)."""
    endless = params.change(
        profile,
        ENDLESS
        | {
            "reheat.batch_size": profile.analysis.long_batch_size,
            "reheat.max_steps": profile.analysis.long_steps,
            "reheat.keep_checkpoints": False,
        },
    )
    return reheat.reheat(endless, arms.collapsed(profile))


def cooled(profile: Profile) -> tuple[Run, Run]:
    """A PR-RKL policy, and what low-temperature reverse KL makes of it (Fig. 11, 12)."""
    hot = arms.heated(profile, "PR-RKL")
    lean = params.change(profile, {"reheat.keep_checkpoints": False})
    return hot, reheat.reheat(
        lean, hot.policy, direction="reverse", tau=profile.analysis.cooling_tau, force=True
    )


def again(profile: Profile) -> Run:
    """The PR-RKL reheating with another seed, for its prompts' order and its answers (Fig. 12)."""
    other = params.change(profile, {"seed": profile.seed + 1000, "reheat.keep_checkpoints": False})
    return reheat.reheat(other, arms.collapsed(profile), direction="reverse")


def scarce(profile: Profile) -> dict[str, Run]:
    """Data-scarce RL (Fig. 13): on few prompts from the base, then on, plain and reheated.

    The run to collapse ends after `analysis.scarce_steps` whatever its entropy: on few prompts
    the policy becomes certain of their answers long before it is of others. Reheating, on those
    prompts as well, is therefore forced, and ends once the entropy has risen by the same factor
    as in the study; a batch of it holds at most four answers to a prompt.
    """
    if not profile.reheat.recovery_entropy:
        raise ValueError(
            "reheat.recovery_entropy is null, and RL on few prompts reheats by its factor over "
            "rl.collapse.entropy; give it in nats"
        )
    factor = profile.reheat.recovery_entropy / profile.rl.collapse.entropy
    prompts = profile.analysis.scarce_problems
    few = params.change(
        profile,
        {
            "task.train_problems": prompts,
            "rl.batch_size": min(profile.rl.batch_size, prompts),
            "rl.mini_batch_size": min(profile.rl.mini_batch_size, prompts),
            "rl.collapse.entropy": 1e-6,
            "rl.collapse.max_steps": profile.analysis.scarce_steps,
            "rl.continued_steps": profile.analysis.scarce_steps,
            "reheat.batch_size": min(profile.reheat.batch_size, 4 * prompts),
            "reheat.keep_checkpoints": False,
        },
    )
    collapse = rl.collapse(few)
    target = factor * collapse.result["token_entropy"]
    hot = reheat.reheat(
        params.change(
            few,
            {
                "reheat.recovery_entropy": target,
                "reheat.ceiling_entropy": 3 * target,
            },
        ),
        collapse.policy,
        force=True,
    )
    return {
        "Collapsed": collapse,
        "PR-FKL": hot,
        "+DAPO": rl.resume(few, collapse.policy, arm="scarce +DAPO"),
        "+DAPO w/ PR-FKL": rl.resume(few, hot.policy, arm="scarce +DAPO w/ PR-FKL"),
    }
