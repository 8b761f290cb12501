"""The loop stays awake for a moment after something has come, and then sleeps."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from phalanx.transport import Batch, Cluster
from phalanx.transport.spinning import Spinning
from phalanx.transport.testing.memory import MemoryNetwork, join_all, memory_config

SPIN_US = 5_000


async def turns(spinning: Spinning) -> tuple[int, float]:
    """How often the loop goes round before it sleeps, and for how long."""
    count, begun = 0, time.monotonic()
    spinning.renew()
    while spinning.spins:
        count += 1
        await asyncio.sleep(0)  # one turn of the loop
    return count, time.monotonic() - begun


def test_it_stays_awake_for_so_long_and_no_longer() -> None:
    """Others have their turns meanwhile."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        count, took_s = await turns(Spinning(loop, SPIN_US))
        assert count > 10
        assert took_s >= SPIN_US / 1e6
        assert await turns(Spinning(loop, 0)) < (1, 0.1)

    asyncio.run(work())


def test_what_comes_makes_it_stay_longer() -> None:
    """It is the last that counts, and there is one that looks, however often something comes."""

    async def work() -> None:
        spinning = Spinning(asyncio.get_running_loop(), SPIN_US)
        begun = time.monotonic()
        spinning.renew()
        while time.monotonic() - begun < 2 * SPIN_US / 1e6:
            spinning.renew()
            await asyncio.sleep(0)  # one turn of the loop
        assert spinning.spins
        await turns(spinning)
        assert time.monotonic() - begun >= 3 * SPIN_US / 1e6

    asyncio.run(work())


def test_a_cluster_that_spins_delivers_and_sleeps_in_the_end(tmp_path: Path) -> None:
    """Nothing else is different; idle it takes as little as ever."""

    async def work() -> None:
        config = replace(memory_config(2), state_dir=str(tmp_path))
        config = replace(config, timing=replace(config.timing, spin_us=200))
        network = MemoryNetwork()
        made = {n.id: Cluster.join(config, node=n.id, drivers=network) for n in config.nodes}
        clusters = await join_all(made)
        await clusters[1].multicast(b"hello")
        async for item in clusters[2].batches():
            if isinstance(item, Batch):
                assert item.payloads == [b"hello"]
                break
        begun = time.process_time()
        await asyncio.sleep(0.5)  # with nothing to do, which is what is measured
        assert time.process_time() - begun < 0.4
        for cluster in clusters.values():
            await cluster.leave()

    asyncio.run(work())
