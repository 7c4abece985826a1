"""What cannot be is one sentence, with the field, its value and the remedy, and nothing is started."""

import math

import pytest

from companion import params, policies, runs
from companion.params import ROOT
from companion.stages import entropy, launch, reheat, rl, scaling

BASE = ROOT / "results" / "checkpoints" / "countdown-base"
VALUES = [  # a field of the profile, a value of it, and what is said
    ("seed", -1, "seed is -1: .* greater than or equal to 0"),
    ("seed", 4294967296, "seed is 4294967296: .* less than 4294967296"),
    ("seed", 2**64, "seed is 18446744073709551616: .* less than"),
    ("seed", True, "seed is true, which stands for true or false; give a value"),
    ("seed", 1.5, "seed is 1.5: .* integer"),
    ("seed", "one", "seed is 'one': .* integer"),
    ("seed", [1], r"seed is \[1\]: .* integer"),
    ("reheat.tau", 1, "tau is 1, which makes the teacher the student itself"),
    ("reheat.tau", 0, "reheat.tau is 0: .* greater than or equal to 0.01"),
    ("reheat.tau", -1.2, "reheat.tau is -1.2: .* greater than or equal to 0.01"),
    ("reheat.tau", 1e-38, "reheat.tau is 1e-38: .* greater than or equal to 0.01"),
    ("reheat.tau", 1e38, r"reheat.tau is 1e\+38: .* less than or equal to 100"),
    ("reheat.tau", math.nan, "reheat.tau is nan: .* finite number"),
    ("reheat.tau", math.inf, "reheat.tau is inf: .* finite number"),
    ("reheat.tau", True, "reheat.tau is true, which stands for true or false"),
    ("reheat.tau", "hot", "reheat.tau is 'hot': .* number"),
    ("reheat.learning_rate", 0, "reheat.learning_rate is 0: .* greater than 0"),
    ("reheat.learning_rate", math.nan, "reheat.learning_rate is nan: .* finite number"),
    ("reheat.learning_rate", math.inf, "reheat.learning_rate is inf: .* finite number"),
    ("reheat.learning_rate", False, "reheat.learning_rate is false, which stands for"),
    ("reheat.adam_beta2", 1, "reheat.adam_beta2 is 1: .* less than 1"),
    ("reheat.optimizer", "adam", "reheat.optimizer is 'adam': .* 'adamw' or 'sgd'"),
    ("reheat.max_steps", 0, "reheat.max_steps is 0: .* greater than 0"),
    ("reheat.max_steps", 2.5, "reheat.max_steps is 2.5: .* integer"),
    ("reheat.batch_size", {}, "reheat.batch_size is {}: .* integer"),
    ("reheat.recovery_entropy", -1, "reheat.recovery_entropy is -1: .* greater than 0"),
    ("reheat.recovery_entropy", math.nan, "reheat.recovery_entropy is nan: .* finite number"),
    ("reheat.ceiling_entropy", 0.5, r"ceiling_entropy is 0.5 and must lie above recovery_entropy"),
    ("reheat.keep_checkpoints", "perhaps", "reheat.keep_checkpoints is 'perhaps': .* boolean"),
    ("reheat.temperature", 1.2, "'reheat.temperature' is no field of a profile; "),
    ("reheat.tau.x", 1.2, "reheat.tau"),
    ("merge.strength", 0, "merge.strength is 0: .* greater than 0"),
    ("merge.strength", 1.1, "merge.strength is 1.1: .* less than or equal to 1"),
    ("merge.strength", True, "merge.strength is true, which stands for"),
    ("merge.strength", math.nan, "merge.strength is nan: .* finite number"),
    ("analysis.frontier_strengths", [0.2, 0], "analysis.frontier_strengths.1 is 0: .* greater than 0"),
    ("analysis.frontier_taus", [1], "analysis: tau is 1, which makes the teacher the student itself"),
    ("analysis.frontier_taus", [], "analysis.frontier_taus is \\[\\]: .* at least 1 item"),
    ("merge.strenght", 0.4, "'merge.strenght' is no field of a profile; did you mean 'strength'"),
    ("rl.rollout_temperature", 1e-38, "rl.rollout_temperature is 1e-38: .* 0.01"),
    ("rl.rollout_temperature", 0, "rl.rollout_temperature is 0: .* 0.01"),
    ("rl.rr_temperature", math.nan, "rl.rr_temperature is nan: .* finite number"),
    ("rl.rollout_top_p", 1.1, "rl.rollout_top_p is 1.1: .* less than or equal to 1"),
    ("rl.rollout_top_p", 0, "rl.rollout_top_p is 0: .* greater than 0"),
    ("rl.rollout_engine", "sglang", "rl.rollout_engine is 'sglang': .* 'transformers' or 'vllm'"),
    ("rl.learning_rate", "1e", "rl.learning_rate is '1e': .* number"),
    ("rl.mini_batch_size", 3, "rl.mini_batch_size is 3 and must divide rl.batch_size"),
    ("rl.dynamic_sampling", 2, "rl.dynamic_sampling is 2: .* boolean"),
    ("rl.arms", [], r"arms is \[\] and must begin with '\+DAPO'"),
    ("rl.arms", "+DAPO", r"rl.arms is '\+DAPO': .* list"),
    ("rl.collapse", 0.3, "rl.collapse is 0.3: "),
    ("rl.collapse.entropy", 0, "rl.collapse.entropy is 0: .* greater than 0"),
    ("rl.collapse.entropy", True, "rl.collapse.entropy is true, which stands for"),
    ("rl.collapse.entropie", 1, "'rl.collapse.entropie' is no field of a profile; did you mean"),
    ("entropy.prompts", 0, "entropy.prompts is 0: .* greater than 0"),
    ("evaluation.temperature", 1e-38, "evaluation.temperature is 1e-38: .* 0.01"),
    ("evaluation.samples", True, "evaluation.samples is true, which stands for"),
    ("evaluation.engine", None, "evaluation.engine is None: .* 'transformers' or 'vllm'"),
    ("analysis.taus", [1.2, 0], "analysis.taus.1 is 0: .* 0.01"),
    ("analysis.cooling_tau", 1.2, "analysis.cooling_tau is 1.2: .* less than 1"),
    ("hardware.platform", "tpu", "hardware.platform is 'tpu': .* 'cpu' or 'gpu'"),
    ("hardware.threads", 0, "hardware.threads is 0: .* greater than 0"),
    ("hardware.tensor_parallel", 2, "tensor_parallel is 2 and must divide gpus_per_node"),
    ("task.name", "chess", "task.name is 'chess': .* 'countdown', 'math' or 'own'"),
    ("task.base", 7, "task.base is 7: .* string"),
    ("task.test_problems", None, "task.test_problems is missing; countdown has no end"),
    ("task", "countdown", "task is 'countdown': "),
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setattr(launch.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    yield
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("field", "value", "said"), VALUES)
def test_a_value_that_cannot_be(field, value, said):
    with pytest.raises(ValueError, match=said) as error:
        params.load("smoke", changes={field: value})
    assert "\n" not in str(error.value)


SMOKE = params.load("smoke")
CALLS = {
    "force in words": (
        lambda: reheat.reheat(SMOKE, BASE, force="false"), "force is 'false' and must be True or",
    ),
    "force a number": (lambda: reheat.reheat(SMOKE, BASE, force=1), "force is 1 and must be True or"),
    "tau in words": (lambda: reheat.reheat(SMOKE, BASE, tau="1.2"), "tau is '1.2' and must be a"),
    "tau true": (lambda: reheat.reheat(SMOKE, BASE, tau=True), "tau is True and must be a"),
    "tau tiny": (lambda: scaling.scale(SMOKE, BASE, 1e-38), "tau is 1e-38 and must lie between"),
    "temperature tiny": (
        lambda: rl.resume(SMOKE, BASE, arm="x", temperature=1e-38), "temperature is 1e-38 and must be",
    ),
    "temperature true": (
        lambda: rl.resume(SMOKE, BASE, arm="x", temperature=True), "temperature is True and must be",
    ),
    "temperature in words": (
        lambda: rl.resume(SMOKE, BASE, arm="x", temperature="hot"), "temperature is 'hot' and must be",
    ),
    "entropy nan": (lambda: reheat.check_gate(SMOKE, math.nan), "entropy is nan nats, which no policy"),
    "no such policy": (lambda: policies.check_policy(ROOT / "nowhere"), "'nowhere' is no policy"),
    "profile": (lambda: params.load("desktop"), "profile is 'desktop', which does not exist; use one"),
    "changes": (lambda: params.load("smoke", changes="{"), "changes is '{' and must give fields"),
    "changes a list": (lambda: params.load("smoke", changes="[1]"), "must give fields of the profile"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_cannot_be(name):
    call, said = CALLS[name]
    with pytest.raises(ValueError, match=said) as error:
        call()
    assert "\n" not in str(error.value)


def test_what_is_no_number_has_diverged_and_is_no_measure(monkeypatch):
    assert reheat.diverged(SMOKE, math.nan)
    assert reheat.diverged(reheat.with_tau(SMOKE, 0.8), math.nan)
    few = params.load("smoke", {"entropy.prompts": 6, "rl.max_response_tokens": 4})
    monkeypatch.setattr(entropy, "token_entropies", lambda *_: [[math.nan]] * 6)
    with pytest.raises(ValueError, match="entropy of the policy in 'countdown-base' is nan nats"):
        entropy.token_entropy(BASE, few)
