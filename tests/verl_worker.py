"""Run by test_adapters_verl.py in a process of its own, under the environment of a verl run.

verl's FSDP worker on the CPU platform, built from `verl_command.overrides` without Ray: samples a batch
with our rollout, trains on it once, and prints what it saw as JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from companion import params
from companion.stages import verl_command

policy, folder = map(Path, sys.argv[1:])
profile = params.load("smoke", {"rl.batch_size": 16, "rl.mini_batch_size": 16})
os.environ |= verl_command.environment(profile, folder) | {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "0",
    "DIST_INIT_METHOD": f"file://{folder}/rendezvous",
}

import torch  # noqa: E402
import verl.utils.tensordict_utils as tu  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from verl.models.transformers.monkey_patch import apply_monkey_patch  # noqa: E402
from verl.plugin.platform.platform_manager import get_platform  # noqa: E402
from verl.workers.engine_workers import ActorRolloutRefWorker  # noqa: E402

temperature = 1.2
words = verl_command.overrides(
    profile, start=policy, folder=folder, steps=4, temperature=temperature
)
config_folder = str(Path(tu.__file__).parents[1] / "trainer" / "config")
with initialize_config_dir(config_dir=config_folder, version_base=None):
    config = compose(config_name="ppo_trainer", overrides=words)
worker = ActorRolloutRefWorker(config.actor_rollout_ref, role="actor_rollout")
worker.init_model()

from jagged import jagged  # noqa: E402

from companion.adapters.row_queue import deal  # noqa: E402
from companion.policies import encode_prompts  # noqa: E402
from companion.tasks import countdown  # noqa: E402

problems = countdown.problems("train", next(iter(countdown.SUITES)), 64)
prompts = encode_prompts(countdown.tokenizer(), [countdown.prompt(p) for p in problems])
answers = worker.rollout.sample(prompts, seed=1, temperature=temperature, top_p=1.0)
again = worker.rollout.sample(prompts, seed=1, temperature=temperature, top_p=1.0)
other = worker.rollout.sample(prompts, seed=2, temperature=temperature, top_p=1.0)


# Every second group of eight rows agrees on its reward: no advantage.
ADVANTAGES = [0.0 if i // 8 % 2 else (-1.0) ** i * (1 + i % 3) for i in range(64)]


def batch(calculate_entropy: bool = True) -> tuple[TensorDict, dict]:
    """Rows of an update, and what verl's trainer asks with them."""
    texts = [prompt + answer for prompt, answer in zip(prompts, answers.tokens, strict=True)]
    ones = jagged([[1] * len(answer) for answer in answers.tokens])
    data = TensorDict(
        {
            "prompts": jagged(prompts),
            "responses": jagged(answers.tokens),
            "response_mask": ones,
            "loss_mask": ones,
            "input_ids": jagged(texts),
            "position_ids": jagged([list(range(len(text))) for text in texts]),
            "old_log_probs": jagged(answers.log_probs, torch.float32),
            "advantages": jagged(
                [[value] * len(row) for value, row in zip(ADVANTAGES, answers.tokens, strict=True)],
                torch.float32,
            ),
        },
        batch_size=len(prompts),
    )
    return data, {
        "calculate_entropy": calculate_entropy,
        "global_batch_size": 64,
        "mini_batch_size": 64,
        "epochs": 1,
        "seed": 1,
        "temperature": temperature,
        "distillation_use_topk": False,
        "distillation_only": False,
        "dataloader_kwargs": {"shuffle": False},
    }


def update(data: TensorDict, asked: dict) -> dict:
    """The metrics of one update."""
    for name, value in asked.items():
        tu.assign_non_tensor_data(data, name, value)
    return worker.actor.train_mini_batch(data)["metrics"]


first = update(*batch())  # learning rate 0: warm-up
update(*batch())


async def sync() -> None:
    weights, _ = worker.actor.engine.get_per_tensor_param()
    await worker.rollout.update_weights(weights)


import asyncio  # noqa: E402

before = {name: value.clone() for name, value in worker.rollout.model.state_dict().items()}
asyncio.run(sync())
trained = dict(worker.actor.engine.get_per_tensor_param()[0])
after = worker.rollout.model.state_dict()
# The update as it is dealt out beside the full one, from one state: gradients before they are clipped.
engine, settings = worker.actor.engine, worker.loss_fn.keywords["config"]
gradients = []


def keep() -> float:
    found = [p.grad.full_tensor().flatten() for p in engine.module.parameters()]
    gradients.append(torch.cat(found))
    return 0.0


