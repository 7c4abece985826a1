"""Policy reheating: a collapsed policy, one ms-swift GKD run, the first checkpoint hot enough.

`reheat` is the method (TS-OPSD, §3.2): on-policy self-distillation towards softmax(z / tau).
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from companion import metrics, objective, outputs, policies, runs, tasks
from companion.objective import Direction
from companion.runs import Run
from companion.schema import Profile, check_tau
from companion.stages import answers, checks, swift_command
from companion.stages.entropy import ENGINES, entropy_row, measure, token_entropy
from companion.stages.launch import launch
from companion.statistics import Estimate

VERSION = 1
"""Raised by hand when the same settings mean another reheating (tests/test_versions.py)."""
POLICY_FILES = (
    "config.json",
    "generation_config.json",
    "model*.safetensors*",
    "tokenizer*",
    "*.jinja",
    "*.txt",
)
"""The Hugging Face files of an ms-swift checkpoint; the others are the trainer's state."""
TRAINER_FILES = ("optimizer*", "scheduler.pt", "rng_state*", "trainer_state.json")
"""Of that state, what the trainer resumes from."""


def reheat(
    profile: Profile,
    start: Path,
    *,
    direction: Direction = "forward",
    tau: float | None = None,
    force: bool = False,
) -> Run:
    """Distil the policy in `start` towards its own distribution at temperature `tau`.

    Stops at the first checkpoint whose mean token entropy at T = 1 reaches the profile's
    recovery entropy; for tau < 1 (cooling) the other way round, at the collapse threshold.
    metrics.jsonl has one line a step: `token_entropy` (nats, of the checkpoint after the step;
    step 0 is `start`), and of the step's rollouts, before the update, `rollout_entropy` and `kl`
    (nats a token), `grad_norm`, `response_length` (tokens), `truncated` (the fraction cut at
    the token limit, as in RL) and `seconds` (rollouts and update, without saving and measuring).
    The run's result holds `token_entropy`, `step` and `recovered` of the policy it kept.

    Args:
        start: Hugging Face folder of the policy, with the tokenizer of the task.
        tau: the teacher's temperature; the profile's if None.
        force: reheat even a policy that is not collapsed (it diverges, App. C).

    Raises:
        ValueError: an impossible `tau`, a folder that is no policy of this task, or a policy
            that is not collapsed. Nothing has been trained then.
        RuntimeError: entropy passed the profile's ceiling (App. D), or ms-swift failed.
    """
    profile = with_tau(profile, profile.reheat.tau if tau is None else tau)
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction is '{direction}' and must be 'forward' or 'reverse'")
    if not isinstance(force, bool):
        raise ValueError(f"force is {force!r} and must be True or False, as Python writes them")
    start = policies.check_policy(start)
    tau, frozen = profile.reheat.tau, "-frozen" if profile.reheat.teacher == "frozen" else ""
    run = runs.open_run(
        profile,
        "reheat",
        f"{direction}{frozen}-tau{tau:.4g}-seed{profile.seed}",
        {
            "direction": direction,
            "seed": profile.seed,
            **profile.reheat.model_dump(exclude=None if profile.reheat.swift else {"swift"}),
            "collapse_entropy": profile.rl.collapse.entropy,
            "train_data": tasks.training_hash(profile, "prompt"),
            "reheat_version": VERSION,
            "objective_version": objective.VERSION,
            "sampler_version": answers.VERSIONS[ENGINES[profile.hardware.platform]],
            **measure(profile),
        },
        {"policy": start},
    )
    if run.finished:
        return run

    run.check_may_be_made()
    checks.same_task(profile, start)
    checks.prompts(profile, start)
    checks.plain_head(profile, start)
    checks.swift_arguments(profile)
    before = token_entropy(start, profile)
    if not force:
        check_gate(profile, before.value)
    with run.recording(data=tasks.source(profile)) as result:
        if not run.policy.exists():  # else an earlier try was killed between this and its end
            _to_the_end(profile, run, direction, before)
        step, reached = _last(run)
        if diverged(profile, reached):
            raise RuntimeError(
                f"reheating stopped before it diverges: after step {step} the mean token entropy "
                f"is {reached:.3f} nats, above reheat.ceiling_entropy "
                f"({profile.reheat.ceiling_entropy}); lower reheat.learning_rate, now "
                f"{profile.reheat.learning_rate:g}"
            )
        _keep(profile, run, step)
        result.update(
            start_entropy=before.value,
            token_entropy=reached,
            step=step,
            recovered=crossed(profile, reached),
        )
    if not result["recovered"] and profile.reheat.recovery_entropy:
        print(
            f"  entropy is still {reached:.3f} nats after reheat.max_steps ({step}) steps, short "
            "of its target; the last checkpoint is kept"
        )
    return run


def _to_the_end(profile: Profile, run: Run, direction: Direction, before: Estimate) -> None:
    """Train until the run is decided, from nothing or from its newest measured checkpoint."""
    words = swift_command.command(profile, run.inputs["policy"], run.folder)
    settings = swift_command.environment(profile)
    done, checkpoint = _last_measured(run, before)
    run.note_command(words, settings, done or None)
    if checkpoint:
        words += ["--resume_from_checkpoint", str(checkpoint)]
    if not _decided(profile, run):
        swift_command.write_inputs(profile, direction, run.folder)
        print(f"{run.name}: ms-swift starts", flush=True)
        launch(
            words,
            settings,
            run.folder / "ms-swift.log",
            _reporter(profile, run),
            on_cluster=profile.hardware.nodes > 1,
        )


