"""Reheating through ms-swift: the loss, the rollouts, the gate and the stop, and the exact control.

The ms-swift parts run its own trainer on a policy of 30,000 parameters, in this process where
they look inside it, through `swift rlhf` where they check a run from end to end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest
import torch

from companion import objective, params, runs
from companion.policies import load_policy
from companion.stages import checks, reheat, scaling, swift_command
from companion.stages.engines import opened
from companion.stages.entropy import token_entropy
from companion.stages.launch import launch
from companion.tasks import countdown

PROMPTS = ["3 5 7 -> 36", "12 1 -> 13", "20 19 18 4 -> 7", "2 2 -> 4"]
ANSWERS = ["3 + 5 = 8", "12", "20 - 4 = 16", "2 * 2 = 4 yes"]
END = "<|im_end|>"


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    """A Qwen3 of random weights that speaks Countdown's tokens, sharpened to about 2 nats."""
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("policy") / "policy", countdown.tokenizer()
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        model.model.norm.weight.mul_(12)
    model.generation_config = GenerationConfig(
        do_sample=True,
        top_k=3,
        eos_token_id=tokenizer.eos_token_id,  # a top-k to stumble over
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def profile(policy: Path, **overrides) -> params.Profile:
    """`smoke`, made smaller, with `policy` as its base; keywords say `__` for a dot."""
    small = {
        "task.base": str(policy),
        "entropy.prompts": 16,
        "rl.max_response_tokens": 12,
        "rl.overlong_buffer_tokens": 4,
        "reheat.batch_size": 16,
        "reheat.micro_batch_size": 8,
        "reheat.max_completion_tokens": 12,
        "reheat.max_steps": 2,
        "reheat.learning_rate": 1e-3,
        "rl.collapse.entropy": 5.0,
        "reheat.recovery_entropy": 8.0,
        "reheat.ceiling_entropy": 9.0,
    }
    return params.load("smoke", small | {k.replace("__", "."): v for k, v in overrides.items()})


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    return tmp_path


# --- Inside ms-swift's trainer --------------------------------------------------------------


def make_trainer(settings: params.Profile, policy: Path, folder: Path, direction: str):
    """The trainer that `swift rlhf` would train with these settings."""
    from swift.pipelines.train.rlhf import SwiftRLHF

    class Untrained(SwiftRLHF):
        def train(self, trainer):
            self.trainer = trainer

    swift_command.write_inputs(settings, direction, folder)
    pipeline = Untrained(swift_command.arguments(settings, policy, folder))
    pipeline.main()
    return pipeline.trainer


@pytest.fixture(scope="module")
def trainer(policy, tmp_path_factory):
    return make_trainer(profile(policy), policy, tmp_path_factory.mktemp("trainer"), "forward")


def answered(trainer, cut: int = 0) -> list:
    """The four prompts with their answers; the last `cut` answers lack the end token."""
    tokenizer, samples = trainer.processing_class, []
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        [sample] = trainer.to_samples([{"messages": [{"role": "user", "content": prompt}]}])
        text = answer + ("" if row >= len(PROMPTS) - cut else f" {END}")
        sample.messages.append({"role": "assistant", "content": text})
        sample.response_token_ids = tokenizer(text)["input_ids"]
        samples.append(sample)
    trainer._data_source = None
    return samples


def gradient_through_swift(trainer, direction: str, micro_batches: int) -> tuple[float, dict]:
    """Mean KL and parameter gradients of one update on the four answers."""
    trainer.direction = direction
    trainer.args.steps_per_generation = micro_batches
    trainer.current_gradient_accumulation_steps = micro_batches
    trainer.model.train().zero_grad()
    total = 0.0
    for batch in trainer._prepare_batch_inputs(answered(trainer)):
        loss = trainer.compute_loss(trainer.model, batch) / micro_batches  # as training_step
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in trainer.model.named_parameters()}


