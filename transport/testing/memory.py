"""A whole cluster in one process and one event loop, for users' own tests.

Real `Cluster` objects over a network in memory: no privileges, no ports, no lifelines. Rails can
be cut and processes "killed". Time is real, so a silent member is found after the suspicion
time of the profile.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from ..cluster import Cluster
from ..config import ClusterConfig, NodeConfig, RailConfig
from ..joining import Joining
from .memory_network import MemoryDriver, MemoryNetwork

__all__ = [
    "MemoryCluster",
    "MemoryDriver",
    "MemoryNetwork",
    "join_all",
    "memory_cluster",
    "memory_config",
]


def memory_config(nodes: int = 3, rails: int = 2) -> ClusterConfig:
    """A configuration for `nodes` nodes, named n1, n2, ..."""
    names = "abcdefgh"[:rails]
    return ClusterConfig(
        name="memory",
        rails=tuple(
            RailConfig(name=rail, network=f"10.{71 + place}.0.0/24")
            for place, rail in enumerate(names)
        ),
        nodes=tuple(
            NodeConfig(
                name=f"n{node}",
                id=node,
                addresses={rail: f"10.{71 + place}.0.{node}" for place, rail in enumerate(names)},
            )
            for node in range(1, nodes + 1)
        ),
    )


@dataclass(frozen=True, slots=True)
class MemoryCluster:
    """Clusters by node id, and the network between them."""

    clusters: dict[int, Cluster]
    network: MemoryNetwork
    config: ClusterConfig


@asynccontextmanager
async def memory_cluster(nodes: int = 3, rails: int = 2) -> AsyncGenerator[MemoryCluster]:
    """Start `nodes` nodes in this process and give them when they share a view.

    ```python
    async with memory_cluster(3) as cluster:
        await cluster.clusters[1].multicast(b"hello")
    ```
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="phalanx-memory-"))
        config = replace(memory_config(nodes, rails), state_dir=folder)
        network = MemoryNetwork()
        made = {
            node.id: Cluster.join(config, node=node.id, drivers=network) for node in config.nodes
        }
        joined = await join_all(made)
        for cluster in joined.values():
            stack.push_async_callback(cluster.leave)
        yield MemoryCluster(joined, network, config)


async def join_all(joining: dict[int, Joining]) -> dict[int, Cluster]:
    """Join several nodes of one process at once: the first view waits for all of them."""
    async with asyncio.TaskGroup() as group:
        tasks = {node: group.create_task(_wait(join)) for node, join in joining.items()}
    return {node: task.result() for node, task in tasks.items()}


async def _wait(joining: Joining) -> Cluster:
    return await joining
