"""The verl adapters against verl 0.9.1 itself: these fail when verl's internals change."""

import inspect
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jagged import jagged

from companion import params
from companion.statistics import Estimate
from companion.tasks import countdown


@pytest.fixture(scope="session")
def policy(tmp_path_factory):
    """A small policy of the task whose next-token distributions are far from uniform."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("policy")
    tokenizer = countdown.tokenizer()
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        model.model.norm.weight.mul_(12)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def seen(policy, tmp_path_factory):
    """What verl's own worker did on the CPU platform, from verl_worker.py."""
    folder = tmp_path_factory.mktemp("verl")
    script = Path(__file__).parent / "verl_worker.py"
    child = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(policy), str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    results = [x for x in child.stdout.splitlines() if x.startswith("RESULT ")]
    assert results, child.stderr[-3000:]
    return json.loads(results[0].removeprefix("RESULT "))


def test_platform_plug_in_is_the_one_verl_uses(seen):
    assert seen["platform"] == "cpu"


def test_rollout_and_trainer_log_probs_agree(seen):
    assert seen["log_prob"] < -3  # not a uniform policy, nor a deterministic one
    assert 0 < seen["entropy"] < 0.9 * torch.log(torch.tensor(len(countdown.tokenizer()))).item()
    assert seen["gap"] <= 1e-4  # nats, at T = 1.2


def test_rollouts_are_a_function_of_their_seed(seen):
    assert seen["repeatable"] and seen["seed_matters"]


def test_rollout_policy_gets_the_trained_weights(seen):
    assert seen["moved"] > 1e-5 and seen["synced"]


@pytest.mark.fault("vLLM ends while it takes the weights")
def test_a_trainer_does_not_wait_for_ever_for_vllm_to_take_the_weights(seen):
    assert seen["unheard"].startswith("vLLM has not taken the weights within 0.2 s")


def test_an_update_without_the_rows_that_have_no_gradient_is_the_full_one(seen):
    """Of 64 rows 32 have advantages of 0; with an entropy term they have a gradient all the same."""
    without_entropy, with_entropy = seen["dealt"]
    assert (without_entropy["rows"], with_entropy["rows"]) == (32, 64)
    for dealt in seen["dealt"]:
        assert dealt["difference"] < 1e-6 and dealt["loss_difference"] < 1e-6


def test_packed_rows_do_not_see_each_other_without_flash_attention(seen):
    """As on GPUs: use_remove_padding and sdpa, sixteen rows in one, beside the same rows padded."""
    assert seen["tokens"] > 64 * 10
    assert seen["packed"]["log_probs"] < 1e-5 and seen["packed"]["entropy"] < 1e-5
    assert seen["joined"] > 0.1  # what two rows say that are one text to it


def test_log_probs_from_hidden_states_are_those_of_the_logits(seen):
    """verl's fused kernels, in torch, as on GPUs: in pieces of 512 tokens, of 64 packed rows."""
    assert max(seen["fused"][name] for name in ("log_probs", "entropy", "loss")) < 1e-5
    assert seen["fused"]["gradient"] < 1e-5


