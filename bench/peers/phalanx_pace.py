"""One member while something breaks: the first sends at a pace, all note what comes, and when.

`python -m peers.phalanx_pace CONFIG NODE TASK` is started by `phalanx_cluster.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from phalanx.barrier import OrderedChannel
from phalanx.transport import Batch, Cluster, ViewInstalled

from .flood import Tally, make_messages
from .lines import DRAIN_S, Sent, Task, Trace, say
from .phalanx_member import BULK_CHANNEL, begin, joined, live, stop, told
from .phalanx_order import CHANNEL, all_open

SENDER = 1


class Pace:
    """What one member has seen."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._tally = Tally(task.nodes, task.size_bytes)
        self.times_ns: list[int] = []
        self.views: list[tuple[int, int]] = []
        self._wanted: int | None = None
        self._complete = asyncio.Event()

    def take(self, sender: int, payloads: Sequence[bytes]) -> None:
        """Messages of one sender have come."""
        self.times_ns += [time.monotonic_ns()] * self._tally.take(sender, payloads)
        if self._wanted is not None and len(self.times_ns) >= self._wanted:
            self._complete.set()

    async def watch(self, cluster: Cluster) -> None:
        """Take messages, unless a channel has them, and views."""
        async for item in cluster.batches():
            if isinstance(item, Batch):
                self.take(item.sender, item.payloads)
            elif isinstance(item, ViewInstalled):
                self.views.append((time.monotonic_ns(), len(item.view.members)))

    async def read(self, channel: OrderedChannel) -> None:
        """Take the entries of a channel."""
        async for entries in channel.batches():
            self.take(entries.sender, entries.payloads)

    async def send(self, submit: Callable[[bytes], Awaitable[object]]) -> int:
        """Until the window ends, so many messages a second; returns how many there were."""
        task, sent = self._task, 0
        began_ns = time.monotonic_ns()
        while (passed_ns := time.monotonic_ns() - began_ns) < task.window_ns:
            for _ in range(passed_ns * task.count // 1_000_000_000 + 1 - sent):
                sent += 1
                await submit(make_messages(SENDER, sent, 1, task.size_bytes)[0])
            due_ns = began_ns + sent * 1_000_000_000 // task.count
            await asyncio.sleep((due_ns - time.monotonic_ns()) / 1e9)  # the pace
        return sent

    async def drain(self, sent: int) -> Trace:
        """Wait until all of it is here, and say when it came."""
        self._wanted = sent
        if len(self.times_ns) >= sent:
            self._complete.set()
        with contextlib.suppress(TimeoutError):  # the result says so
            await asyncio.wait_for(self._complete.wait(), DRAIN_S)
        return Trace(times_ns=self.times_ns, gaps=self._tally.gaps, views=self.views)


async def life(config: str, node: str, task: Task) -> None:
    """From joining to leaving."""
    async with joined(config, node, task) as cluster:
        pace = Pace(task)
        tasks = [asyncio.ensure_future(pace.watch(cluster))]

        async def multicast(message: bytes) -> None:
            await cluster.multicast(message, channel=BULK_CHANNEL)

        submit: Callable[[bytes], Awaitable[object]] = multicast
        if task.kind == "ordered pace":
            channel = OrderedChannel(cluster, CHANNEL)
            tasks.append(asyncio.ensure_future(pace.read(channel)))
            await all_open(cluster, channel)

            async def submit_one(message: bytes) -> None:
                await channel.submit([message])

            submit = submit_one
        try:
            await begin()
            if cluster.node_id == SENDER:
                say(Sent(sent=await pace.send(submit)))
            else:
                await asyncio.sleep(task.window_ns / 1e9)  # as long as the first one sends
                say(Sent(sent=0))
            sent = int((await told("drain"))[0])
            say(await pace.drain(sent))
            await told("end")
        finally:
            for each in tasks:
                stop(each)


if __name__ == "__main__":
    sys.exit(live(life))
