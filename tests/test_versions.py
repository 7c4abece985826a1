"""A version is raised where the meaning it stands for changes: tiny results, computed again.

tests/data/versions.json holds, for each version that is part of a run's identity, what the code
gave for fixed inputs when that version was set. `python tests/test_versions.py` writes it anew for
the versions that were raised, and for no other.
"""

import functools
import json
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import save_policy
from safetensors.torch import load_file

from companion import distillation, hashes, objective, params, policies
from companion.analysis import (
    branching,
    browsed,
    displacement,
    distribution,
    gradients,
    leak,
    measure,
    positions,
    representation,
)
from companion.provenance import portable
from companion.stages import (
    answers,
    entropy,
    evaluate,
    matching,
    merge,
    reheat,
    rl,
    sampling,
    scaling,
    swift_command,
    verl_command,
    vllm_engine,
)
from companion.stages.reading import Rollouts
from companion.statistics import Estimate
from companion.study import arms
from companion.tasks import countdown, math

FILE = Path(__file__).parent / "data" / "versions.json"
SMOKE = params.load("smoke", {"hardware.threads": 2})  # as a laptop has
SHIPPED = arms.shipped(SMOKE)
TOLERANCE = 1e-5
"""Of the largest number in a list: what another processor may add up differently."""

ANSWERS = [
    ("8 2 3 -> 22", "8 + 3 = 11 : 2 11 \n 11 * 2 = 22 yes"),
    ("8 2 3 -> 22", "8 + 3 = 11 : 11 2 \n 2 * 11 = 22 yes"),  # whatever the order
    ("8 2 3 -> 22", "8 - 2 = 6 : 3 6 \n 6 * 3 = 18 no \n 8 + 3 = 11 : 2 11 \n 11 * 2 = 22 yes"),
    ("8 2 3 -> 22", "8 + 3 = 11 : 2 11 \n 11 * 2 = 22"),  # not closed
    ("8 2 3 -> 22", "8 + 3 = 11 : 2 11 \n 11 * 2 = 22 no"),
    ("8 2 3 -> 22", "8 + 3 = 12 : 2 12 \n 12 + 2 = 22 yes"),
    ("8 2 3 -> 22", "8 * 3 = 24 : 2 24 \n 24 - 2 = 22 yes yes"),
    ("8 2 3 -> 22", "8 * 3 = 24 : 2 24 \n 24 - 2 = 22 yes"),
    ("8 2 3 -> 22", "8 * 3 = 24 : 2 24 \n 24 + 2 = 26 yes"),  # another target
    ("8 2 3 -> 24", "8 * 3 = 24 yes"),  # a number left over
    ("9 9 9 -> 99", "9 * 9 = 81 : 9 81"),  # cut
    ("7 2 2 -> 12", "7 * 2 = 14 : 14 2 \n 14 - 2 = 12 yes"),
]
LINES = [
    ("34", "So it is.\nAnswer: 34"),
    ("34", "So it is.\nAnswer: 43"),
    ("34", "Answer: $34$"),
    ("34", "34"),
    ("0.5", "Answer: 1/2"),
    ("-7", "Answer: 7\nAnswer: -7"),
]
MATHEMATICS = [
    *LINES, ("34", r"\boxed{34}"), (r"\frac{1}{3}", r"\boxed{1/3}"), ("1/3", r"\boxed{0.33}"),
    (r"\sqrt{2}", r"\boxed{2^{1/2}}"), ("(1,2)", r"\boxed{(1, 2)}"), ("(1,2)", r"\boxed{(2, 1)}"),
    (r"\{1,2\}", r"\boxed{2, 1}"), ("5", r"\boxed{5\text{ cm}}"), ("15\\%", r"\boxed{0.15}"),
    ("5", r"\boxed{x = 5}"), ("[0,1)", r"\boxed{[0,1]}"), ("025", r"\boxed{25}"),
]  # fmt: skip
LOGITS = [[2.0, 1.0, 0.0, -1.0], [30.0, 0.0, -5.0, 2.0], [0.3, 0.2, 0.1, float("-inf")]]
QUESTIONS = [countdown.prompt(p) for p in countdown.problems("validation", "middle", 4)]


def values(tensor):
    return [round(float(x), 10) for x in torch.as_tensor(tensor).detach().flatten()]


