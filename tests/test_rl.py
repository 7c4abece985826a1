"""rl.py: what verl is asked to do, and how a run is stopped, followed and taken up again."""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from conftest import save_policy
from safetensors.torch import load_file
from test_faults import emptied, halved, removed, torch_file

from companion import hashes, metrics, params, policies, runs
from companion.stages import checks, reheat, rl, verl_command, verl_files
from companion.statistics import Estimate

FOLDER = Path("runs/x")


def profile(**changes):
    return params.load("smoke", {name.replace("__", "."): value for name, value in changes.items()})


def compose(words):
    """verl's own configuration with our overrides, as main_ppo would see it."""
    import verl
    from hydra import compose, initialize_config_dir

    folder = str(Path(verl.__file__).parent / "trainer" / "config")
    with initialize_config_dir(config_dir=folder, version_base=None):
        return compose(config_name="ppo_trainer", overrides=words)


def words(settings, **changes):
    asked = {"start": Path("policy"), "folder": FOLDER, "steps": 7, "temperature": 1.2} | changes
    return verl_command.overrides(settings, **asked)


def on_gpu(settings, **changes):
    hardware = settings.hardware.model_copy(update={"platform": "gpu", "gpus_per_node": 8})
    method = settings.rl.model_copy(update={"rollout_engine": "vllm"} | changes)
    return settings.model_copy(update={"hardware": hardware, "rl": method})


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_every_override_is_a_key_of_verl_and_lands(engine):
    settings = profile(rl__rollout_engine=engine)
    config = compose(words(settings, stop_entropy=0.1, resume_from=FOLDER / "verl/global_step_4"))
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.clip_ratio_c) == (0.2, 0.28, 10.0)
    assert actor.loss_agg_mode == "token-mean"
    assert not actor.use_kl_loss and actor.entropy_coeff == 0
    assert not config.algorithm.use_kl_in_reward
    assert actor.optim.lr == settings.rl.learning_rate
    assert actor.optim.lr_warmup_steps == 10 and actor.optim.clip_grad == 1.0
    assert rollout.temperature == 1.2 and rollout.top_k == -1
    assert rollout.n == settings.rl.responses_per_prompt
    assert rollout.name == engine
    assert config.trainer.total_training_steps == 7
    assert config.trainer.resume_from_path == "runs/x/verl/global_step_4"
    assert config.companion.stop_entropy == 0.1


@pytest.mark.parametrize(("coefficient", "asked"), [(0.0, False), (0.01, True)])
def test_an_entropy_bonus_is_verls_own_and_part_of_the_run(coefficient, asked):
    settings = profile(rl__entropy_coeff=coefficient)
    actor = compose(words(settings)).actor_rollout_ref.actor
    assert (actor.entropy_coeff, actor.calculate_entropy) == (coefficient, asked)
    fingerprint = rl._settings(settings, 1.0)
    assert ("entropy_coeff" in fingerprint) == asked  # a run without one is what it always was


def test_further_settings_of_verl_reach_it_and_are_part_of_the_run():
    more = {
        "trainer.logger": ["console", "file", "tensorboard"],
        "trainer.project_name": "it's, mine",
        "+trainer.of_mine": 1.5,
    }
    settings = profile(rl__verl=more)
    trainer = compose(words(settings)).trainer
    assert list(trainer.logger) == ["console", "file", "tensorboard"]
    assert trainer.project_name == "it's, mine" and trainer.of_mine == 1.5
    checks.verl_settings(settings)
    assert rl._settings(settings, 1.0)["verl"] == more
    assert "verl" not in rl._settings(profile(), 1.0)  # a run without any is what it always was


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"trainer.loger": "x"}, r"rl.verl is \{'trainer.loger': 'x'\}, of which verl says: Could not"),
        ({"data.train_batch_size": 3}, r"rl.verl sets 'data.train_batch_size', which follows from a"),
        ({"+companion.profile": 3}, r"rl.verl sets '\+companion.profile', which follows from a field"),
        ({"trainer.logger": ["wandb"]}, r"trainer.logger to \['wandb'\] and must keep 'file' in it"),
    ],
)  # fmt: skip
def test_settings_that_verl_does_not_have_or_we_set_are_one_sentence(more, sentence):
    with pytest.raises(ValueError, match=sentence):
        checks.settings(profile(rl__verl=more))


ODD = "Zoë, #1=[a]{b} (a b)"
"""A folder's name that is syntax in Hydra, in ms-swift's data sets, in globs and in shells."""


