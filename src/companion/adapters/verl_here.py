"""`verl.trainer.main_ppo` (0.9.1) without the processes that CPU rollouts have no use for.

    python -m companion.adapters.verl_here OVERRIDES ...

Every process of verl imports torch, Ray, transformers and verl: ten seconds of a core, and most of them
one after the other. With rollouts sampled in the ranks (rollout_server.py) these do nothing that this
process could not do itself:

- the task runner (main_ppo.py:77), which main_ppo starts and waits for;
- the TransferQueue's controller and storage (transfer_queue 0.1.11): prompts, answers and advantages
  are put and got by the task runner alone, and ranks are sent their rows (row_queue.py);
- a task that finds a free port for the ranks' rendezvous (single_controller/ray/base.py:91, one node);
- the load balancer over rollout servers (workers/rollout/llm_server.py:506): there are none;
- on one node Ray itself (main_ppo.py:74): the ranks are forked from here (forked_ranks.py).
"""

import os
from types import SimpleNamespace
from typing import Any

import ray
from verl.single_controller.ray import RayWorkerGroup
from verl.single_controller.ray.base import get_master_addr_port
from verl.trainer import main_ppo
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env
from verl.workers.rollout.llm_server import LLMServerManager

from companion.adapters import forked_ranks, row_queue

on_ray = main_ppo.run_ppo


def run_ppo(config: Any, task_runner_class: Any) -> None:
    """main_ppo.py:37, with the task runner in this process."""
    runner = task_runner_class.__ray_metadata__.modified_class()
    if config.trainer.nnodes > 1:
        run = SimpleNamespace(remote=lambda config: ray.put(runner.run(config)))
        on_ray(config, SimpleNamespace(remote=lambda: SimpleNamespace(run=run)))
        return
    for name, value in get_ppo_ray_runtime_env(config)["env_vars"].items():
        os.environ.setdefault(name, value)
    RayWorkerGroup._get_master_addr_port = free_port_here
    with forked_ranks.with_driver():
        runner.run(config)


def free_port_here(group, pg, bundle_index=0, master_port_range=None):
    group._master_addr, group._master_port = get_master_addr_port._function(master_port_range)


async def no_load_balancer(manager):
    manager.global_load_balancer = None


if __name__ == "__main__":
    row_queue.install()
    LLMServerManager._init_global_load_balancer = no_load_balancer
    main_ppo.run_ppo = run_ppo
    main_ppo.main()