def of_objective(_):
    logits = torch.tensor(LOGITS, dtype=torch.float64)
    found = {"entropy": objective.entropy(logits), "dH/dz": objective.entropy_gradient(logits)}
    for direction in ("forward", "reverse"):
        for tau in (0.8, 1.2):
            single = logits.float().requires_grad_()
            kl, _ = distillation.self_distillation(single, tau, direction)
            kl.sum().backward()
            found[f"{direction} KL, tau {tau}"] = kl
            found[f"its gradient, tau {tau}, {direction}"] = single.grad
    return {name: values(tensor) for name, tensor in found.items()}


def of_transformers_sampler(_):
    probs = torch.tensor([[0.5, 0.3, 0.15, 0.05]] * 6)
    uniforms = torch.tensor([0.01, 0.3, 0.45, 0.7, 0.9, 0.99], dtype=torch.float64)
    model, tokenizer = policies.load_policy(SHIPPED)
    drawn = sampling.sample(
        model,
        policies.encode_prompts(tokenizer, QUESTIONS),
        end_tokens={tokenizer.eos_token_id},
        max_new_tokens=24,
        temperature=1.2,
        top_p=0.95,
        seed=3,
        first=2,
    )
    return {
        "drawn": {
            str(p): sampling._draw(probs, p, uniforms).tolist() for p in (1.0, 0.9, 0.6, 1e-9)
        },
        "tokens": drawn.tokens,  # no uniform of these lies within 1e-4 of a token's edge
        "ended": drawn.ended,
        "log_probs": [value for row in drawn.log_probs for value in row],
        "entropies": [value for row in drawn.entropies for value in row],
    }


def of_vllm_sampler(_):
    asked = []

    class Engine:
        def ask(self, request):
            asked.append(request)

        def answers(self):
            count = len(asked[-1]["rows"])
            return answers.Answers(
                [[1]] * count, [[0.0]] * count, [], [True] * count, ["x"] * count
            )

    @contextmanager
    def started(*_):
        yield Engine()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_engine, "_started", started)
        with vllm_engine.opened(SHIPPED, SMOKE.hardware) as sampler:
            sampler(["a", "b"], max_new_tokens=8, temperature=0.7, top_p=0.9, seed=3, first=5)
    return {"asked": asked}


def of_entropy(_):
    few = params.change(SMOKE, {"entropy.prompts": 10, "rl.max_response_tokens": 24})
    measured = entropy.measure_here(SHIPPED, few)
    return {"prompts": entropy.entropy_prompts(few), "nats": [measured.value],
            "interval": [measured.low, measured.high]}  # fmt: skip


def of_grader(task, pairs):
    golds, given = zip(*pairs, strict=True)
    return {name: column.tolist() for name, column in task.judge(SMOKE.task, given, golds).items()}


def of_reward(source, pairs):
    from companion.adapters.rewards import compute_score

    scored = [
        compute_score(
            data_source=source, solution_str=answer, ground_truth=gold, reward_rule="answer-line"
        )
        for gold, answer in pairs
    ]
    return {"score": [one["score"] for one in scored], "acc": [one["acc"] for one in scored]}


def of_rl(_):
    """What verl is told of the method, and when a run ends."""
    words = verl_command.overrides(
        SMOKE, start=Path("policy"), folder=Path("run"), steps=7, temperature=1.2, stop_entropy=0.5
    )
    method = ("algorithm.", "data.", "actor_rollout_ref.", "+actor_rollout_ref.", "reward.",
              "+reward.", "+companion.")  # fmt: skip
    ends = [
        rl._decided({"step": step, "token_entropy": nats}, 6, stop)
        for step, nats, stop in ((5, 0.6, 0.5), (5, 0.4, 0.5), (6, 0.6, 0.5), (5, 0.4, None))
    ]
    return {"words": [portable(w) for w in words if w.startswith(method)], "ends": ends}


def of_reheat(_):
    """What ms-swift is told of the method; the gate, the stop and the ceiling."""
    words = swift_command.arguments(SMOKE, Path("policy"), Path("run"))
    hot, cold = (reheat.with_tau(SMOKE, tau) for tau in (1.2, 0.8))

    def passes(profile, nats):
        try:
            return reheat.check_gate(profile, nats) is None
        except ValueError:
            return False

    nats = [0.9, 1.0, 1.05, 1.1, 2.0, 2.1]
    return {
        "words": [portable(word) for word in words],
        "gate": [[passes(profile, x) for x in nats] for profile in (hot, cold)],
        "stop": [[reheat.crossed(profile, x) for x in nats] for profile in (hot, cold)],
        "ceiling": [[reheat.diverged(profile, x) for x in nats] for profile in (hot, cold)],
    }