@pytest.mark.parametrize(
    "name", ["Zoë", "a b (1)", "x,y", "#1=[]{}", "it's", "a\\", "a\\'b", "~$:*?", "null", "1"]
)
def test_a_path_is_one_value_to_hydra(name):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    override = OverridesParser.create().parse_override(f"a.b={verl_command._word(Path(name))}")
    assert override.value() == name and not override.is_sweep_override()


def test_verl_reads_every_path_as_it_is():
    folder, name = Path("/clone") / ODD, "x,y"
    config = compose(words(profile(), start=folder / name, folder=folder, resume_from=folder))
    assert config.trainer.default_local_dir == str(folder / "verl")
    assert config.trainer.resume_from_path == str(folder)
    assert fnmatch(str(folder / "train.parquet"), config.data.train_files)  # as datasets reads it
    assert config.actor_rollout_ref.model.path == str(folder / name)
    assert config.companion.profile == str(folder / "profile.json")


def test_gpu_overrides_compose_and_name_no_cpu_adapter():
    asked = words(on_gpu(profile()))
    config = compose(asked)
    assert config.actor_rollout_ref.rollout.name == "vllm"
    assert config.actor_rollout_ref.actor.strategy == "fsdp2"
    assert config.trainer.n_gpus_per_node == 8
    # On GPUs the rollout's log-probabilities are not the trainer's: they are computed again.
    assert not config.algorithm.rollout_correction.bypass_mode
    assert not [word for word in asked if "rollout_server" in word or "cpu" in word]


def test_platforms_differ_in_one_block_only():
    here, there = profile(), on_gpu(profile())
    blocks = verl_command._cpu(here, Path("policy")).keys() | verl_command._gpu(there, None).keys()

    def method(settings):
        return [word for word in words(settings) if word.split("=")[0] not in blocks]

    assert method(here) == method(there) and len(method(here)) > 30


@pytest.mark.parametrize(("rows", "mebibytes"), [(4, 64), (80 * 1024, 80)])
def test_weights_reach_vllm_on_a_cpu_through_room_for_the_largest(tmp_path, rows, mebibytes):
    """verl splits none there; in 64 MiB no embeddings of Qwen3's vocabulary have room."""
    policy = save_policy(tmp_path / "policy", embeddings=torch.zeros(rows, 256))
    config = compose(words(profile(rl__rollout_engine="vllm"), start=policy))
    engine = config.actor_rollout_ref.rollout.checkpoint_engine
    assert engine.update_weights_bucket_megabytes == mebibytes


@pytest.mark.parametrize("tokens", [0, 16])
def test_dapo_reward_manager_with_overlong_penalty_is_the_one_verl_takes(tokens):
    from verl.trainer.ppo.reward import load_reward_manager, resolve_reward_manager_cls

    from companion.tasks import countdown

    config = compose(words(profile(rl__overlong_buffer_tokens=tokens)))
    assert resolve_reward_manager_cls(config).__name__ == "DAPORewardManager"
    manager = load_reward_manager(config, countdown.tokenizer())
    assert manager.overlong_buffer_cfg.enable == (tokens > 0)
    assert manager.max_resp_len == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rl__batch_size": 512, "rl__mini_batch_size": 512}, "rl.batch_size is 512"),
        ({"rl__responses_per_prompt": 1}, "rl.responses_per_prompt is 1"),
        ({"hardware__threads": 3}, "hardware.threads is 3"),
        ({"rl__overlong_buffer_tokens": 64}, "rl.overlong_buffer_tokens is 64"),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(changes, message, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=message):
        rl.resume(profile(**changes), tmp_path, arm="dapo")
    assert not list(tmp_path.iterdir())


def test_transformers_rollouts_are_refused_on_gpus():
    with pytest.raises(ValueError, match="must be 'vllm' on GPUs"):
        checks.settings(on_gpu(profile(), rollout_engine="transformers"))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_temperature_is_refused(temperature, tmp_path):
    with pytest.raises(ValueError, match="temperature is"):
        rl.resume(profile(), tmp_path, arm="rr", temperature=temperature)


def test_a_folder_that_is_no_policy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no policy"):
        rl.resume(profile(), tmp_path, arm="dapo")


