"""RL with verl's DAPO: from a profile to one run of `verl.trainer.main_ppo`.

`collapse` trains the base policy until its entropy collapses; `resume` continues from a policy,
one call an arm. What differs between arms is the policy they start from, or the temperature they
roll out at, and nothing else: fresh optimizer, same warm-up, prompt order and number of steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from companion import hashes, metrics, policies, runs, tasks
from companion.runs import Run
from companion.schema import Profile
from companion.stages import answers, checks, verl_command, verl_files
from companion.stages.entropy import measure, token_entropy
from companion.stages.launch import launch

VERSION = 1
"""Raised by hand when the same settings mean another training (tests/test_versions.py)."""


def collapse_run(profile: Profile) -> Run:
    """The run that `collapse` makes or made."""
    settings = _settings(profile, profile.rl.rollout_temperature) | {
        "stop_entropy": profile.rl.collapse.entropy,
        "steps": profile.rl.collapse.max_steps,
    }
    start = policies.base(profile)
    return runs.open_run(profile, "rl", f"collapse-seed{profile.seed}", settings, {"policy": start})


def collapse(profile: Profile) -> Run:
    """DAPO from the base policy until a checkpoint's token entropy falls below the threshold.

    The run's result holds `step`, `token_entropy` (nats, of the policy kept) and `collapsed`:
    False if `rl.collapse.max_steps` came first.
    """
    checks.settings(profile)
    run = collapse_run(profile)
    if not run.finished:
        checks.prompts(profile, run.inputs["policy"])
        _train(profile, run, "Collapsed", profile.rl.rollout_temperature)
    return run


def resume(
    profile: Profile,
    start: Path,
    *,
    arm: str,
    temperature: float | None = None,
    keep_optimizer: bool = False,
    goes_on: bool = False,
) -> Run:
    """`rl.continued_steps` of DAPO from the policy in `start`.

    Args:
        arm: what the run is called, such as its row of Table 1.
        temperature: of the rollouts; the profile's if None.
        keep_optimizer: take over the optimizer of this profile's collapse run (a sensitivity
            check); `start` must be the policy that run ended with.
        goes_on: keep for `prolong` verl's last checkpoint, four times the policy's size, and every saved
            policy that may then be evaluated.

    Raises:
        ValueError: an impossible setting, or `start` is no policy. Nothing has been trained then.
        RuntimeError: verl failed; the message ends with its last lines.
    """
    checks.settings(profile)
    temperature = profile.rl.rollout_temperature if temperature is None else temperature
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not (number and 0.01 <= temperature <= 100):
        raise ValueError(
            f"temperature is {temperature!r} and must be a number between 0.01 and 100, such as 1.2"
        )
    optimizer = _optimizer_of(collapse_run(profile), start) if keep_optimizer else None
    settings = _settings(profile, temperature) | {
        "stop_entropy": None,
        "steps": profile.rl.continued_steps,
        "keep_optimizer": keep_optimizer,
    }
    return _resumed(profile, arm, settings, start, optimizer=optimizer, goes_on=goes_on)


def prolong(profile: Profile, run: Run, steps: int, *, arm: str) -> Run:
    """What `run`, made by `resume`, would have been with `steps` more; another run.

    Goes on from the last checkpoint of `run` where that was kept, else from the start: the same steps.
    """
    settings = run.identity["settings"]
    settings = settings | {"steps": settings["steps"] + steps}
    return _resumed(profile, arm, settings, run.inputs["policy"], earlier=run)


def checkpoints(run: Run) -> dict[int, Path]:
    """The policies of a finished run that are to be evaluated, by step, the last one included."""
    before = {step: verl_files.kept_policy(run.folder, step) for step in _kept(run)}
    return before | {run.result["step"]: run.policy}


def _resumed(
    profile: Profile,
    arm: str,
    settings: dict[str, Any],
    start: Path,
    *,
    optimizer: Path | None = None,
    earlier: Run | None = None,
    goes_on: bool = False,
) -> Run:
    if profile.rl.evaluated_checkpoints > 1:
        settings |= {
            "evaluated_checkpoints": profile.rl.evaluated_checkpoints,
            "evaluated_every": profile.rl.evaluated_every,
        }
    run = runs.open_run(
        profile,
        "rl",
        f"{runs.slug(arm)}-seed{profile.seed}",
        settings,
        {"policy": policies.check_policy(start)},
    )
    if not run.finished:
        checks.prompts(profile, run.inputs["policy"])
        if earlier and not run.folder.exists():
            _begin_as(run, earlier)
        _train(profile, run, arm, settings["rollout_temperature"], optimizer, goes_on=goes_on)
    return run


def _kept(run: Run, *, goes_on: bool = False) -> list[int]:
    """The steps before a run's last whose policies are kept: saved ones, `evaluated_every` apart.

    Of a run that goes on all saved ones since the first of them: nobody knows yet where it will end.
    """
    settings = run.identity["settings"]
    steps, every = settings["steps"], settings["check_every"]
    count, apart = settings.get("evaluated_checkpoints", 1), settings.get("evaluated_every", 0)
    at = [steps - apart * i for i in range(1, count)]
    kept = sorted({step - step % every for step in at if step >= every})
    return list(range(kept[0], steps, every)) if goes_on and kept else kept


def _settings(profile: Profile, temperature: float) -> dict[str, Any]:
    """What the fingerprint of every RL run covers, beside its steps and its start."""
    method = profile.rl.model_dump(
        exclude={
            "collapse",
            "continued_steps",
            "evaluated_checkpoints",
            "evaluated_every",
            "rr_temperature",
            "rollout_temperature",
            "reward_rule",  # in tasks.reward, where it counts
            "arms",
            "entropy_coeff",  # below, where there is one
        }
    )
    return {
        "seed": profile.seed,
        **method,
        **({"entropy_coeff": profile.rl.entropy_coeff} if profile.rl.entropy_coeff else {}),
        "rollout_temperature": temperature,
        **tasks.reward(profile),
        "check_every": profile.rl.collapse.check_every,
        # A corrected gold is another reward.
        "train_data": tasks.training_hash(profile, "prompt", "gold"),
        "rl_version": VERSION,
        "reward_version": tasks.of(profile.task.name).REWARD_VERSION,
        "sampler_version": answers.VERSIONS[profile.rl.rollout_engine],
        **measure(profile),
    }


def _optimizer_of(run: Run, policy: Path) -> Path:
    """verl's checkpoint behind the policy that `run` ended with."""
    if not run.finished or hashes.content_hash(policy) != hashes.content_hash(run.policy):
        raise ValueError(
            "keep_optimizer needs the policy of this profile's own collapse run, which holds the "
            "optimizer; call rl.collapse first and start from its policy"
        )
    return run.folder / "verl" / f"global_step_{run.result['step']}"