def of_scale(folder):
    scaling.save_scaled(SHIPPED, 1.2, folder)
    model, tokenizer = policies.load_policy(folder)
    inputs = torch.tensor(policies.encode_prompts(tokenizer, QUESTIONS[:1]))
    with torch.inference_mode():
        return {"logits": values(model(inputs).logits[0, -1])}


def of_match(folder):
    """With a stand-in for the measure, whose entropy is the scaled norm's first weight."""

    def entropy(policy, _):
        return Estimate(1 / first(policy), 0, 0)

    def first(policy):
        return load_file(policy / "model.safetensors")["model.norm.weight"][0].item()

    start = 1 / first(SHIPPED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling.runs, "ROOT", folder)
        patch.setattr(matching, "token_entropy", entropy)
        found = [scaling.matching_tau(SMOKE, SHIPPED, start * by) for by in (0.5, 1.25)]
        with pytest.raises(ValueError, match="which no tau between 1/4 and 4 gives"):
            scaling.matching_tau(SMOKE, SHIPPED, start * 5)
    return {"tau": found}


def of_merge(folder):
    """A third of the way to the base."""
    merge.save_merged(SHIPPED, policies.base(SMOKE), 1 / 3, folder)
    model, tokenizer = policies.load_policy(folder)
    inputs = torch.tensor(policies.encode_prompts(tokenizer, QUESTIONS[:1]))
    with torch.inference_mode():
        return {"logits": values(model(inputs).logits[0, -1])}


def of_evaluate(folder):
    """With an engine that answers each prompt by itself: what is asked, and what is kept."""
    asked = []

    @contextmanager
    def opened(policy, profile, engine):
        def sampler(prompts, **settings):
            asked.append({"engine": engine, "prompts": list(prompts), **settings})
            count = len(prompts)
            return answers.Answers([[1, 2]] * count, [], [], [True] * count, list(prompts))

        yield sampler

    asks = {"task.test_problems": 2, "evaluation.samples": 2, "evaluation.max_new_tokens": 64}
    few = params.load("smoke", asks | {"seed": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.runs, "ROOT", folder)
        patch.setattr(evaluate, "opened", opened)
        patch.setattr(evaluate, "token_entropy", lambda *_: Estimate(1, 1, 1))
        # How many are asked together says nothing of the answers.
        patch.setattr(evaluate, "ROWS", 1)
        run = evaluate.evaluate(few, SHIPPED, "x")
    kept = pd.read_parquet(run.folder / "samples.parquet").head(6)
    return {"asked": asked, "kept": json.loads(kept.to_json(orient="records"))}


POSITION = ["checkpoint", "position", "answers", "value", "low", "high"]


def of_branching(_):
    greedy = [5, 6, 7, 8, 2]
    sampled = [[5, 6, 7, 8, 2], [5, 9, 7, 8, 2], [5, 6, 2], [5, 6, 7, 8, 8, 2], [1, 2]]
    rows = pd.DataFrame(
        {
            "checkpoint": step,
            "prompt": i // 2,
            "edit_distance": branching.edit_distance(answer, greedy),
            "fork_position": branching.fork_position(answer, greedy),
            "log_probs": [-0.1 * (1 + step + j) for j in range(len(answer))],
        }
        for step in (0, 4)
        for i, answer in enumerate(sampled)
    )
    summary = branching.summary(rows, resamples=100)
    return {
        "edit_distance": rows["edit_distance"].tolist(),
        "fork_position": rows["fork_position"].fillna(-1).tolist(),
        "summary": {name: [[x.value, x.low, x.high] for x in summary[name]] for name in summary},
        "by_position": branching.by_position(rows, least=2, resamples=100)[POSITION].to_dict(
            "list"
        ),
    }


def of_cka(_):
    """Two layers, as they come and three tokens at a time."""
    x = torch.arange(2 * 12 * 5, dtype=torch.float64).reshape(2, 12, 5).sin()
    y = (x * 1.1 + torch.arange(5).cos() * x.flip(1)).tanh()
    whole, parts = representation.CKA(), representation.CKA(same_layer=True)
    whole.update(x, y)
    for some in range(0, 12, 3):
        parts.update(x[:, some : some + 3], y[:, some : some + 3])
    return {
        "all pairs": whole.table().to_dict("list"),
        "same layer": parts.table().to_dict("list"),
    }


def of_displacement(folder):
    start = {"model.embed_tokens.weight": [1.0, 2.0], "model.layers.0.mlp.weight": [0.5, -0.5],
             "model.norm.weight": [1.0, 1.0]}  # fmt: skip
    hot = {name: [a + 0.11, b - 0.07] for name, (a, b) in start.items()}
    back = {name: [a - 0.1, b + 0.05] for name, (a, b) in hot.items()}
    back["model.norm.weight"] = hot["model.norm.weight"]  # not moved, no row
    saved = [
        save_policy(folder / name, **weights)
        for name, weights in (("collapsed", start), ("reheated", hot), ("cooled", back))
    ]
    return {
        kind: displacement.displacement(*saved, round_to).to_dict("list")
        for kind, round_to in (("as saved", None), ("bfloat16", torch.bfloat16))
    }


def of_distribution(_):
    before = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0, 9.0]])
    after = torch.tensor([[3.0, 3.5, 1.0, 2.0, 0.0], [1.0, 2.0, 1.0, 0.0, 7.0]])
    return {
        f"{count} candidates": {
            name: values(column)
            for name, column in distribution.compare(before, after, count).items()
        }
        for count in (2, 3, 10)
    }


