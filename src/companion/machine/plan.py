"""What a profile costs before anything starts: memory, tokens, hours and disk, stage by stage.

`companion plan` prints it, and the commands (dry_run.py).

Hours on CPU are those of the published runs (measured.py). On GPUs they are an extrapolation of the
paper's Table 6: the seconds of a step of its nearest model, on 8 H800 GPUs, in proportion to
parameters, to answers x longest answer and to one over the number of GPUs. Evaluation and entropy
checks are not in that table: an answer is taken to cost what it costs in RL, where it is also
learned from. Every stage is taken to run to its last step.
"""

from __future__ import annotations

import math

import pandas as pd

from companion import paper, tasks
from companion.machine import measured
from companion.machine.memory import GIB, host_gib, moments, peaks, shape
from companion.schema import Profile
from companion.study import arms
from companion.tasks.sources import BENCHMARKS

TRIALS = 12
"""Entropy checks of a search for the tau of PR-scale*, or the strength of merge*, about."""
START = 180
"""Seconds until a vLLM engine answers, compiled: two to four minutes by what others report. Every
evaluated policy and every entropy check starts one."""
HIGHEST = ("memory_gib", "scratch_gib")
"""Columns that do not add up."""


def plan(profile: Profile) -> pd.DataFrame:
    """One row a stage, and their total.

    Columns:
        memory_gib: peak of a GPU (its parts: `memory.peaks`); on CPU, of the host.
        tokens: at most: answers x (prompt limit + answer limit) x steps.
        hours: on CPU the median of the published seeds', with their checks of entropy, and missing
            where none has the row; on GPUs extrapolated (see this module).
        disk_gib: what stays on disk.
        scratch_gib: what is there beside it while the stage runs.

    Raises:
        ValueError: task.base is a model whose shape is not known (`memory.shape`).
    """
    rl, heat, asked = profile.rl, profile.reheat, profile.evaluation
    policy = 4 * shape(profile.task.base).parameters / GIB  # fp32
    answers = rl.batch_size * rl.responses_per_prompt

    def trained(steps: int, stays: int, kept: int = 1) -> dict[str, object]:
        # While it runs two checkpoints of verl's: weights, two moments, the weights as a policy.
        return _row(
            profile,
            "RL",
            answers,
            rl.max_response_tokens,
            steps,
            disk=policy * (kept + 4 * stays),
            scratch=policy * 4 * (2 - stays),
        )

    # A checkpoint of ms-swift's: the policy, and beside it the moments and, by FSDP, the weights
    # once more. Two are whole, and a third while it is saved; of earlier ones the policy may stay.
    state = policy * (moments(profile) / 4 + (profile.hardware.platform == "gpu"))
    path = math.ceil(heat.max_steps / heat.check_every) if heat.keep_checkpoints else 0
    reheated = _row(
        profile,
        "reheating",
        heat.batch_size,
        heat.max_completion_tokens,
        heat.max_steps,
        disk=policy * (path + 1),
        scratch=3 * (state + (0 if path else policy)),
    )
    rows = {"RL to collapse": trained(rl.collapse.max_steps, stays=1)}
    prolonged, checkpoints = arms.EQUAL in rl.arms, rl.evaluated_checkpoints
    rows |= {
        arm: trained(steps, int(prolonged and arm == arms.DAPO), checkpoints)
        for arm, steps in _continued(profile).items()
    }
    made = arms.asked(profile)
    rows |= {
        name: reheated if name in _distilled(profile) else _row(profile, "scaling", disk=policy)
        for name in made
    }
    policies = ["Base", "Collapsed", *made, *rl.arms]
    heatings, scarce = _analyses(profile)
    rivals = _rivals(profile)
    # Of Fig. 4's policies, whose ends are the study's, and of Fig. B's, which has two of those as well.
    between = profile.analysis.checkpoints - 2 + 6
    sampled = _test_problems(profile, profile.task.test_problems) * asked.samples
    evaluated = len(policies) + len(rl.arms) * (checkpoints - 1)
    judged = len(rivals) * checkpoints
    frontier, saved = _frontier(profile)
    checks = evaluated + judged + between + frontier + saved + _checks(profile)
    along = _test_problems(profile, profile.analysis.frontier_problems)
    rows |= {
        "evaluation": _row(
            profile, "evaluation", evaluated * sampled, asked.max_new_tokens, starts=evaluated
        ),
        "analyses: RL": _row(
            profile,
            "RL",
            answers * (sum(scarce) + sum(rivals)),
            rl.max_response_tokens,
            disk=policy * (4 + len(scarce) + judged),
            scratch=policy * 8,
        ),
        "analyses: reheating": _row(
            profile,
            "reheating",
            sum(batch * steps for batch, steps in heatings),
            heat.max_completion_tokens,
            disk=policy * (len(heatings) + path * _still(profile)),
            scratch=3 * (state + policy),
        ),
        "analyses: evaluation": _row(
            profile,
            "evaluation",
            (between + judged) * sampled + frontier * along * profile.analysis.frontier_samples,
            asked.max_new_tokens,
            starts=between + judged + frontier,
            disk=policy * saved,
        ),
        "entropy checks": _row(
            profile,
            "evaluation",
            checks * profile.entropy.prompts,
            asked.max_new_tokens,
            starts=checks,
        ),
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    if profile.hardware.platform == "cpu" and len(took := measured.hours(profile.name)):
        table["hours"] = took.reindex(table.index)
        table.loc["entropy checks", "hours"] = 0.0  # within the others
    highest = peaks(profile)["total"].groupby(level="stage").max()
    table.insert(0, "memory_gib", table.pop("stage").map(highest).fillna(policy))
    total = {
        name: table[name].max() if name in HIGHEST else table[name].sum(skipna=False)
        for name in table
    }
    return pd.concat([table, pd.DataFrame([total], index=["total"])])


def _row(
    profile: Profile,
    stage: str,
    answers: int = 0,
    longest: int = 0,
    steps: int = 1,
    starts: int = 0,
    disk: float = 0.0,
    scratch: float = 0.0,
) -> dict[str, object]:
    """A row of the plan; `answers` a step of at most `longest` tokens, disk and scratch in GiB.

    `starts` of vLLM engines that are paid beside it.
    """
    return {
        "stage": stage,
        "tokens": answers * (profile.task.max_prompt_tokens + longest) * steps,
        "hours": (steps * seconds(profile, stage, answers * longest) + starts * START) / 3600,
        "disk_gib": disk,
        "scratch_gib": scratch,
    }


def seconds(profile: Profile, stage: str, work: int) -> float:
    """Of a step that takes `work` (answers x longest answer, in tokens); NaN on CPU.

    Args:
        stage: "reheating", "evaluation", or anything that is paid at RL's rate.
    """
    if profile.hardware.platform == "cpu":
        return math.nan
    reported, own = _nearest(profile, stage), shape(profile.task.base).parameters
    theirs = shape(f"Qwen/{reported['model']}").parameters
    answers = {"RL": _reported(3, "Responses per prompt"), "OPSD": 1}[reported["stage"]]
    longest = {
        "RL": _reported(3, "Max response length"),
        "OPSD": _reported(4, "Max completion length"),
    }[reported["stage"]]
    size, load = own / theirs, work / (reported["batch_size"] * answers * longest)
    # Our own vLLM answers on one node's GPUs, however many there are.
    gpus = profile.hardware.gpus_per_node * (1 if stage == "evaluation" else profile.hardware.nodes)
    return reported["seconds_per_step"] * size * load * _gpus() / gpus


def _nearest(profile: Profile, stage: str) -> pd.Series:
    """The row of Table 6 for this stage and the model nearest in size, by the ratio."""
    own = math.log(shape(profile.task.base).parameters)
    rows = paper.table6()
    rows = rows[rows["stage"] == ("OPSD" if stage == "reheating" else "RL")]
    sizes = rows["model"].map(lambda model: math.log(shape(f"Qwen/{model}").parameters))
    return rows.loc[(sizes - own).abs().idxmin()]


def _reported(table: int, hyperparameter: str) -> int:
    rows = paper.hyperparameters().query("table == @table and hyperparameter == @hyperparameter")
    return int(rows["value"].item())


def _gpus() -> int:
    return int(paper.text().query("location == 'App. G' and quantity == 'GPUs'")["value"].item())


def _frontier(profile: Profile) -> tuple[int, int]:
    """Policies evaluated for Fig. C at most, and how many of them are scaled or merged for it."""
    asked = profile.analysis
    saved = len(asked.frontier_taus) + len(asked.frontier_strengths)
    return 2 + saved + 2 * asked.frontier_checkpoints, saved


def _still(profile: Profile) -> bool:
    """Whether Fig. B and C reheat by a frozen teacher, since no arm does."""
    return "PR-FKL frozen" not in arms.asked(profile)


def _analyses(profile: Profile) -> tuple[list[tuple[int, int]], list[int]]:
    """What experiments.py adds to the study: batch and steps of its reheatings, steps of its RL."""
    heat, extra = profile.reheat, profile.analysis
    # Plain SGD, taus, cooling, another seed, and the frozen teacher of the frontier; then each
    # teacher's limits.
    as_studied = 2 + sum(tau != heat.tau for tau in extra.taus) + 2 + _still(profile)
    heatings = [
        *[(heat.batch_size, heat.max_steps)] * as_studied,
        *[(heat.batch_size, extra.base_steps), (extra.long_batch_size, extra.long_steps)] * 2,
        (min(heat.batch_size, 4 * extra.scarce_problems), heat.max_steps),
    ]
    return heatings, [extra.scarce_steps] * 3  # to the fork, and two arms from there


def _rivals(profile: Profile) -> list[int]:
    """RL steps of every further arm of Fig. D."""
    rl, extra = profile.rl, profile.analysis
    to_collapse = rl.collapse.max_steps
    return [rl.continued_steps] * len(extra.rivals) + [
        to_collapse + rl.continued_steps for _ in extra.entropy_bonuses
    ]


def _continued(profile: Profile) -> dict[str, int]:
    """RL steps of each arm; the one with equal tokens trains what plain DAPO has not."""
    rl, heat = profile.rl, profile.reheat
    answers = rl.batch_size * rl.responses_per_prompt
    further = math.ceil(heat.max_steps * heat.batch_size / answers)  # but for answers' lengths
    return {arm: further if arm == arms.EQUAL else rl.continued_steps for arm in rl.arms}


def _distilled(profile: Profile) -> list[str]:
    """The study's reheatings that train; the others divide or average weights."""
    return [name for name in arms.asked(profile) if "KL" in name]


def _checks(profile: Profile) -> int:
    """Entropy checks beside those of evaluated policies: of every start and every checkpoint."""
    rl, heat = profile.rl, profile.reheat
    heatings, scarce = _analyses(profile)
    trained = [rl.collapse.max_steps, *_continued(profile).values(), *scarce, *_rivals(profile)]
    distilled = _distilled(profile)
    heated = [heat.max_steps] * len(distilled) + [steps for _, steps in heatings]
    checks = sum(1 + math.ceil(steps / rl.collapse.check_every) for steps in trained)
    checks += sum(1 + math.ceil(steps / heat.check_every) for steps in heated)
    others = [name for name in arms.asked(profile) if name not in distilled]
    return checks + sum(TRIALS if name.endswith("*") else 1 for name in others)


def _test_problems(profile: Profile, asked: int | None) -> int:
    """Of all suites, `asked` of each or as many as it has, without loading them."""
    total = 0
    for suite in tasks.asked(profile, "test"):
        size = BENCHMARKS[suite].problems if suite in BENCHMARKS else asked or 0
        total += min(size, asked or size)
    return total


# --- To read --------------------------------------------------------------------------------


def notes(profile: Profile) -> list[str]:
    """What the numbers mean and where they come from, a line each."""
    lines = [
        "Tokens and hours: at most; collapse and recovery may come before the last step.",
        "Disk stays; scratch is there beside it while a stage runs. The totals of memory and of "
        "scratch are the highest.",
        "Analyses: the runs that notebooks 05 to 09, 11 and 12 add; the few answers they draw to look "
        "at are not counted.",
    ]
    if profile.hardware.platform == "cpu":
        known = len(measured.hours(profile.name)) > 0
        where = f"the median of the seeds in results/{profile.name}, with their checks of entropy"
        return [f"Hours: {where if known else 'not known, since no seed is published'}.", *lines]
    rl, heat = _nearest(profile, "RL"), _nearest(profile, "reheating")
    return [
        f"Hours: an extrapolation of the paper's Table 6 ({rl['model']} on {_gpus()} H800: "
        f"{rl['seconds_per_step']} s a step of RL, {heat['seconds_per_step']} s of reheating) by "
        "parameters, answers x longest answer and GPUs; evaluation and entropy at RL's rate.",
        "Memory: of a GPU, without CUDA contexts, NCCL and a sleeping vLLM (a few GiB). A host "
        f"needs {host_gib(profile):.0f} GiB.",
        *lines,
    ]
