"""What a batch and a barrier cost all cores together, and what one turn of the event loop adds.

    pytest bench/bench_core.py --benchmark-only

The cores, layers and the network between them run in virtual time in one thread, interpreted, so
that it is the processor's time of all members that is measured, clocks and timers included.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from peers.hops import MESSAGES, batches, datagrams, rounds, settled
from phalanx.transport import Batch
from phalanx.transport.events import Lane
from phalanx.transport.testing.memory import memory_cluster

HOPS = 200


class Benchmark(Protocol):
    """The part of pytest-benchmark's fixture that is used here; it comes without types."""

    extra_info: dict[str, Any]
    stats: Any

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


def note_each(benchmark: Benchmark, per: int) -> None:
    """Nanoseconds of the fastest run, for each of `per` items."""
    if benchmark.stats is not None:
        benchmark.extra_info["ns_each"] = round(float(benchmark.stats.stats.min) * 1e9 / per, 1)


@pytest.mark.parametrize("lane", [Lane.FIFO, Lane.ORDERED, Lane.BULK])
@pytest.mark.benchmark(group="500 messages of 64 bytes from one to all of three")
def test_a_batch(benchmark: Benchmark, lane: Lane) -> None:
    """Each message is delivered three times."""
    benchmark(batches(settled(3), lane))
    note_each(benchmark, MESSAGES)


@pytest.mark.parametrize("nodes", [2, 4, 8])
@pytest.mark.benchmark(group="a barrier of all")
def test_a_barrier(benchmark: Benchmark, nodes: int) -> None:
    """Of all members together."""
    benchmark(rounds(settled(nodes)))
    note_each(benchmark, nodes)


@pytest.mark.benchmark(group="yardstick")
def test_raw_datagrams(benchmark: Benchmark) -> None:
    """One thread sends and reads."""
    with datagrams(HOPS) as work:
        benchmark(work)
    note_each(benchmark, HOPS)


@pytest.mark.benchmark(group="event loop")
def test_a_message_to_oneself(benchmark: Benchmark) -> None:
    """From the call, by a turn of the pump, to whoever reads: a cluster of one."""
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        memory = runner.run(stack.enter_async_context(memory_cluster(1)))
        cluster = memory.clusters[1]

        async def hop() -> None:
            events = cluster.batches()
            for _ in range(HOPS):
                await cluster.multicast(b"x")
                while not isinstance(await anext(events), Batch):
                    pass  # the view

        benchmark(lambda: runner.run(hop()))
        runner.run(stack.aclose())
    note_each(benchmark, HOPS)


@pytest.mark.benchmark(group="event loop")
def test_a_turn_of_the_loop(benchmark: Benchmark) -> None:
    """What asyncio takes for a hop."""
    with asyncio.Runner() as runner:

        async def hop() -> None:
            for _ in range(HOPS):
                await asyncio.sleep(0)  # one turn of the loop

        benchmark(lambda: runner.run(hop()))
    note_each(benchmark, HOPS)