def of_gradients(_):
    model, tokenizer = policies.load_policy(SHIPPED, dtype=torch.float32)
    prompts = policies.encode_prompts(tokenizer, QUESTIONS[:2])
    given = [tokenizer(text)["input_ids"] for text in ("8 + 3 = 11 : 2 11", "8 * 3 = 24")]
    rollouts = Rollouts(prompts, given, [], 1)
    kinds = [("forward", 1.2), ("reverse", 1.2), ("forward", 1.5)]
    found = {kind: gradients.gradient(model, rollouts, *kind) for kind in kinds}
    return {
        "pairs": gradients.pairs(found).to_dict("list"),
        "of the final norm": {str(kind): values(g[-1][:8]) for kind, g in found.items()},
    }


def of_positions(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure.runs, "ROOT", folder)
        patch.setattr(positions, "PROMPTS", 4)
        found = positions.of(positions.find(SMOKE, SHIPPED))
    return {
        name: {"at": [p.prompt, p.answer_so_far], "logits": p.logits[:8].tolist()}
        for name, p in found.items()
    }


def of_browsed(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure.runs, "ROOT", folder)
        patch.setattr(browsed, "PROBLEMS", 6)
        patch.setattr(browsed, "ANSWERS", 2)
        rows = measure.table(browsed.answers(SMOKE, {"a": SHIPPED}))
    entropies = [nats for row in rows["entropies"] for nats in row]
    texts = rows.drop(columns="entropies").assign(tokens=rows["tokens"].map(list))
    return {"rows": texts.to_dict("records"), "entropies": entropies}