def test_verls_two_log_prob_functions_agree():
    """verl_cpu.py puts the vectorised one in place of the one that loops over tokens."""
    from verl.utils import torch_functional as F

    logits = torch.randn(50, 11, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(50) % 11
    looped, vectorised = (
        f(logits, labels) for f in (F.logprobs_from_logits_v2, F.logprobs_from_logits_naive)
    )
    torch.testing.assert_close(looped, vectorised, atol=1e-6, rtol=0)
    gradients = [torch.autograd.grad(x.sum(), logits)[0] for x in (looped, vectorised)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=0)


def test_loss_is_verls_own_with_the_gap_beside_it():
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla, get_policy_loss_fn
    from verl.workers.config import FSDPActorConfig, FSDPOptimizerConfig

    from companion.adapters.verl_loss import vanilla_with_gap

    config = FSDPActorConfig(
        strategy="fsdp2",
        rollout_n=2,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=10.0,
        optim=FSDPOptimizerConfig(lr=1e-3),
    )
    old = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, -9.0]])
    new = old + torch.tensor([[0.1, -0.5, 0.0], [0.0, 0.3, 5.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    advantages = torch.tensor([[1.0], [-1.0]]).expand(2, 3)
    given = {
        "old_log_prob": old,
        "log_prob": new,
        "advantages": advantages,
        "response_mask": mask,
        "loss_agg_mode": "token-mean",
        "config": config,
        "rollout_is_weights": None,
    }
    assert get_policy_loss_fn("vanilla_with_gap") is vanilla_with_gap
    loss, metrics = vanilla_with_gap(**given)
    assert loss == compute_policy_loss_vanilla(**given)[0]
    assert metrics["actor/rollout_gap_max"] == pytest.approx(0.5)  # the masked 5.0 does not count


def test_the_gap_that_is_logged_is_the_largest_of_all_micro_batches_and_ranks():
    """Through verl's own steps: ppo_loss, a rank's micro-batches, the ranks, the trainer."""
    from verl.utils.metric import AggregationType, Metric, reduce_metrics
    from verl.utils.py_functional import append_to_dict, rename_dict

    import companion.adapters.verl_loss  # noqa: F401

    ranks = []
    for gaps in ((1.0, 2.0), (7.0, 4.0)):
        ranks.append({})
        for gap in gaps:
            returned = {"actor/rollout_gap_max": gap, "actor/pg_clipfrac": gap}
            append_to_dict(ranks[-1], Metric.from_dict(returned, AggregationType.MEAN))
    names = ("actor/rollout_gap_max", "actor/pg_clipfrac")
    output = {}
    append_to_dict(output, {n: Metric.aggregate_dp([rank[n] for rank in ranks]) for n in names})
    logged = reduce_metrics(rename_dict(output, "actor/"))
    assert logged == {"actor/rollout_gap_max": 7.0, "actor/pg_clipfrac": 3.5}


def replay_buffer_of(changes, policy, without="nothing"):
    """The buffer that verl's trainer builds from our overrides, but those with `without`."""
    from test_rl import compose
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    from companion.stages import verl_command

    words = verl_command.overrides(
        params.load("smoke", changes), start=policy, folder=Path("x"), steps=1, temperature=1.0
    )
    trainer = object.__new__(PPOTrainerSync)
    trainer.config = compose([word for word in words if without not in word])
    trainer.trainer_mode = trainer.config.trainer.v1.trainer_mode
    return trainer._build_replay_buffer()


@pytest.mark.parametrize(
    ("answers", "share"),
    [
        ([[5, 5, 1], [5, 6, 1], [6, 6, 1]], 0.0),  # all as long as the longest, none cut
        ([[1], [5, 1], [5, 5, 5, 1]], 0.0),  # ended by the last token that there was room for
        ([[5, 5, 5, 5], [1], [5, 5, 1], [5, 5, 5, 1]], 0.25),
        ([[5, 5, 5, 5], [6, 6, 6, 6]], 1.0),
    ],
)
def test_truncated_is_the_share_of_answers_cut_at_the_limit(answers, share, policy, monkeypatch):
    """verl's `response_length/clip_ratio` would be 1, 1/3, 1/2 and 1."""
    import transfer_queue
    from verl.trainer.ppo.v1 import replay_buffer, trainer_base

    from companion.stages import verl_files

    end = countdown.tokenizer().eos_token_id
    answers = [[end if token == 1 else token for token in row] for row in answers]
    assert end not in (5, 6)
    buffer = replay_buffer_of({"rl.max_response_tokens": 4, "rl.overlong_buffer_tokens": 0}, policy)
    batch = SimpleNamespace(keys=[str(i) for i in range(len(answers))], partition_id="train")

    def stored(keys, partition_id, select_fields):
        asked = (batch.keys, "train", ["responses", "entropies"])
        assert (keys, partition_id, select_fields) == asked
        return {"responses": jagged(answers)}

    monkeypatch.setattr(replay_buffer.ReplayBuffer, "sample", lambda *_, **__: (batch, {"x": 1}))
    monkeypatch.setattr(transfer_queue, "kv_batch_get", stored)
    given = {"global_steps": 1, "partition_id": "train", "batch_size": 4}
    assert buffer.sample(**given) == (batch, {"x": 1, verl_files.COLUMNS["truncated"]: share})
    assert "metrics.update(off_policy_metrics)" in inspect.getsource(trainer_base)


def test_the_logged_entropy_is_the_mean_over_tokens_of_what_was_drawn_from(policy, monkeypatch):
    """By the name under which verl's update logs it, which CPU updates do not compute."""
    import transfer_queue
    from verl.trainer.ppo.v1 import replay_buffer

    from companion.stages import verl_files

    rows = {
        "responses": jagged([[5, 5], [5, 5, 5, 5]]),
        "entropies": jagged([[0.0, 0.3], [0.1, 0.2, 0.3, 0.3]]),
    }
    monkeypatch.setattr(replay_buffer.ReplayBuffer, "sample", lambda *_, **__: (batch, {}))
    monkeypatch.setattr(transfer_queue, "kv_batch_get", lambda **_: rows)
    batch = SimpleNamespace(keys=["a", "b"], partition_id="train")
    _, logged = replay_buffer_of({}, policy).sample(
        global_steps=1, partition_id="train", batch_size=2
    )
    assert logged[verl_files.COLUMNS["rollout_entropy"]] == pytest.approx(1.2 / 6)


def test_dynamic_sampling_is_told_to_our_buffer_as_to_verls_own(policy):
    for dynamic, metric in ((True, "acc"), (False, None)):
        changes = {"rl.dynamic_sampling": dynamic}
        ours = vars(replay_buffer_of(changes, policy))
        theirs = vars(replay_buffer_of(changes, policy, without="custom_sampler"))
        assert ours["filter_groups_metric"] == metric
        assert ours["refill_fn"] and theirs.pop("refill_fn")  # methods of two trainers
        if not dynamic:  # then verl asks for no prompts within a step, and does not look at it
            assert ours.pop("gen_batch_size") == 1 and theirs.pop("gen_batch_size") == 8
        assert {name: ours[name] for name in theirs} == theirs


@pytest.mark.fault("a reward raises")
def test_a_step_with_an_answer_that_failed_ends_where_verl_would_go_on_without_it(
    policy, monkeypatch
):
    from verl.trainer.ppo.v1 import replay_buffer

    prompts = {
        uid: {"is_prompt": True, "status": status, "global_steps": 3}
        for uid, status in (("a", "finished"), ("b", "failure"))
    }
    queue = {"train": prompts | {"a_0_0": {}, "a_1_0": {}, "b_1_0": {}}}
    monkeypatch.setattr(replay_buffer.tq, "kv_list", lambda: queue)
    monkeypatch.setattr(replay_buffer.tq, "kv_clear", lambda **_: None)
    asked = {"global_steps": 3, "partition_id": "train", "batch_size": 2}
    theirs, _ = replay_buffer_of({}, policy, without="custom_sampler").sample(**asked)
    assert theirs.keys == ["a_0_0", "a_1_0", "b_1_0"]
    with pytest.raises(
        RuntimeError, match="step 3: an answer to 1 prompts could not be sampled or"
    ):
        replay_buffer_of({}, policy).sample(**asked)


def test_entropy_stop_ends_the_loop_after_the_measured_step(tmp_path, monkeypatch):
    from omegaconf import OmegaConf
    from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback
    from verl.trainer.ppo.v1 import trainer_base

    from companion.adapters import entropy_stop

    (tmp_path / "profile.json").write_text(params.load("smoke").model_dump_json())
    config = OmegaConf.create(
        {
            "trainer": {"checkpoint_callback_class": "companion.adapters.entropy_stop.EntropyStop"},
            "companion": {
                "profile": str(tmp_path / "profile.json"),
                "stop_entropy": 0.3,
                "kept": [20],
            },
        }
    )
    callback, logged = build_checkpoint_callback(config), []
    logger = SimpleNamespace(log=lambda data, step: logged.append((step, data)))
    trainer = SimpleNamespace(total_training_steps=100, logger=logger)
    for step, entropy in ((10, 0.31), (20, 0.29)):
        measured = Estimate(entropy, entropy, entropy)
        monkeypatch.setattr(entropy_stop, "token_entropy", lambda *_, m=measured: m)
        saved = tmp_path / "verl" / f"global_step_{step}"
        (saved / "actor" / "huggingface").mkdir(parents=True)
        (saved / "actor" / "huggingface" / "config.json").write_text(str(step))
        callback.on_save(
            trainer=trainer, global_step=step, checkpoint_dir=str(saved), async_save=False
        )
        assert trainer.total_training_steps == (100 if step == 10 else 20)
    assert logged == [(10, {"token_entropy": 0.31}), (20, {"token_entropy": 0.29})]
    assert [path.name for path in (tmp_path / "policies").iterdir()] == ["step-20"]
    assert (tmp_path / "policies" / "step-20" / "config.json").read_text() == "20"
    # The loop reads the limit anew every step, and its own last step was decided before.
    loop = inspect.getsource(trainer_base.PPOTrainer.fit)
    assert "self.global_steps <= self.total_training_steps" in loop


def test_a_reward_is_what_verls_manager_says_of_a_data_proto():
    """Of a right answer and wrong ones, some of which reach into the overlong buffer."""
    import numpy as np
    from omegaconf import OmegaConf
    from tensordict import TensorDict
    from verl import DataProto
    from verl.experimental.reward_loop.reward_manager.dapo import DAPORewardManager

    from companion.adapters.rewards import compute_score
    from companion.adapters.rollout_server import BatchAgentLoopManager, _AtOnce

    tokenizer = countdown.tokenizer()
    problem, lines = countdown.random_problem(3, random.Random(0))
    right = tokenizer.encode(" \n ".join(lines) + " yes")
    limit = len(right) + 2
    buffer = {"enable": True, "len": 4, "penalty_factor": 1.0, "log": True}
    config = {"reward": {"reward_kwargs": {"max_resp_len": limit, "overlong_buffer_cfg": buffer}}}
    manager = DAPORewardManager(OmegaConf.create(config), tokenizer, compute_score)
    theirs, loop = [], manager.loop
    rule = {"style": "rule", "ground_truth": countdown.prompt(problem)}
    answers = [right, [5] * 3, [5] * (limit - 3), [5] * limit]
    for answer in answers:
        row = {
            "responses": torch.tensor([answer]),
            "attention_mask": torch.tensor([[1] * len(answer)]),
        }
        named = {"data_source": "countdown/x", "reward_model": rule}
        asked = {name: np.array([value], dtype=object) for name, value in named.items()}
        theirs.append(
            loop.run_until_complete(manager.run_single(DataProto(TensorDict(row, 1), asked)))
        )
    manager.loop = _AtOnce()
    ours = SimpleNamespace(rewards=manager)
    for answer, expected in zip(answers, theirs, strict=True):
        assert BatchAgentLoopManager._score(ours, "countdown/x", rule, answer) == expected
    assert [float(one["reward_score"]) for one in theirs] == [0.5, 0.0, -0.25, -1.0]


def test_batch_manager_writes_what_verls_agent_loop_writes():
    """Every column that the trainer asks the TransferQueue for, by the names it uses."""
    from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer, trainer_base

    from companion.adapters import rollout_server

    ours = inspect.getsource(rollout_server.BatchAgentLoopManager)
    asked = {
        "prompts",
        "responses",
        "response_mask",
        "rm_scores",
        "num_turns",
        "rollout_log_probs",
        "uid",
        "input_ids",
        "position_ids",
        "loss_mask",
        "reward_model",
        "data_source",
        "extra_fields",
    }
    assert all(f'"{name}":' in ours for name in asked)
    theirs = inspect.getsource(agent_loop_tq)
    for tag in ("prompt_len", "response_len", "seq_len", "min_global_steps", "max_global_steps"):
        assert f'"{tag}"' in theirs and f'"{tag}"' in ours
    assert 'keys.append(f"{uid}_{session_id}_{i}")' in theirs
    assert 'case "finished"' in inspect.getsource(replay_buffer.ReplayBuffer)
    assert "self.agent_loop_manager.generate_sequences(batch)" in inspect.getsource(trainer_base)
