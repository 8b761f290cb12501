"""Clusters in memory whose nodes use barriers by the face of cman."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from phalanx.barrier import Barriers
from phalanx.barrier.cman import CmanBarriers
from phalanx.transport.testing.memory import MemoryCluster, memory_cluster

GUARD_S = 20.0
Body = Callable[[MemoryCluster, list[CmanBarriers]], Coroutine[Any, Any, None]]


def scene(body: Body, nodes: int = 3) -> None:
    """Run a scene over a fresh cluster, with a guard against hanging."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(nodes) as memory:
            await body(memory, [CmanBarriers(cluster) for cluster in memory.clusters.values()])

    asyncio.run(guarded())


async def register_all(
    cmans: list[CmanBarriers], name: str, flags: int = 0, nodes: int = 0
) -> None:
    """At every node alike."""
    for cman in cmans:
        assert await cman.register(name, flags, nodes) == 0


async def wait_all(cmans: list[CmanBarriers], name: str) -> list[int]:
    """At once."""
    return await asyncio.gather(*(cman.wait(name) for cman in cmans))


async def seen(memory: MemoryCluster, at: int, arrivals: int, name: str = "cman:b") -> None:
    """Return when so many arrivals are in the order, as that node sees it."""
    barriers = Barriers(memory.clusters[at])
    await until(
        memory,
        lambda: (name, arrivals) in [(it.name, len(it.arrived)) for it in barriers.open()],
    )


async def until(memory: MemoryCluster, condition: Callable[[], bool]) -> None:
    """Look after each turn of a cluster; they turn for their heartbeats as well."""
    turned = asyncio.Event()
    for cluster in memory.clusters.values():
        cluster.layer_face.add_layer_listener(turned.set)
    while not condition():
        turned.clear()
        await turned.wait()


def told_to(told: list[tuple[int, str, int]], number: int) -> Callable[[str, int], object]:
    """A callback that remembers who was called with what."""
    return lambda name, code: told.append((number, name, code))