def test_data_is_what_verl_and_the_reward_function_read(tmp_path):
    import pandas as pd

    from companion.adapters.rewards import compute_score
    from companion.tasks import countdown

    settings = profile()
    verl_files.write_data(settings, tmp_path)
    train = pd.read_parquet(tmp_path / "train.parquet")
    assert len(train) == settings.task.train_problems
    assert set(train["data_source"]) == {f"countdown/{suite}" for suite in countdown.SUITES}
    keys = {countdown.parse_prompt(r["ground_truth"]).key for r in train["reward_model"]}
    validation = pd.read_parquet(tmp_path / "validation.parquet")["reward_model"]
    assert not keys & {countdown.parse_prompt(r["ground_truth"]).key for r in validation}
    right = compute_score(
        data_source="countdown/x",
        ground_truth="3 5 7 -> 36",
        solution_str=("5 + 7 = 12 : 3 12 \n 12 * 3 = 36 yes"),
    )
    wrong = compute_score(data_source="countdown/x", ground_truth="3 5 7 -> 36", solution_str="yes")
    assert right == {"score": 1.0, "acc": 1.0} and wrong == {"score": 0.0, "acc": 0.0}
    with pytest.raises(ValueError, match="data_source is 'chess/x'"):
        compute_score(data_source="chess/x", ground_truth="1", solution_str="1")


def test_no_published_run_calls_the_longest_answers_of_its_batch_truncated():
    """Up to 0.1.0 `truncated` was verl's `response_length/clip_ratio`, and the gap `rollout_gap`."""
    published = [*(params.ROOT / "results").rglob("metrics.jsonl")]
    of_rl = [path for path in published if '"reward"' in path.read_text()]
    assert len(of_rl) >= 25
    for path in of_rl:
        for row in map(json.loads, path.read_text().splitlines()):
            assert not {"rollout_gap", "truncated"} <= row.keys(), path


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(rl, "token_entropy", lambda *_: Estimate(1.0, 0.9, 1.1))
    start = save_policy(tmp_path / "policy")
    settings = {"steps": 6, "stop_entropy": 0.5, "check_every": 2}
    return runs.open_run(profile(), "rl", "x", settings, {"policy": start})


def checkpoint(run, step):
    """As two ranks leave it."""
    folder = run.folder / "verl" / f"global_step_{step}"
    for kind in ("model", "optim", "extra_state"):
        for rank in range(2):
            torch_file(folder / "actor" / f"{kind}_world_size_2_rank_{rank}.pt")
    torch_file(folder / "data.pt")
    (folder / "actor" / "huggingface").mkdir(exist_ok=True)
    (folder / "actor" / "huggingface" / "config.json").write_text(str(step))


def fake_verl(run, entropies, killed_at=None):
    """Stands in for the child process: logs as verl's FileLogger does, one line an event."""

    def launch(command, environment, log, report, **_):
        begin = [word for word in command if word.startswith("trainer.resume_from_path=")]
        first = int(begin[0].rsplit("_", 1)[1].rstrip("'")) if begin else 0
        with (run.folder / "verl.jsonl").open("w") as file:
            for step in range(first + 1, max(entropies) + 1):
                if step in entropies and step != killed_at:
                    checkpoint(run, step)
                    entry = {"step": step, "data": {"token_entropy": entropies[step]}}
                    file.write(json.dumps(entry) + "\n")
                if step == killed_at:
                    checkpoint(run, step)  # saved, but neither measured nor logged
                    file.write('{"step": ')
                    break
                values = {name: float(step) for name in verl_files.COLUMNS.values()}
                del values["token_entropy"]
                file.write(json.dumps({"step": step, "data": values}) + "\n")
                file.flush()
                report()
        if killed_at:
            raise KeyboardInterrupt
        launch.starts.append(first)

    launch.starts = []
    return launch


def test_run_follows_metrics_and_keeps_the_last_checkpoint(run, monkeypatch, capsys):
    monkeypatch.setattr(rl, "launch", fake_verl(run, {2: 0.9, 4: 0.4}))
    rl._train(profile(), run, "plain", 1.0)
    assert list(run.metrics["step"]) == [0, 1, 2, 3, 4]
    assert run.metrics["token_entropy"].dropna().tolist() == [1.0, 0.9, 0.4]
    assert run.result == {"step": 4, "token_entropy": 0.4, "collapsed": True}
    assert (run.policy / "config.json").read_text() == "4"
    assert [folder.name for folder in (run.folder / "verl").iterdir()] == ["global_step_4"]
    lines = [line for line in capsys.readouterr().out.splitlines() if "step " in line]
    assert len(lines) == 4 and lines[1].endswith("token entropy 0.9000")


def test_a_continued_run_keeps_its_policy_alone(tmp_path, run, monkeypatch):
    run = runs.Run(
        run.folder,
        run.identity | {"settings": run.identity["settings"] | {"steps": 4, "stop_entropy": None}},
        run.inputs,
    )
    monkeypatch.setattr(rl, "launch", fake_verl(run, {2: 0.9, 4: 0.4}))
    rl._train(profile(), run, "plain", 1.0)
    assert (run.policy / "config.json").read_text() == "4"
    assert not list((run.folder / "verl").iterdir())


