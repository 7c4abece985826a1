"""Runs one command on several nodes of a Ray cluster, as torchrun's ranks: ms-swift's way to scale.

    python -m companion.adapters.every_node NODES GPUS_PER_NODE COMMAND ...

verl finds the cluster itself; `swift rlhf` wants to be started once a node, with the variables
that torchrun reads (swift/cli/main.py, 4.6.0). Other nodes get the job's environment
(`ray job submit --runtime-env-json`), not this process's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from companion.stages import keeper


@ray.remote
class Node:
    def address(self) -> tuple[str, int]:
        """This node's address, and a port that is free."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    def run(self, words: list[str], variables: dict[str, str]) -> int:
        """The command's exit status; it ends with this actor, which Ray kills with its job."""
        return subprocess.Popen(
            keeper.command(words), env=os.environ | variables, stdin=subprocess.PIPE
        ).wait()


def run(nodes: int, gpus_per_node: int, words: list[str]) -> int:
    """Run `words` once on each of `nodes` nodes; returns the first exit status that is not 0.

    Waits until the cluster has so many nodes with so many free GPUs.
    """
    group = placement_group([{"CPU": 1, "GPU": gpus_per_node}] * nodes, strategy="STRICT_SPREAD")
    ray.get(group.ready())
    members = [
        Node.options(  # type: ignore[attr-defined]  # added by ray.remote
            num_cpus=1,
            num_gpus=gpus_per_node,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, rank),
        ).remote()
        for rank in range(nodes)
    ]
    address, port = ray.get(members[0].address.remote())
    waiting = [
        member.run.remote(
            words,
            {
                "NNODES": str(nodes),
                "NODE_RANK": str(rank),
                "NPROC_PER_NODE": str(gpus_per_node),
                "MASTER_ADDR": address,
                "MASTER_PORT": str(port),
            },
        )
        for rank, member in enumerate(members)
    ]
    while waiting:
        (done, *_), waiting = ray.wait(waiting)
        if status := ray.get(done):
            return status  # the end of this job ends the others, too
    return 0


if __name__ == "__main__":
    ray.init()
    sys.exit(run(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
