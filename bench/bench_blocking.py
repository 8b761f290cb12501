"""What the way from a thread into the cluster's event loop costs, a call.

    pytest bench/bench_blocking.py --benchmark-only

Measured on one node in memory, so that nothing but the way is in the figures: two changes of
thread, a task of the loop, and the call itself. The limits are generous, for two cores that do
other things as well; they are checked against the median round. The asyncio call beside it is
measured for comparison, without limits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from phalanx.barrier.blocking import Barriers
from phalanx.transport import Event, Message
from phalanx.transport.blocking import Cluster
from phalanx.transport.testing.memory import MemoryNetwork, memory_config

CALL_US_MAX = 500
"""Into the loop and back, with nothing to do there; sending a message."""
BARRIER_US_MAX = 2000
"""A barrier of this node alone, which takes a turn of its pump."""
MESSAGE_US_MAX = 20
"""Reading a message of a batch of 1,000."""

MESSAGES = 1000
MESSAGE_BYTES = 64
CALLS = 200


class Benchmark(Protocol):
    """The part of pytest-benchmark's fixture that is used here; it comes without types."""

    extra_info: dict[str, Any]
    stats: Any

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


@pytest.fixture
def cluster(tmp_path: Path) -> Generator[Cluster]:
    """A node that is a whole cluster, and whose messages nobody reads unless a test does."""
    config = replace(memory_config(1), state_dir=str(tmp_path))
    with Cluster.join(config, node=1, drivers=MemoryNetwork(), deliver=("read",)) as joined:
        yield joined


def check_at_most(benchmark: Benchmark, limit_us: float, per: int) -> None:
    """Hold the median round against its limit, for each of `per` items."""
    if benchmark.stats is None:  # --benchmark-disable: every function ran once
        return
    figure = float(benchmark.stats.stats.median) * 1e6 / per
    benchmark.extra_info["us_each"] = round(figure, 1)
    assert figure <= limit_us


@pytest.mark.benchmark(group="a call into the loop")
def test_an_empty_call(benchmark: Benchmark, cluster: Cluster) -> None:
    """The way alone."""

    def calls() -> int:
        return sum(cluster.ask(lambda: 1) for _ in range(CALLS))

    assert benchmark(calls) == CALLS
    check_at_most(benchmark, CALL_US_MAX, CALLS)


@pytest.mark.benchmark(group="multicast 64 bytes")
def test_multicast(benchmark: Benchmark, cluster: Cluster) -> None:
    """One message a call; whoever has many uses `multicast_many`."""
    payload = bytes(MESSAGE_BYTES)

    def calls() -> None:
        for _ in range(CALLS):
            cluster.multicast(payload)

    benchmark(calls)
    check_at_most(benchmark, CALL_US_MAX, CALLS)


@pytest.mark.benchmark(group="multicast 64 bytes")
def test_multicast_of_asyncio(benchmark: Benchmark, cluster: Cluster) -> None:
    """The same calls in the loop itself, for comparison."""
    payload = bytes(MESSAGE_BYTES)

    async def calls() -> None:
        for _ in range(CALLS):
            await cluster.inner.multicast(payload)

    benchmark(lambda: cluster.call(calls))


@pytest.mark.benchmark(group="read 1,000 messages of 64 bytes")
def test_reading(benchmark: Benchmark, cluster: Cluster) -> None:
    """A batch comes over at once, so that a message costs little of the way."""
    payloads = [bytes(MESSAGE_BYTES)] * MESSAGES
    cluster.take_ready()

    def send_and_read() -> int:
        cluster.multicast_many(payloads, channel="read")
        return sum(len(payload_of(cluster.next(timeout=5))) for _ in payloads)

    assert benchmark(send_and_read) == MESSAGES * MESSAGE_BYTES
    check_at_most(benchmark, MESSAGE_US_MAX, MESSAGES)


def payload_of(event: Event) -> bytes:
    """Nothing but messages is expected."""
    assert isinstance(event, Message), event
    return event.payload


@pytest.mark.benchmark(group="a barrier alone")
def test_barrier(benchmark: Benchmark, cluster: Cluster) -> None:
    """The face of barriers costs the same way once."""
    barriers = Barriers(cluster)

    def waits() -> None:
        for _ in range(CALLS):
            barriers.wait("bench", parties=1, timeout=5)

    benchmark(waits)
    check_at_most(benchmark, BARRIER_US_MAX, CALLS)