def of_leak(folder):
    few = params.change(SMOKE, {"analysis.problems": 5, "analysis.samples": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure.runs, "ROOT", folder)
        rows = measure.table(leak.measure(few, SHIPPED, {"x": policies.base(SMOKE)}))
    return {name: rows[name].tolist() for name in rows}


VERSIONS = {
    "objective": (objective, "VERSION", of_objective),
    "sampler: transformers": (answers.VERSIONS, "transformers", of_transformers_sampler),
    "sampler: vllm": (answers.VERSIONS, "vllm", of_vllm_sampler),
    "entropy": (entropy, "VERSION", of_entropy),
    "grader: countdown": (countdown, "GRADER_VERSION", lambda _: of_grader(countdown, ANSWERS)),
    "grader: math": (math, "GRADER_VERSION", lambda _: of_grader(math, MATHEMATICS)),
    "reward: countdown": (countdown, "REWARD_VERSION", lambda _: of_reward("countdown/x", ANSWERS)),
    "reward: math": (math, "REWARD_VERSION", lambda _: of_reward("math/x", LINES)),
    "rl": (rl, "VERSION", of_rl),
    "reheat": (reheat, "VERSION", of_reheat),
    "scale": (scaling, "VERSION", of_scale),
    "merge": (merge, "VERSION", of_merge),
    "match": (matching, "VERSION", of_match),
    "evaluate": (evaluate, "VERSION", of_evaluate),
    "analysis: branching": (measure.VERSIONS, "branching", of_branching),
    "analysis: browsed": (measure.VERSIONS, "browsed", of_browsed),
    "analysis: cka": (measure.VERSIONS, "cka", of_cka),
    "analysis: displacement": (measure.VERSIONS, "displacement", of_displacement),
    "analysis: distribution": (measure.VERSIONS, "distribution", of_distribution),
    "analysis: gradients": (measure.VERSIONS, "gradients", of_gradients),
    "analysis: leak": (measure.VERSIONS, "leak", of_leak),
    "analysis: positions": (measure.VERSIONS, "positions", of_positions),
}
"""By name: where the version stands, and what gives its results (in a folder of its own)."""


def version(name):
    where, key, _ = VERSIONS[name]
    return where[key] if isinstance(where, dict) else getattr(where, key)


def computed(name, folder):
    """What the code gives today, as it is read from JSON."""
    _, _, compute = VERSIONS[name]
    return json.loads(json.dumps(compute(folder)))


def differences(kept, now, at=""):
    """Where the two differ, beyond rounding of numbers that stand in one list."""
    if isinstance(kept, dict) and isinstance(now, dict) and list(kept) == list(now):
        return [d for key in kept for d in differences(kept[key], now[key], f"{at} {key}")]
    numbers = [isinstance(x, float) for x in (*kept, *now)] if isinstance(kept, list) else [False]
    if isinstance(now, list) and len(kept) == len(now) and all(numbers):
        scale = max(map(abs, kept), default=0)
        close = np.allclose(kept, now, rtol=0, atol=TOLERANCE * scale)
        return [] if close else [f"{at}: {kept} was kept, {now} is given now"]
    if isinstance(kept, list) and isinstance(now, list) and len(kept) == len(now):
        return [d for i, pair in enumerate(zip(kept, now, strict=True))
                for d in differences(*pair, f"{at} {i}")]  # fmt: skip
    return [] if kept == now else [f"{at}: {kept!r} was kept, {now!r} is given now"]


@functools.cache
def kept():
    return json.loads(FILE.read_text())


def test_the_shipped_policy_is_the_one_these_results_are_of():
    assert kept()["policy"] == hashes.content_hash(SHIPPED), (
        "another policy is shipped: remove versions.json and write it anew"
    )


@pytest.mark.parametrize("name", VERSIONS)
def test_a_changed_meaning_has_another_version(name, tmp_path):
    entry = kept()["versions"].get(name)
    write = "write its results: python tests/test_versions.py"
    assert entry, f"'{name}' is new; {write}"
    assert entry["version"] == version(name), f"the version of '{name}' was raised; {write}"
    wrong = differences(entry["results"], computed(name, tmp_path))
    _, key, _ = VERSIONS[name]
    assert not wrong, (
        f"'{name}' gives other results than when its version was set ({'; '.join(wrong[:3])}): "
        f"raise its {key}, so that no run made before is taken for one of now, or restore the meaning"
    )


def test_a_difference_beyond_rounding_is_seen_and_rounding_is_not():
    one = {"a": [1.0, 1e-9], "b": [[1, 2], ["x", True]], "c": 0.5}
    assert not differences(one, {"a": [1.000001, 0.0], "b": [[1, 2], ["x", True]], "c": 0.5})
    for other in (
        {"a": [1.00002, 1e-9]}, {"b": [[1, 3], ["x", True]]}, {"b": [[1, 2], ["x", False]]},
        {"a": [1.0]}, {"b": [[1, 2]]}, {"c": None}, {"d": 1},
    ):  # fmt: skip
        assert len(differences(one, one | other)) == 1


def write(folder):
    """Write the results of versions that are new or were raised; SystemExit for any other change."""
    old = kept()["versions"] if FILE.exists() else {}
    new = {}
    for name in VERSIONS:
        now, entry = computed(name, folder / name.replace(": ", "-")), old.get(name)
        raised = not entry or entry["version"] != version(name)
        if not raised and differences(entry["results"], now):
            sys.exit(f"'{name}' gives other results, and its version is still {version(name)}")
        new[name] = {"version": version(name), "results": now} if raised else entry
    text = {"policy": hashes.content_hash(SHIPPED), "versions": new}
    FILE.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        write(Path(folder))
