"""One member that publishes on an ordered channel: flat out, or one message at a time.

`python -m peers.phalanx_order CONFIG NODE TASK` is started by `phalanx_cluster.py`. No other file
of the benchmarks knows ordered channels.
"""

from __future__ import annotations

import asyncio
import sys
import time

from phalanx.barrier import Barriers, Entries, OrderedChannel
from phalanx.transport import Cluster

from .flood import Flood, Tally, make_messages, play
from .lines import Task, Times, say
from .phalanx_member import begin, joined, live, stop, told

CHANNEL = "bench"
_WAIT_S = 20.0


async def all_open(cluster: Cluster, channel: OrderedChannel) -> None:
    """Whoever opened the channel late would begin behind what was published before."""
    await channel.opened(timeout=_WAIT_S)
    await Barriers(cluster).wait("open", timeout=_WAIT_S)


async def flood(cluster: Cluster, task: Task) -> None:
    """All members send flat out."""
    channel = OrderedChannel(cluster, CHANNEL)
    await all_open(cluster, channel)
    await play(Flood(channel, cluster.node_id, task))


async def latency(cluster: Cluster, task: Task) -> None:
    """Node 1 alone publishes, one message at a time, and reads it back; the others read as well."""
    channel = OrderedChannel(cluster, CHANNEL)
    tally = Tally(task.nodes, task.size_bytes)

    async def read() -> None:
        async for entries in channel.batches():
            tally.take(entries.sender, entries.payloads)

    await all_open(cluster, channel)
    reading = asyncio.ensure_future(read()) if cluster.node_id > 1 else None
    try:
        await begin()
        taken_ns: list[int] = []
        for number in range(1, task.count + 1) if reading is None else ():
            (message,) = make_messages(1, number, 1, task.size_bytes)
            began_ns = time.perf_counter_ns()
            await channel.publish(message)  # it has its place in the order, and lies there
            for item in channel.take_ready():
                if isinstance(item, Entries):
                    tally.take(item.sender, item.payloads)
            taken_ns.append(time.perf_counter_ns() - began_ns)
            assert tally.got[1] == number, "what is published lies there to be read"
        assert tally.gaps == 0, "messages of one sender keep their order"
        say(Times(ns=taken_ns))
        await told("end")
    finally:
        if reading is not None:
            stop(reading)


async def life(config: str, node: str, task: Task) -> None:
    """From joining to leaving."""
    async with joined(config, node, task) as cluster:
        await (flood if task.kind == "flood" else latency)(cluster, task)


if __name__ == "__main__":
    sys.exit(live(life))
