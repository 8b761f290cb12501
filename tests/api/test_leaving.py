"""Leaving: once, for all who ask, within their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from phalanx.transport import ClosedError, Cluster, EvictedError, UsageError, ViewId
from phalanx.transport.events import Evicted
from phalanx.transport.testing.memory import MemoryCluster, memory_cluster

GUARD_S = 20.0


def scene(body: Callable[[MemoryCluster], Coroutine[Any, Any, None]]) -> None:
    """Run a scene over three nodes, with a guard against hanging."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(3) as memory:
            await body(memory)

    asyncio.run(guarded())


async def unacknowledged(memory: MemoryCluster) -> Cluster:
    """Node 1, with a message that nobody will acknowledge while it leaves."""
    for rail in "ab":
        memory.network.cut(1, rail)
    one = memory.clusters[1]
    await one.multicast(b"never held")
    return one


def leaving(cluster: Cluster, timeout: float) -> asyncio.Task[None]:
    """A task that leaves."""
    return asyncio.ensure_future(cluster.leave(timeout=timeout))


def over(cluster: Cluster) -> bool:
    """Whether the cluster object has ended."""
    try:
        _ = cluster.view
    except ClosedError:
        return True
    return False


def test_cancelling_one_who_leaves_does_not_cancel_another() -> None:
    """Each task knows only of itself: an orderly end that one has begun is not its own."""

    async def body(memory: MemoryCluster) -> None:
        one = await unacknowledged(memory)
        tasks = [leaving(one, 0.3) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert outcomes[1:] == [None, None]
        assert over(one)

    scene(body)


def test_when_the_last_who_leaves_is_cancelled_the_node_is_gone_at_once() -> None:
    """Nobody waits for the acknowledgements any more, and nothing may stay behind."""

    async def body(memory: MemoryCluster) -> None:
        one = await unacknowledged(memory)
        tasks = [leaving(one, 1000) for _ in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        assert not over(one)
        tasks[1].cancel()
        await asyncio.gather(tasks[1], return_exceptions=True)
        assert over(one)
        await one.leave()

    scene(body)


def test_the_earliest_deadline_of_those_who_leave_counts() -> None:
    """Whoever has little time gets its way; the others are not kept longer than they asked."""

    async def body(memory: MemoryCluster) -> None:
        one = await unacknowledged(memory)
        patient = leaving(one, 2 * GUARD_S)
        await asyncio.sleep(0)
        await one.leave(timeout=0)
        await patient
        assert over(one)

    scene(body)


@pytest.mark.parametrize("timeout", [float("nan"), "5", [5]])
def test_leaving_within_what_is_no_time_is_refused(timeout: object) -> None:
    """And the node goes on as if nothing had been asked."""

    async def body(memory: MemoryCluster) -> None:
        one = memory.clusters[1]
        with pytest.raises(UsageError, match="a timeout is 0 or more seconds"):
            await one.leave(timeout=cast(float, timeout))
        await (await one.multicast(b"still here")).held(timeout=5)

    scene(body)


@pytest.mark.parametrize("timeout", [-1, 0, 10**400, float("inf")])
def test_any_number_is_a_time_to_leave_in(timeout: float) -> None:
    """An infinite one is a long one: here it does not take it."""

    async def body(memory: MemoryCluster) -> None:
        await memory.clusters[1].leave(timeout=timeout)
        assert over(memory.clusters[1])

    scene(body)


def test_an_eviction_ends_leaving_even_with_rejoin() -> None:
    """Whoever wants to leave does not want to come back."""

    async def body(memory: MemoryCluster) -> None:
        one = await unacknowledged(memory)
        one._options = type(one._options)(  # pyright: ignore[reportPrivateUsage] - an option of joining
            rejoin=True, readmit=False, deliver=None, on_waiting=None, drivers=memory.network
        )
        waiting = leaving(one, 1000)
        await asyncio.sleep(0)
        one._take(Evicted(view_id=ViewId(1, 9)))  # pyright: ignore[reportPrivateUsage] - as the core does
        await waiting
        with pytest.raises(EvictedError):
            await one.multicast(b"late")

    scene(body)
