"""What is due is done in a turn that comes anyway; only a node that has none is woken for it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from phalanx.transport import Cluster
from phalanx.transport.pump import Pump
from phalanx.transport.runtime import Runtime
from phalanx.transport.testing.memory import memory_cluster

ENOUGH = 8
GUARD_S = 20.0


class Turns(Counter[str]):
    """Those in which something was due, and those that a timer has made."""

    def __init__(self) -> None:
        super().__init__()
        self.enough = asyncio.Event()
        """So many have been made by a timer."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Turns:
    """They are counted from the beginning."""
    found = Turns()
    take_in = Pump.take_in
    timed = Runtime._timed  # pyright: ignore[reportPrivateUsage] - what the loop calls

    def taken(self: Pump, look: int) -> None:
        take_in(self, look)
        found["due"] += self.due

    def woken(self: Runtime) -> None:
        found["woken"] += 1
        if found["woken"] >= ENOUGH:
            found.enough.set()
        timed(self)

    monkeypatch.setattr(Pump, "take_in", taken)
    monkeypatch.setattr(Runtime, "_timed", woken)
    return found


def test_an_idle_node_is_woken_by_its_timers(counted: Turns) -> None:
    """Nobody else would."""

    async def scene() -> None:
        async with memory_cluster(2), asyncio.timeout(GUARD_S):
            counted.clear()
            counted.enough.clear()
            await counted.enough.wait()

    asyncio.run(scene())


def test_a_busy_node_is_not_woken_by_its_timers(counted: Turns) -> None:
    """Each such turn would look everywhere, between two that do so as well."""

    async def scene() -> None:
        async with memory_cluster(2) as memory, asyncio.timeout(GUARD_S):
            clusters = memory.clusters.values()
            # Where this process stands still for longer than that, a timer would be right.
            patience_ns = [patient(cluster, int(GUARD_S * 1e9)) for cluster in clusters]
            for _ in range(2):  # timers that are set already are put off by the first round
                counted.clear()
                while counted["due"] < ENOUGH:
                    for cluster in clusters:
                        cluster.layer_face.kick()
                    await asyncio.sleep(0)  # one pass of the event loop: the turns asked for
            assert not counted["woken"]
            for cluster, ns in zip(clusters, patience_ns, strict=True):
                patient(cluster, ns)

    asyncio.run(scene())


def patient(cluster: Cluster, ns: int) -> int:
    """How much later than asked for it wakes itself; returns what that was before."""
    runtime = cluster._runtime  # pyright: ignore[reportPrivateUsage] - a configuration has no such key
    before, runtime.patience_ns = runtime.patience_ns, ns
    return before
