"""One member that meets the others at a named barrier, back to back, if asked to under load.

`python -m peers.phalanx_barrier CONFIG NODE TASK` is started by `phalanx_cluster.py`. The load is
multicast on the bulk lane, and read by everybody: it is not part of the barrier's cut.
"""

from __future__ import annotations

import asyncio
import sys
import time

from phalanx.barrier import Barriers
from phalanx.transport import Batch, Cluster

from .lines import Task, Times, say
from .phalanx_member import BULK_CHANNEL, begin, joined, live, stop, told

NAME = "bench"
LOAD_BYTES = 16 << 10
"""Of one message of the load."""
LOAD_AHEAD_S = 0.5
"""It flows that long before the first round."""
_WAIT_S = 20.0


class Load:
    """Paces this member's share, and counts what comes from the others."""

    def __init__(self, cluster: Cluster, bytes_per_s: float) -> None:
        self.received_bytes = 0
        self._cluster = cluster
        self._bytes_per_s = bytes_per_s

    async def send(self) -> None:
        """On a schedule of absolute times; what is late is made up for.

        Members take turns: the clock is that of the machine, and they share a period among
        them, so that the flow is even however they have started.
        """
        payload = bytes(LOAD_BYTES)
        period_s = LOAD_BYTES / self._bytes_per_s
        members = self._cluster.view.members
        turn = members.index(self._cluster.node_id) / len(members)
        start_s, sent = (time.monotonic() // period_s + turn) * period_s, 0
        while True:
            due = int((time.monotonic() - start_s) / period_s)
            while sent < due:
                await self._cluster.multicast(payload, channel=BULK_CHANNEL, lane="bulk")
                sent += 1
            next_s = start_s + (sent + 1) * period_s
            await asyncio.sleep(max(0.0, next_s - time.monotonic()))

    async def read(self) -> None:
        """All of it; only what has crossed a rail counts."""
        me = self._cluster.node_id
        async for event in self._cluster.batches():
            if isinstance(event, Batch) and event.sender != me:
                self.received_bytes += sum(map(len, event.payloads))


async def meet(cluster: Cluster, count: int) -> list[int]:
    """How long each of that many rounds took, in nanoseconds."""
    barriers = Barriers(cluster)
    taken_ns: list[int] = []
    for _ in range(count):
        began_ns = time.perf_counter_ns()
        await barriers.wait(NAME, timeout=_WAIT_S)
        taken_ns.append(time.perf_counter_ns() - began_ns)
    return taken_ns


async def meet_under_load(cluster: Cluster, task: Task) -> Times:
    """The same while the bulk lane is busy."""
    load = Load(cluster, task.load_bytes_per_s)
    tasks = [asyncio.ensure_future(job) for job in (load.send(), load.read())]
    try:
        await asyncio.sleep(LOAD_AHEAD_S)
        began_ns, before = time.perf_counter_ns(), load.received_bytes
        taken_ns = await meet(cluster, task.count)
        return Times(
            ns=taken_ns,
            elapsed_ns=time.perf_counter_ns() - began_ns,
            received_bytes=load.received_bytes - before,
        )
    finally:
        for each in tasks:
            stop(each)


async def life(config: str, node: str, task: Task) -> None:
    """From joining to leaving."""
    async with joined(config, node, task) as cluster:
        await begin()
        if task.load_bytes_per_s:
            say(await meet_under_load(cluster, task))
        else:
            say(Times(ns=await meet(cluster, task.count)))
        await told("end")


if __name__ == "__main__":
    sys.exit(live(life))