def checkpoints(run: Run) -> dict[int, Path]:
    """The policies of a run's path by their step; a finished run has them if keep_checkpoints."""
    folders = (run.folder / "swift").glob("checkpoint-*")
    return dict(sorted((int(folder.name.split("-")[1]), folder) for folder in folders))


# --- The gate and the stop ------------------------------------------------------------------


def check_gate(profile: Profile, entropy: float) -> None:
    """ValueError unless a policy of this mean token entropy (nats) needs what tau would do."""
    threshold = profile.rl.collapse.entropy
    if not math.isfinite(entropy):
        raise ValueError(
            f"the policy's mean token entropy is {entropy} nats, which no policy has; give another"
        )
    if profile.reheat.tau > 1 and entropy > threshold:
        raise ValueError(
            f"the policy's mean token entropy is {entropy:.3f} nats, above rl.collapse.entropy "
            f"({threshold}): reheating is for collapsed policies and diverges on others (App. C); "
            "pass force=True to do it anyway"
        )
    if profile.reheat.tau < 1 and entropy <= threshold:
        raise ValueError(
            f"the policy's mean token entropy is {entropy:.3f} nats, not above "
            f"rl.collapse.entropy ({threshold}): it is collapsed already and needs no cooling; "
            "pass force=True to do it anyway"
        )


def crossed(profile: Profile, entropy: float) -> bool:
    """Whether a checkpoint of this mean token entropy (nats) ends the run: hot or cold enough."""
    if profile.reheat.tau > 1:
        return entropy >= (profile.reheat.recovery_entropy or math.inf)
    return entropy <= profile.rl.collapse.entropy


def diverged(profile: Profile, entropy: float) -> bool:
    """Whether heating took entropy (nats) out of the regime where it is under control (App. D)."""
    if math.isnan(entropy):
        return True
    return profile.reheat.tau > 1 and entropy > (profile.reheat.ceiling_entropy or math.inf)


def with_tau(profile: Profile, tau: float) -> Profile:
    """The profile with another teacher temperature; ValueError for one that cannot be."""
    reheat = profile.reheat.model_copy(update={"tau": check_tau(tau)})
    return profile.model_copy(update={"reheat": reheat})


def _last_measured(run: Run, before: Estimate) -> tuple[int, Path | None]:
    """The newest measured checkpoint of an interrupted run and its step, if that is whole.

    Forgets what came after.

    Leaves metrics.jsonl ready to be appended to; at a start from nothing with step 0 alone.
    """
    path = run.folder / "metrics.jsonl"
    rows = {row["step"]: row for row in metrics.read(path)}
    saved = checkpoints(run)
    whole = {at for at, folder in saved.items() if outputs.whole(folder, *TRAINER_FILES)}
    step = max(rows.keys() & whole, default=0)
    if step == 0:
        rows = {0: {"step": 0, **entropy_row(before)}}
    for later in saved.keys() - range(step + 1):
        shutil.rmtree(saved[later])
    metrics.write(path, [row for at, row in rows.items() if at <= step])
    return step, saved.get(step)


def _last(run: Run) -> tuple[int, float]:
    """The newest measured step, and its checkpoint's mean token entropy in nats."""
    row = run.metrics.dropna(subset="token_entropy").iloc[-1]
    return int(row["step"]), float(row["token_entropy"])


def _decided(profile: Profile, run: Run) -> bool:
    step, entropy = _last(run)
    done = step >= profile.reheat.max_steps
    return done or (step > 0 and (crossed(profile, entropy) or diverged(profile, entropy)))


def _reporter(profile: Profile, run: Run) -> Callable[[], None]:
    """Prints every new line of metrics.jsonl once, and how long the rest takes at most."""
    printed, first = len(run.metrics), None

    def report() -> None:
        nonlocal printed, first
        rows = run.metrics.iloc[printed:]
        printed += len(rows)
        for row in rows.itertuples():
            first = first or (row.step, time.monotonic())
            line = f"  step {row.step}/{profile.reheat.max_steps}"
            if not math.isnan(row.token_entropy):
                line += f"  entropy {row.token_entropy:.4f} nats"
            line += f"  KL {row.kl:.2e}  gradient norm {row.grad_norm:.3f}"
            if row.step > first[0]:
                each = (time.monotonic() - first[1]) / (row.step - first[0])
                left = each * (profile.reheat.max_steps - row.step)
                line += f"  {each:.1f} s a step, at most {left / 60:.1f} min left"
            print(line, flush=True)

    return report


def _keep(profile: Profile, run: Run, step: int) -> None:
    """Copy the policy after `step` to its place; of the checkpoints keep what is asked for."""
    if not run.policy.exists():  # all of it or nothing: it says that the training is over
        partial = run.policy.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for file in _policy_files(checkpoints(run)[step]):
            shutil.copy2(file, partial)
        partial.rename(run.policy)
    for checkpoint in checkpoints(run).values():
        if not profile.reheat.keep_checkpoints:
            shutil.rmtree(checkpoint)
            continue
        for other in set(checkpoint.iterdir()) - _policy_files(checkpoint):
            shutil.rmtree(other) if other.is_dir() else other.unlink()


def _policy_files(checkpoint: Path) -> set[Path]:
    return {file for pattern in POLICY_FILES for file in checkpoint.glob(pattern)}
