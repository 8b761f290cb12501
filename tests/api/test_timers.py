"""What is due is done in a turn that comes anyway; only a node that has none is woken for it."""

from __future__ import annotations

import asyncio
import time

import pytest

from phalanx.transport.runtime import Runtime
from phalanx.transport.testing.memory import memory_cluster

SCENE_S = 0.6


def test_a_busy_node_is_not_woken_by_its_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each such turn would look everywhere, between two that do so as well."""
    woken = 0
    timed = Runtime._timed  # pyright: ignore[reportPrivateUsage] - what the loop calls

    def counted(self: Runtime) -> None:
        nonlocal woken
        woken += 1
        timed(self)

    async def scene() -> tuple[int, int]:
        nonlocal woken
        async with memory_cluster(2) as memory:
            one, clusters = memory.clusters[1], memory.clusters
            woken = 0
            await asyncio.sleep(SCENE_S)
            idle, woken = woken, 0
            until_s = time.monotonic() + SCENE_S
            while time.monotonic() < until_s:
                for cluster in clusters.values():
                    cluster.layer_face.kick()
                await asyncio.sleep(0.0003)
            assert one.view is not None
            assert len(one.view.members) == 2
            return idle, woken

    monkeypatch.setattr(Runtime, "_timed", counted)
    idle, busy = asyncio.run(scene())
    assert idle >= 8
    assert busy < idle / 2