@pytest.mark.fault("the log of verl is cut mid-line")
def test_interrupted_run_goes_on_from_its_last_measured_checkpoint(run, monkeypatch):
    monkeypatch.setattr(rl, "launch", fake_verl(run, {2: 0.9, 4: 0.8, 6: 0.7}, killed_at=4))
    with pytest.raises(KeyboardInterrupt):
        rl._train(profile(), run, "plain", 1.0)
    assert run.record["status"] == "interrupted"
    shutil.rmtree(run.folder / "verl" / "global_step_4")
    child = fake_verl(run, {2: 0.9, 4: 0.8, 6: 0.7})
    monkeypatch.setattr(rl, "launch", child)
    rl._train(profile(), run, "plain", 1.0)
    assert child.starts == [2] and run.record["resumed_at"] == 2
    assert not any("resume_from_path" in word for word in run.record["command"])
    assert list(run.metrics["step"]) == [0, 1, 2, 3, 4, 5, 6]
    assert run.result == {"step": 6, "token_entropy": 0.7, "collapsed": False}


@pytest.mark.fault("a checkpoint half deleted or cut", "a rank's file of a checkpoint is lost")
@pytest.mark.parametrize("damage", [emptied, halved, removed])
@pytest.mark.parametrize(
    "name",
    ["actor/optim_world_size_2_rank_1.pt", "actor/model_world_size_2_rank_0.pt", "data.pt"],
)
def test_a_run_goes_on_from_its_newest_whole_checkpoint(run, monkeypatch, damage, name):
    steps = {2: 0.9, 4: 0.8, 6: 0.7}
    monkeypatch.setattr(rl, "launch", fake_verl(run, steps, killed_at=6))
    with pytest.raises(KeyboardInterrupt):
        rl._train(profile(), run, "plain", 1.0)
    damage(run.folder / "verl" / "global_step_4" / name)
    shutil.rmtree(run.folder / "verl" / "global_step_6")
    child = fake_verl(run, steps)
    monkeypatch.setattr(rl, "launch", child)
    rl._train(profile(), run, "plain", 1.0)
    assert child.starts == [2] and list(run.metrics["step"]) == [0, 1, 2, 3, 4, 5, 6]


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.fault("two make one run at once")
def test_a_second_call_leaves_a_training_that_runs_alone(run):
    with run.recording():
        metrics.write(run.folder / "metrics.jsonl", [{"step": 1, "reward": 0.0}])
        (run.folder / "verl.jsonl").write_text("{}\n")
        before = contents(run.folder)
        with pytest.raises(RuntimeError, match="is being made by another process"):
            rl._train(profile(), run, "plain", 1.0)
        assert contents(run.folder) == before


def test_reading_a_study_leaves_an_interrupted_training_alone(run):
    run.folder.mkdir(parents=True)
    metrics.write(run.folder / "metrics.jsonl", [{"step": 1, "reward": 0.0}])
    before = contents(run.folder)
    with runs.finished_only(), pytest.raises(runs.NotFinished):
        rl._train(profile(), run, "plain", 1.0)
    assert contents(run.folder) == before


def test_run_killed_after_its_last_measure_is_not_trained_further(run, monkeypatch):
    checkpoint(run, 2)
    metrics.write(run.folder / "metrics.jsonl", [{"step": 2, "reward": 0.0, "token_entropy": 0.4}])
    monkeypatch.setattr(rl, "launch", lambda *_, **__: pytest.fail("verl was started"))
    rl._train(profile(), run, "plain", 1.0)
    assert run.result == {"step": 2, "token_entropy": 0.4, "collapsed": True}


@pytest.mark.fault("a kill while checkpoints are deleted")
@pytest.mark.parametrize("moment", ["copytree", "_trim", "rmtree"])
def test_a_run_killed_between_its_last_step_and_its_end_is_only_ended(run, monkeypatch, moment):
    """Before the policy is whole, before and amid trimming: nothing is trained again, or left."""
    monkeypatch.setattr(rl, "launch", fake_verl(run, {2: 0.9, 4: 0.4}))
    place, calls = (rl if moment == "_trim" else shutil), []
    real = getattr(place, moment)

    def killed(*args, **kwargs):
        if moment == "_trim" or args[0].name in ("huggingface", "global_step_2"):
            if moment == "copytree":
                args[1].mkdir(parents=True)
            calls.append(args)
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(place, moment, killed)
        rl._train(profile(), run, "plain", 1.0)
    assert calls and not run.finished
    monkeypatch.setattr(rl, "launch", lambda *_, **__: pytest.fail("verl was started"))
    rl._train(profile(), run, "plain", 1.0)
    assert run.finished and run.result == {"step": 4, "token_entropy": 0.4, "collapsed": True}
    assert list(run.metrics["step"]) == [0, 1, 2, 3, 4]
    assert (run.policy / "config.json").read_text() == "4"
    assert [folder.name for folder in (run.folder / "verl").iterdir()] == ["global_step_4"]