def _train(
    profile: Profile,
    run: Run,
    arm: str,
    temperature: float,
    optimizer: Path | None = None,
    *,
    goes_on: bool = False,
) -> None:
    settings = run.identity["settings"]
    steps, stop_entropy = settings["steps"], settings["stop_entropy"]
    with run.recording(arm=arm, data=tasks.source(profile)) as result:
        if not run.policy.exists():  # else an earlier try was killed between this and its end
            step = _to_the_end(profile, run, temperature, optimizer, _kept(run, goes_on=goes_on))
            verl_files.copy_policy(run.folder / "verl" / f"global_step_{step}", run.policy)
        last = metrics.read(run.folder / "metrics.jsonl")[-1]
        result.update(step=last["step"], token_entropy=last["token_entropy"])
        if stop_entropy is not None:
            result["collapsed"] = last["token_entropy"] < stop_entropy
            if not result["collapsed"]:
                print(
                    f"  entropy is still {last['token_entropy']:.3f} nats after "
                    f"rl.collapse.max_steps ({steps}), above rl.collapse.entropy "
                    f"({stop_entropy}); the last checkpoint is kept"
                )
        _trim(run, kept=last["step"] if goes_on or stop_entropy is not None else None)


def _to_the_end(
    profile: Profile, run: Run, temperature: float, optimizer: Path | None, kept: list[int]
) -> int:
    """Train until the run is decided, from nothing or from its newest checkpoint; the last step."""
    settings = run.identity["settings"]
    steps, stop_entropy = settings["steps"], settings["stop_entropy"]
    rows = verl_files.rewind(run)
    done = rows[-1]["step"] if rows else 0
    verl_files.write_inputs(profile, run.folder)
    variables = verl_command.environment(profile, run.folder)
    begin = run.folder / "start" / "global_step_0" if optimizer else None
    from_nothing, words = (
        verl_command.command(
            profile,
            start=run.inputs["policy"],
            folder=run.folder,
            steps=steps,
            temperature=temperature,
            stop_entropy=stop_entropy,
            kept=kept,
            resume_from=checkpoint,
        )
        for checkpoint in (
            begin,
            run.folder / "verl" / f"global_step_{done}" if done else begin,
        )
    )
    run.note_command(from_nothing, variables, done or None)
    if optimizer and begin and not done:
        # As step 0 and without verl's data position: the prompts of every other arm.
        shutil.copytree(optimizer / "actor", begin / "actor", dirs_exist_ok=True)
    if not done:
        start = token_entropy(run.inputs["policy"], profile)
        rows = [{"step": 0, "token_entropy": start.value}]
    if not (done and _decided(rows[-1], steps, stop_entropy)):
        begun = f"goes on after step {done}" if done else "starts"
        print(f"{run.name}: verl {begun}", flush=True)
        report = verl_files.follow(run, rows, steps)
        launch(
            words,
            variables,
            run.folder / "verl.log",
            report,
            on_cluster=profile.hardware.nodes > 1,
        )
        report()
    return metrics.read(run.folder / "metrics.jsonl")[-1]["step"]


def _begin_as(run: Run, earlier: Run) -> None:
    """Let `run` find what `earlier` left: it goes on from there as if it had been interrupted."""
    last = f"global_step_{earlier.result['step']}"
    if not verl_files.whole(earlier.folder / "verl" / last):
        return
    partial = run.folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(earlier.folder / "verl" / last, partial / "verl" / last)
    for step in _kept(run):
        policy = verl_files.kept_policy(earlier.folder, step)
        if step <= earlier.result["step"]:
            found = earlier.policy if step == earlier.result["step"] else policy
            shutil.copytree(found, verl_files.kept_policy(partial, step))
    shutil.copy2(earlier.folder / "metrics.jsonl", partial)
    partial.rename(run.folder)


def _trim(run: Run, *, kept: int | None) -> None:
    """Delete verl's checkpoints of a run that has its policy, four times its size each.

    Only the last of a run that may go on is kept: an arm may take over its optimizer, or prolong it.
    """
    shutil.rmtree(run.folder / "start", ignore_errors=True)  # an optimizer taken over
    for checkpoint in (run.folder / "verl").glob("global_step_*"):
        if checkpoint.name != f"global_step_{kept}":
            shutil.rmtree(checkpoint)


def _decided(row: dict[str, Any], steps: int, stop_entropy: float | None) -> bool:
    return row["step"] >= steps or (
        stop_entropy is not None and row["token_entropy"] < stop_entropy
    )
