"""A cluster belongs to one event loop of one process: calls from elsewhere are refused."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable

import pytest

from phalanx.barrier import Barriers
from phalanx.transport import Cluster, Receipt, UsageError
from phalanx.transport.calls import FOREVER_S, PROCESS, Home, seconds
from phalanx.transport.testing.memory import memory_cluster

GUARD_S = 20.0


async def iterate(cluster: Cluster) -> None:
    """The next event."""
    async for _ in cluster:
        return


async def iterate_batches(cluster: Cluster) -> None:
    """The next batch."""
    async for _ in cluster.batches():
        return


CALLS: dict[str, Callable[[Cluster], Awaitable[object]]] = {
    "multicast": lambda cluster: cluster.multicast(b"x"),
    "multicast_many": lambda cluster: cluster.multicast_many([b"x"]),
    "send": lambda cluster: cluster.send(2, b"x"),
    "send_many": lambda cluster: cluster.send_many(2, [b"x"]),
    "iterate": iterate,
    "batches": iterate_batches,
    "barrier wait": lambda cluster: Barriers(cluster).wait("x", parties=1, timeout=1),
    "barrier arrive": lambda cluster: Barriers(cluster).arrive(
        "x", parties=1, strength="arrived", timeout=1
    ),
    "leave": lambda cluster: cluster.leave(),
}


def elsewhere(call: Callable[[], Awaitable[object]]) -> threading.Thread:
    """Make a call in another thread, in an event loop of its own; it must be refused."""

    async def refused() -> None:
        with pytest.raises(UsageError, match="run_coroutine_threadsafe"):
            async with asyncio.timeout(GUARD_S):
                await call()

    thread = threading.Thread(target=lambda: asyncio.run(refused()))
    thread.start()
    return thread


def played(body: Callable[[Cluster], Awaitable[None]]) -> None:
    """Run a scene with node 1 of two."""

    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S), memory_cluster(2) as memory:
            await body(memory.clusters[1])

    asyncio.run(guarded())


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("name", CALLS)
def test_a_call_from_another_event_loop_is_refused_and_disturbs_nothing(name: str) -> None:
    """What it waits for is woken in the cluster's own loop: it would sleep past any time-out."""

    async def body(cluster: Cluster) -> None:
        await asyncio.to_thread(elsewhere(lambda: CALLS[name](cluster)).join)
        await (await cluster.multicast(b"still here")).held(timeout=5)

    played(body)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_receipts_and_arrivals_are_of_the_same_loop() -> None:
    """They look like plain values that could be handed over."""

    async def body(cluster: Cluster) -> None:
        receipt: Receipt = await cluster.multicast(b"x")
        arrival = await Barriers(cluster).arrive("y", parties=2, timeout=10)
        for call in (lambda: receipt.held(timeout=1), arrival.wait):
            await asyncio.to_thread(elsewhere(call).join)
        await receipt.held(timeout=5)
        assert not arrival.done
        arrival.cancel()

    played(body)


def test_a_call_without_an_event_loop_is_refused() -> None:
    """Home says so itself: a thread that has no loop cannot be woken either."""

    async def make() -> Home:
        home = Home()
        home.check()
        return home

    home = asyncio.run(make())
    with pytest.raises(UsageError, match="event loop"):
        home.check()


def test_a_forked_child_is_told_to_join_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copies of the descriptors are closed; leaving there would end the parent's node."""

    async def body(cluster: Cluster) -> None:
        with monkeypatch.context() as child:
            child.setattr(PROCESS, "forks", PROCESS.forks + 1)
            for name in ("multicast", "barrier wait", "leave"):
                with pytest.raises(UsageError, match="fork"):
                    await CALLS[name](cluster)
        await cluster.multicast(b"still here")

    played(body)


def test_a_forked_process_knows_that_it_is_one() -> None:
    """Nobody asks the kernel at each call: whoever is forked is told so."""
    home = Home(asyncio.new_event_loop())
    child = os.fork()
    if child == 0:
        os._exit(home.is_here)
    assert os.waitpid(child, 0)[1] == 0
    assert home.is_here
    home.loop.close()


def test_seconds_are_any_number_within_bounds() -> None:
    """One rule for every time-out."""
    assert seconds(None, 3) == 3
    assert [seconds(given, 3) for given in (-1, 0, 0.5, FOREVER_S, 10**400, float("inf"))] == [
        *(0, 0, 0.5, FOREVER_S),
        *(FOREVER_S, FOREVER_S),
    ]
    for wrong in (float("nan"), "1", [1], b""):
        with pytest.raises(UsageError, match="a timeout is 0 or more seconds"):
            seconds(wrong, 3)