def test_optimizer_is_kept_only_for_the_collapse_runs_own_policy(run):
    with pytest.raises(ValueError, match="keep_optimizer needs"):
        rl._optimizer_of(run, run.inputs["policy"])


def test_a_prompt_longer_than_the_limit_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    short = params.load("smoke", {"task.max_prompt_tokens": 10})
    for train in (rl.collapse, lambda p: reheat.reheat(p, policies.base(p), force=True)):
        with pytest.raises(ValueError, match=r"max_prompt_tokens is 10 .* prompt has \d+ tokens"):
            train(short)
    assert not (tmp_path / "runs").exists()


# --- With verl ------------------------------------------------------------------------------

TINY = {
    "rl.collapse.max_steps": 1,
    "rl.collapse.check_every": 1,
    "rl.collapse.entropy": 1e-6,
    "rl.continued_steps": 1,
    "rl.warmup_steps": 2,
    "entropy.prompts": 8,
    "hardware.threads": 2,  # two ranks, as on a laptop
}


@pytest.mark.fault("a clone in an odd path")
def test_dynamic_sampling_replaces_groups_that_agree(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path / ODD)
    run = rl.collapse(params.load("smoke", TINY | {"rl.dynamic_sampling": True}))
    lines = [json.loads(x)["data"] for x in (run.folder / "verl.jsonl").read_text().splitlines()]
    evicted = "training/filter_groups/evicted_samples"
    assert [line[evicted] > 0 for line in lines if evicted in line] == [True]
    # As counted in what is trained on, 8 x 4 answers: those of 64 tokens, but for the ended ones.
    [truncated] = run.metrics["truncated"].dropna()
    longest = next(line["response_length/max"] for line in lines if "response_length/max" in line)
    assert (truncated * 32).is_integer() and (truncated > 0) <= (longest == 64)


@pytest.mark.slow
def test_with_its_optimizer_kept_an_arm_differs_from_its_first_update_on(tmp_path, monkeypatch):
    """A fresh optimizer's first step warms up from 0; a kept one is past that. Same rollouts."""
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    profile = params.load("smoke", TINY)
    collapse = rl.collapse(profile)
    fresh = rl.resume(profile, collapse.policy, arm="+DAPO")
    kept = rl.resume(profile, collapse.policy, arm="+DAPO, optimizer kept", keep_optimizer=True)
    for name in ("reward", "grad_norm", "rollout_entropy"):
        assert kept.metrics[name].iloc[-1] == pytest.approx(fresh.metrics[name].iloc[-1], rel=1e-6)
    start, after, other = (
        load_file(run.policy / "model.safetensors") for run in (collapse, fresh, kept)
    )
    assert all(torch.equal(start[name], after[name]) for name in start)
    assert not all(torch.equal(start[name], other[name]) for name in start)


@pytest.mark.slow
def test_a_prolonged_arm_is_one_that_was_longer_from_the_start(tmp_path, monkeypatch):
    """To the last bit of the policies that are evaluated, its earlier one among them.

    Which is none of those that the arm it prolongs is evaluated by: 2 is not among 1 and 3.
    """
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    profile = params.load(
        "smoke",
        TINY
        | {
            "rl.continued_steps": 3,
            "rl.evaluated_checkpoints": 2,
            "rl.evaluated_every": 2,
        },
    )
    base = policies.base(profile)
    plain = rl.resume(profile, base, arm="+DAPO", goes_on=True)
    longer = rl.prolong(profile, plain, 1, arm="+DAPO, equal tokens")
    assert longer.record["resumed_at"] == 3
    four = params.change(profile, {"rl.continued_steps": 4})
    start = rl.resume(four, base, arm="four steps")
    found, expected = rl.checkpoints(longer), rl.checkpoints(start)
    assert [*found] == [*expected] == [2, 4] and [*rl.checkpoints(plain)] == [1, 3]
    for step in found:
        assert hashes.content_hash(found[step]) == hashes.content_hash(expected[step])
    assert longer.metrics.drop(columns="seconds").equals(start.metrics.drop(columns="seconds"))
    assert not list((start.folder / "verl").glob("global_step_*"))