def gradient_by_the_book(trainer, direction: str) -> tuple[float, dict]:
    """The same in float64 by autograd of Eq. 8 or 13, answer by answer, without any padding."""
    tokenizer = trainer.processing_class
    model, teacher = (
        type(trainer.model)(trainer.model.config).double().eval() for _ in ("student", "teacher")
    )
    model.load_state_dict(trainer.model.state_dict())
    teacher.load_state_dict((trainer.teacher_model or trainer.model).state_dict())
    divergences = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        said = tokenizer(f"{answer} {END}")["input_ids"]
        z, y = (
            policy(input_ids=torch.tensor([asked + said])).logits[0, len(asked) - 1 : -1]
            for policy in (model, teacher)
        )
        p, q = torch.softmax(z, -1), torch.softmax(y.detach() / trainer.tau, -1)
        above, below = (q, p) if direction == "forward" else (p, q)
        divergences.append((above * (above / below).log()).sum(-1))
    loss = torch.cat(divergences).mean()
    loss.backward()
    return loss.item(), {n: p.grad.float() for n, p in model.named_parameters()}


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("micro_batches", [1, 2, 4])
@pytest.mark.parametrize("through_head", [False, True])
def test_loss_and_gradient_equal_the_textbook_however_the_update_is_split(
    trainer, direction, micro_batches, through_head, monkeypatch
):
    """Also the invariance to padding: the textbook side has none."""
    monkeypatch.setattr(trainer, "through_head", through_head)
    loss, gradient = gradient_through_swift(trainer, direction, micro_batches)
    expected_loss, expected = gradient_by_the_book(trainer, direction)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("direction", "beta"), [("forward", 0.0), ("reverse", 1.0)])