engine.optimizer_step = keep


def rows_of(data: TensorDict) -> list[dict]:
    columns = {name: column.unbind() for name, column in data.items()}
    return [{name: rows[i] for name, rows in columns.items()} for i in range(len(data))]


dealt = []
for coefficient in (0.0, 0.01):
    type(settings)._mutable_fields.add("entropy_coeff")
    settings.entropy_coeff = coefficient
    data, asked = batch(calculate_entropy=coefficient > 0)
    (part,) = deal(rows_of(data), asked, 1)
    losses = [update(*given)["actor/pg_loss"][0] for given in ((data, asked), (part, {}))]
    full, fewer = gradients[-2:]
    dealt.append(
        {
            "rows": len(part),
            "difference": float((full - fewer).norm() / full.norm()),
            "loss_difference": abs(float(losses[0]) - float(losses[1])),
        }
    )


def inferred(packed: bool, begin: int = 1, **more: bool) -> dict[str, torch.Tensor]:
    """verl's log-probabilities and entropies of all tokens, rows padded or packed into one.

    `begin`: rows whose positions begin at 0; those between them go on where the one before ends,
    which to verl is one text.
    """
    data, asked = batch()
    positions: list[list[int]] = []
    for i, text in enumerate(data["input_ids"].unbind()):
        first = positions[-1][-1] + 1 if i % begin else 0
        positions.append(list(range(first, first + len(text))))
    data["position_ids"] = jagged(positions)
    asked |= {"use_remove_padding": packed, "compute_loss": False, "micro_batch_size_per_gpu": 16}
    asked |= more
    for name, value in asked.items():
        tu.assign_non_tensor_data(data, name, value)
    made = worker.actor.infer_batch(data)
    return {name: made[name].values() for name in ("log_probs", "entropy")}


padded, packed = inferred(packed=False), inferred(packed=True)
joined = inferred(packed=True, begin=2)


def packed_update(fused: bool) -> tuple[float, torch.Tensor]:
    """Loss and gradient of the whole update, its rows packed."""
    data, asked = batch(calculate_entropy=False)
    asked |= {"use_remove_padding": True, "use_fused_kernels": fused}
    gradients.clear()
    return update(data, asked)["actor/pg_loss"][0], gradients[0]


loss, gradient = packed_update(fused=False)
apply_monkey_patch(engine.module, use_fused_kernels=True, fused_kernels_backend="torch")
in_pieces = inferred(packed=True, use_fused_kernels=True)
fused_loss, fused_gradient = packed_update(fused=True)
fused = {
    "log_probs": float((packed["log_probs"] - in_pieces["log_probs"]).abs().max()),
    "entropy": float((packed["entropy"] - in_pieces["entropy"]).abs().max()),
    "loss": abs(float(loss) - float(fused_loss)),
    "gradient": float((gradient - fused_gradient).norm() / gradient.norm()),
}


def unheard() -> str:
    """What the trainer says where no vLLM takes the weights."""
    import asyncio
    import types

    import verl.workers.rollout

    package: Any = types.ModuleType("vllm_rollout")  # the real one imports vLLM
    package.__path__ = [f"{verl.workers.rollout.__path__[0]}/vllm_rollout"]
    sys.modules["verl.workers.rollout.vllm_rollout"] = package
    from companion.adapters import weight_transfer

    weight_transfer.PATIENCE = 0.2
    sender = weight_transfer.BucketedWeightSender(f"ipc://{folder}/nobody", 1, use_shm=True)
    try:
        asyncio.run(sender.async_send_weights(iter([("weight", torch.zeros(4))])))
    except RuntimeError as error:
        return str(error)
    return "nothing"


print(
    "RESULT "
    + json.dumps(
        {
            "platform": get_platform().device_name,
            "gap": float(max(first["actor/rollout_gap_max"])),
            "entropy": float(first["actor/entropy_loss"][0]),
            "log_prob": min(min(row) for row in answers.log_probs),
            "repeatable": answers == again,
            "seed_matters": answers.tokens != other.tokens,
            "moved": max(float((after[n] - before[n]).abs().max()) for n in after),
            "dealt": dealt,
            "tokens": len(padded["log_probs"]),
            "packed": {n: float((padded[n] - packed[n]).abs().max()) for n in padded},
            "fused": fused,
            "joined": float((padded["log_probs"] - joined["log_probs"]).abs().max()),
            "unheard": unheard(),
            "synced": all(torch.equal(after[n], t.detach()) for n, t in trained.items()),
        }
    )
)