def test_first_step_equals_stock_gkd_with_a_frozen_scaled_teacher(
    trainer, policy, tmp_path, direction, beta, monkeypatch
):
    from swift.rl_core.data import GKDBatch
    from swift.rlhf_trainers.gkd_loss import DataSource
    from swift.rlhf_trainers.gkd_trainer import GKDTrainer

    loss, gradient = gradient_through_swift(trainer, direction, 1)

    scaling.save_scaled(policy, trainer.tau, tmp_path)
    monkeypatch.setattr(trainer, "teacher_model", load_policy(tmp_path)[0])
    monkeypatch.setattr(trainer, "_is_self_distillation", False)
    trainer.beta, trainer.temperature = beta, 1.0
    trainer.args.steps_per_generation = 1
    [batch] = trainer._prepare_batch_inputs(answered(trainer))
    batch["gkd_batch"] = GKDBatch(data_source=DataSource.STUDENT)
    trainer.model.zero_grad()
    stock = GKDTrainer.compute_loss(trainer, trainer.model, batch)
    stock.backward()

    assert loss == pytest.approx(stock.item(), abs=1e-6)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(gradient[name], parameter.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cut", [0, 4], ids=["ended", "truncated"])
def test_prompt_ids_are_the_chat_templates_and_only_the_answer_is_in_the_loss(trainer, cut):
    tokenizer = trainer.processing_class
    trainer.args.steps_per_generation = 1
    [batch] = trainer._prepare_batch_inputs(answered(trainer, cut))
    inputs = batch["model_inputs"]
    rows = {}
    for ids, labels, mask in zip(
        inputs["input_ids"], inputs["labels"], inputs["attention_mask"], strict=True
    ):
        answer = labels != -100
        assert torch.equal(ids[answer], labels[answer])
        rows[tuple(ids[mask.bool() & ~answer].tolist())] = ids[answer].tolist()

    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        said = tokenizer(answer if cut else f"{answer} {END}")["input_ids"]
        assert rows[tuple(asked)] == said
        assert (tokenizer.eos_token_id in said) == (not cut)
    assert batch["total_tokens"] == sum(map(len, rows.values()))


@pytest.mark.parametrize(
    ("cut", "limit", "share"),
    [(0, 12, 0.0), (0, 6, 0.0), (4, 5, 0.75), (4, 12, 0.0)],
    ids=["ended", "ended by the last token", "three cut", "ended by another token"],
)
def test_truncated_is_the_share_of_answers_cut_at_the_limit(trainer, cut, limit, share):
    """Answers of 5, 1, 5 and 6 tokens, and an end token where they are not cut."""
    trainer.args.steps_per_generation = 1
    counted = trainer.custom_metrics["train"]["truncated"]
    counted.reset()
    with patch.object(trainer.args, "max_completion_length", limit):
        trainer._prepare_batch_inputs(answered(trainer, cut))
    assert counted.compute()["value"] == share


def test_vllm_would_be_asked_the_same_prompts(trainer):
    """ms-swift encodes prompts for its rollout engines with the template in inference mode."""
    template = trainer.template
    with template.generate_context():
        for prompt in PROMPTS:
            messages = [{"role": "user", "content": prompt}]
            encoded = template.encode({"messages": messages})["input_ids"]
            assert encoded == trainer.processing_class.apply_chat_template(
                messages, add_generation_prompt=True, return_dict=False
            )


def test_rollouts_are_samples_of_the_whole_distribution_at_temperature_one(trainer, policy):
    """The policy's generation config says top-k 3, which must not be heard."""
    rows = [{"messages": [{"role": "user", "content": prompt}]} for prompt in PROMPTS * 50]
    samples = trainer._rollout_samples(rows)
    with opened(policy, params.load("smoke")) as sampler:
        again = sampler(
            PROMPTS * 50,
            max_new_tokens=12,
            temperature=1.0,
            top_p=1.0,
            seed=trainer.args.seed * 1_000_003,
        )
    assert [s.response_token_ids for s in samples] == again.tokens
    assert len({s.response_token_ids[0] for s in samples[::4]}) > 3


def test_an_update_without_answer_tokens_is_zero_and_not_nan(trainer):
    trainer.args.steps_per_generation = 1
    [batch] = trainer._prepare_batch_inputs(answered(trainer))
    batch["model_inputs"]["labels"][:] = -100
    batch["total_tokens"] = 0
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss.item() == 0
    assert all((p.grad == 0).all() for p in trainer.model.parameters())


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_ms_swift_understands_the_command(policy, tmp_path, platform):
    from swift.arguments import RLHFArguments
    from swift.utils import parse_args

    settings = profile(policy, hardware__platform=platform)
    swift_command.write_inputs(settings, "forward", tmp_path)
    words = swift_command.arguments(settings, policy, tmp_path)
    words += ["--use_cpu", "true"] if platform == "gpu" else []  # what only a GPU machine has
    with patch.dict(os.environ):  # FSDP leaves settings there
        arguments, rest = parse_args(RLHFArguments, words)

    assert rest == []
    assert (arguments.rlhf_type, arguments.lmbda, arguments.sft_alpha) == ("gkd", 1, 0)
    assert (arguments.temperature, arguments.top_p, arguments.top_k) == (1, 1, -1)
    assert arguments.repetition_penalty == 1 and not arguments.min_p
    assert arguments.teacher_model is None
    assert (arguments.lr_scheduler_type, arguments.weight_decay) == ("constant", 0)
    assert (arguments.optim, arguments.adam_beta2) == ("adamw_torch_fused", 0.999)
    assert arguments.learning_rate == settings.reheat.learning_rate
    rollouts = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    assert rollouts == settings.reheat.batch_size
    assert arguments.use_vllm == arguments.bf16 == (platform == "gpu")
    assert not arguments.fp16 and str(arguments.torch_dtype) == "torch.float32"
    if platform == "gpu":
        assert arguments.fsdp_config["state_dict_type"] == "FULL_STATE_DICT"
    assert arguments.max_length >= 15  # the longest prompt of the task


def test_further_arguments_of_ms_swift_reach_it_and_are_part_of_the_run(policy, tmp_path):
    more = {"report_to": "tensorboard", "adam_beta1": 0.8}
    settings = profile(policy, reheat__swift=more)
    checks.swift_arguments(settings)
    words = swift_command.command(settings, policy, tmp_path)
    assert words[words.index("--report_to") + 1] == "tensorboard"
    assert words[words.index("--adam_beta1") + 1] == "0.8" and words.count("--report_to") == 1
    with pytest.raises(ValueError, match=r"reheat.swift sets 'learning_rate', which follows"):
        swift_command.command(profile(policy, reheat__swift={"learning_rate": 1}), policy, tmp_path)
    with pytest.raises(
        ValueError, match=r"holds 'adam_beta', no argument .*; did you mean 'adam_beta\d'"
    ):
        checks.swift_arguments(profile(policy, reheat__swift={"adam_beta": 0.8}))


@pytest.mark.parametrize(("prompts", "batch", "lines"), [(64, 16, 64), (64, 48, 48), (10, 16, 16)])
def test_prompts_fill_whole_batches(policy, tmp_path, prompts, batch, lines):
    settings = profile(
        policy, task__train_problems=prompts, reheat__batch_size=batch, reheat__micro_batch_size=1
    )
    swift_command.write_inputs(settings, "forward", tmp_path)
    written = (tmp_path / swift_command.PROMPTS).read_text().splitlines()
    assert len(written) == lines and len(set(written)) == min(prompts, lines)


# --- The gate and the stop ------------------------------------------------------------------


def test_gate_refuses_what_is_not_collapsed(policy):
    heat = profile(policy, rl__collapse__entropy=0.08)
    reheat.check_gate(heat, 0.08)
    with pytest.raises(ValueError, match=r"0\.081 nats, above rl\.collapse\.entropy \(0\.08\)"):
        reheat.check_gate(heat, 0.081)
    cool = reheat.with_tau(heat, 1 / 1.2)
    reheat.check_gate(cool, 0.081)
    with pytest.raises(ValueError, match="collapsed already"):
        reheat.check_gate(cool, 0.08)


def test_stop_is_where_entropy_recovers_and_reversed_for_cooling(policy):
    heat = profile(
        policy,
        rl__collapse__entropy=0.08,
        reheat__recovery_entropy=0.12,
        reheat__ceiling_entropy=0.4,
    )
    assert [reheat.crossed(heat, h) for h in (0.07, 0.119, 0.12, 0.3)] == [False, False, True, True]
    cool = reheat.with_tau(heat, 1 / 1.2)
    assert [reheat.crossed(cool, h) for h in (0.07, 0.08, 0.081, 0.3)] == [True, True, False, False]
    assert [reheat.diverged(heat, h) for h in (0.4, 0.41)] == [False, True]
    assert not reheat.diverged(cool, 0.5)  # on its way down
    endless = params.change(heat, {"reheat.recovery_entropy": None, "reheat.ceiling_entropy": None})
    assert not reheat.crossed(endless, 9.0) and not reheat.diverged(endless, 9.0)


@pytest.mark.parametrize(
    ("tau", "message"),
    [
        (0, "tau is 0 and must be a positive number"),
        (-1.2, "tau is -1.2 and must be"),
        (1, "tau is 1, which makes the teacher the student itself"),
        (float("nan"), "tau is nan and must be"),
    ],
)
def test_impossible_tau_is_refused(policy, tau, message):
    with pytest.raises(ValueError, match=message):
        reheat.reheat(profile(policy), policy, tau=tau)
    with pytest.raises(ValueError, match=message):
        scaling.scale(profile(policy), policy, tau)


def test_what_is_no_policy_of_this_task_is_refused(policy, tmp_path, root):
    with pytest.raises(ValueError, match="is no policy: it has no config.json"):
        reheat.reheat(profile(policy), tmp_path)
    other = tmp_path / "other"
    shutil.copytree(policy, other)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"yes"', '"ja"'))
    with pytest.raises(ValueError, match="has another vocabulary or chat template"):
        reheat.reheat(profile(policy), other)
    with pytest.raises(ValueError, match="direction is 'sideways'"):
        reheat.reheat(profile(policy), policy, direction="sideways")
    with pytest.raises(ValueError, match="above rl.collapse.entropy"):
        reheat.reheat(profile(policy, rl__collapse__entropy=0.1), policy)
    assert not (root / "runs").exists()


def test_batch_that_does_not_divide_is_refused(policy, tmp_path):
    settings = profile(policy, reheat__batch_size=20)
    with pytest.raises(ValueError, match=r"must be a multiple of .* \(8 x 1\)"):
        swift_command.command(settings, policy, tmp_path)


# --- Whole runs of `swift rlhf` -------------------------------------------------------------

NOTEBOOK = """
import sys
from pathlib import Path
from companion import runs, schema
from companion.stages import reheat

runs.ROOT = Path(sys.argv[1])
reheat.reheat(schema.Profile.model_validate_json(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.fault("a clone in an odd path", "the notebook is killed (KILL, TERM, HUP)")
def test_a_run_repeats_and_resumes_bit_for_bit_and_stops_at_the_ceiling(policy, root, monkeypatch):
    settings = profile(
        policy,
        reheat__keep_checkpoints=True,
        reheat__max_steps=4,
        task__train_problems=32,  # an epoch is two steps
        hardware__threads=1,
    )
    first = reheat.reheat(settings, policy)
    metrics = first.metrics
    assert metrics["step"].tolist() == [0, 1, 2, 3, 4]
    assert metrics["token_entropy"].is_monotonic_increasing
    assert (metrics.loc[1:, ["kl", "grad_norm", "rollout_entropy"]] > 0).all(axis=None)
    assert metrics.loc[1:, "response_length"].between(1, 12).all()
    assert metrics.loc[1:, "truncated"].between(0, 1).all()
    assert metrics["token_entropy"].iloc[-1] == first.result["token_entropy"]
    # The one measure, of the policy that was kept (ms-swift may have another number of threads).
    kept = token_entropy(first.policy, settings).value
    assert first.result["token_entropy"] == pytest.approx(kept, abs=1e-6)
    assert not first.result["recovered"]
    assert first.record["environment"]["OMP_NUM_THREADS"]
    assert reheat.checkpoints(first).keys() == {1, 2, 3, 4}
    for checkpoint in reheat.checkpoints(first).values():
        load_policy(checkpoint)

    # Once more elsewhere: the notebook is killed amid the second epoch, then as if in its last step.
    monkeypatch.setattr(runs, "ROOT", root / "Zoë, #1=[a]{b} (a b)")
    words = [str(runs.ROOT), settings.model_dump_json(), str(policy)]
    notebook = subprocess.Popen([sys.executable, "-c", NOTEBOOK, *words])

    def steps() -> list[str]:
        files = list(runs.ROOT.glob("runs/smoke/reheat-*/metrics.jsonl"))
        return files[0].read_text().splitlines() if files else []

    while len(steps()) < 4 and notebook.poll() is None:
        time.sleep(0.02)
    [keeper] = psutil.Process(notebook.pid).children()
    below = keeper.children(recursive=True)
    notebook.kill()
    assert not psutil.wait_procs([keeper, *below], timeout=60)[1]
    [folder] = runs.ROOT.glob("runs/smoke/reheat-*")
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:4]) + '{"step": 4, "kl"')
    again = reheat.reheat(settings, policy)
    assert again.metrics.drop(columns="seconds").equals(metrics.drop(columns="seconds"))
    with patch.object(checks, "same_task", lambda *_: pytest.fail("a tokenizer is loaded")):
        assert reheat.reheat(settings, policy).folder == again.folder
    weights = [run.policy / "model.safetensors" for run in (first, again)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert [one["status"] for one in again.record["tries"]] == ["killed", "finished"]
    log = (again.folder / "ms-swift.log").read_text()
    assert re.search(r"^resume_from_checkpoint=.*checkpoint-", log, re.MULTILINE)

    start = first.result["start_entropy"]
    hot = profile(
        policy,
        reheat__learning_rate=1e-2,
        reheat__recovery_entropy=start + 1e-3,
        reheat__ceiling_entropy=start + 2e-3,
        hardware__threads=1,
    )
    with pytest.raises(RuntimeError, match="after step 1 .* above reheat.ceiling_entropy"):
        reheat.reheat(hot, policy)
    # A second call trains nothing more and says the same.
    monkeypatch.setattr(reheat, "launch", lambda *_, **__: pytest.fail("launched again"))
    with pytest.raises(RuntimeError, match="after step 1 .* above reheat.ceiling_entropy"):
        reheat.reheat(hot, policy)


def test_interrupting_ends_the_command_and_its_children(tmp_path):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
    grandchild = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); "

    def interrupt() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt

    words = [sys.executable, "-c", child.format(grandchild + "time.sleep(60)")]
    with pytest.raises(KeyboardInterrupt):
        launch(words, {}, tmp_path / "log", interrupt)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_failing_command_ends_with_the_end_of_its_log(tmp_path):
    words = [sys.executable, "-c", "print('too hot'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match="ms-swift failed; the end of its log:\ntoo hot"):
        launch(words, {}, tmp_path / "ms-swift.log", lambda: None)


# --- The control: exact scaling -------------------------------------------------------------


def test_scaling_divides_every_logit(policy, root):
    run = scaling.scale(profile(policy), policy, 1.2)
    tokens = torch.arange(40)[None]
    before, after = (load_policy(path)[0](tokens).logits.detach() for path in (policy, run.policy))
    torch.testing.assert_close(after, before / 1.2, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        objective.entropy(after), objective.entropy(before / 1.2), rtol=1e-5, atol=1e-6
    )
    assert run.result["token_entropy"] == token_entropy(run.policy, profile(policy)).value
    assert scaling.scale(profile(policy), policy, 1.2).folder == run.folder


def test_matching_tau_finds_the_tau_of_a_scaled_policy(policy, root, monkeypatch):
    settings = profile(policy, entropy__prompts=512)
    scaled = scaling.scale(settings, policy, 1.3)
    tau = scaling.matching_tau(settings, policy, scaled.result["token_entropy"])
    found = scaling.scale(settings, policy, tau).result["token_entropy"]
    assert tau == pytest.approx(1.3, abs=0.05)
    assert found == pytest.approx(scaled.result["token_entropy"], abs=0.02)
    with pytest.raises(ValueError, match="no tau between 1/4 and 4"):
        scaling.matching_tau(settings, policy, 20.0)
    monkeypatch.setattr(checks, "same_task", lambda *_: pytest.fail("a tokenizer is loaded"))
    assert scaling.matching_tau(settings, policy, scaled.result["token_entropy"]) == tau
    assert scaling.scale(settings, policy, 1.3).folder == scaled.folder


# --- A frozen teacher (its trainer comes last: accelerate knows one at a time) --------------


@pytest.fixture(scope="module")
def frozen(policy, tmp_path_factory):
    """A trainer whose teacher stands still, and whose student has moved on."""
    folder = tmp_path_factory.mktemp("frozen")
    made = make_trainer(profile(policy, reheat__teacher="frozen"), policy, folder, "forward")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("through_head", [False, True])
def test_a_frozen_teacher_is_the_policy_that_reheating_starts_from(
    frozen, policy, direction, through_head, monkeypatch
):
    monkeypatch.setattr(frozen, "through_head", through_head)
    loss, gradient = gradient_through_swift(frozen, direction, 2)
    expected_loss, expected = gradient_by_the_book(frozen, direction)
    assert loss == pytest.approx(expected_loss, abs=1e-6) and loss > 0.01
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, rtol=1e-4, atol=1e-5)
    assert not frozen.teacher_model.training
    start = load_policy(policy)[0].state_dict()
    for name, value in frozen.teacher_model.state_dict().items():
        assert value.equal(start[name])
