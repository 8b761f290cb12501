"""One member that publishes on an ordered channel: flat out, or one message at a time.

`python -m peers.phalanx_order CONFIG NODE TASK` is started by `phalanx_cluster.py`. No other file
of the benchmarks knows ordered channels.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import Sequence

from phalanx.barrier import Barriers, OrderedChannel
from phalanx.transport import Cluster

from .lines import DRAIN_S, Delivered, Sent, Task, Times, say
from .phalanx_member import begin, joined, live, stop, told

CHANNEL = "bench"
CALL_BYTES = 64 << 10
"""Published by one call, at most, ..."""
CALL_MESSAGES = 512
"""... and so many messages."""
NUMBER_BITS = 48
"""Of the word at the beginning of each message; above them is its sender."""
_WORD_BYTES = 8
_SMALL_BYTES = 2048
"""Larger messages are looked at one by one instead of being joined first."""
_WAIT_S = 20.0


class Tally:
    """What has come, in its order: counted, checked and hashed."""

    def __init__(self, nodes: int, size_bytes: int) -> None:
        self.got = dict.fromkeys(range(1, nodes + 1), 0)
        self.gaps = 0
        self.hash = 0
        self._size_bytes = size_bytes

    def take(self, sender: int, payloads: Sequence[bytes]) -> int:
        """Count messages of one sender; returns how many there were.

        The hash is that of all payloads one behind the other, each with its sender in front: it
        does not depend on how messages were put together on their way.
        """
        count = len(payloads)
        if self._size_bytes <= _SMALL_BYTES:
            joined_up = b"".join(payloads)
            self.hash = zlib.crc32(joined_up, self.hash)
            step = self._size_bytes // _WORD_BYTES
            words = memoryview(joined_up).cast("Q")[::step].tolist()
        else:
            for payload in payloads:
                self.hash = zlib.crc32(payload, self.hash)
            words = [int.from_bytes(payload[:_WORD_BYTES], sys.byteorder) for payload in payloads]
        first = (sender << NUMBER_BITS) + self.got[sender] + 1
        if words != list(range(first, first + count)):
            self.gaps += 1
        self.got[sender] += count
        return count


def make_messages(node: int, first: int, count: int, size_bytes: int) -> list[bytes]:
    """Numbered messages of a sender."""
    padding = bytes(size_bytes - _WORD_BYTES)
    begin_word = (node << NUMBER_BITS) + first
    return [
        word.to_bytes(_WORD_BYTES, sys.byteorder) + padding
        for word in range(begin_word, begin_word + count)
    ]


class Flood:
    """Everybody sends as fast as the order takes it, and counts within a window."""

    def __init__(self, cluster: Cluster, task: Task) -> None:
        self.channel = OrderedChannel(cluster, CHANNEL)
        self._node = cluster.node_id
        self._task = task
        self._tally = Tally(task.nodes, task.size_bytes)
        self._delivered = 0
        self._begins_ns = self._ends_ns = 0
        self._wanted: list[int] | None = None
        self._complete = asyncio.Event()

    async def read(self) -> None:
        """Take everything that comes."""
        async for entries in self.channel.batches():
            count = self._tally.take(entries.sender, entries.payloads)
            if self._begins_ns <= time.monotonic_ns() < self._ends_ns:
                self._delivered += count
            self._look()

    def _look(self) -> None:
        wanted = self._wanted
        if wanted and all(
            got >= due for got, due in zip(self._tally.got.values(), wanted, strict=True)
        ):
            self._complete.set()

    async def send(self) -> int:
        """Until the window ends; returns how many messages were sent."""
        self._begins_ns = time.monotonic_ns() + self._task.warm_up_ns
        self._ends_ns = self._begins_ns + self._task.window_ns
        size, sent = self._task.size_bytes, 0
        step = max(1, min(CALL_MESSAGES, CALL_BYTES // size))
        while time.monotonic_ns() < self._ends_ns:
            messages = make_messages(self._node, sent + 1, step, size)
            await self.channel.submit(messages)
            sent += step
        return sent

    async def drain(self, wanted: list[int]) -> Delivered:
        """Wait until all that anybody has sent is here, and say what has come."""
        self._wanted = wanted
        self._look()
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._complete.wait()
        except TimeoutError:
            pass  # the result says so
        got = list(self._tally.got.values())
        return Delivered(
            delivered=self._delivered,
            total=sum(got),
            gaps=self._tally.gaps,
            complete=got == wanted,
            hash=f"{self._tally.hash:08x}",
        )


async def all_open(cluster: Cluster, channel: OrderedChannel) -> None:
    """Whoever opened the channel late would begin behind what was published before."""
    await channel.opened(timeout=_WAIT_S)
    await Barriers(cluster).wait("open", timeout=_WAIT_S)


async def flood(cluster: Cluster, task: Task) -> None:
    """All members send flat out."""
    run = Flood(cluster, task)
    reading = asyncio.ensure_future(run.read())
    try:
        await all_open(cluster, run.channel)
        await begin()
        say(Sent(sent=await run.send()))
        say(await run.drain([int(word) for word in await told("drain")]))
        await told("end")
    finally:
        stop(reading)


async def latency(cluster: Cluster, task: Task) -> None:
    """Node 1 alone publishes, one message at a time, and waits until it is back."""
    channel = OrderedChannel(cluster, CHANNEL)
    tally = Tally(task.nodes, task.size_bytes)
    came = asyncio.Event()

    async def read() -> None:
        async for entries in channel.batches():
            tally.take(entries.sender, entries.payloads)
            came.set()

    reading = asyncio.ensure_future(read())
    try:
        await all_open(cluster, channel)
        await begin()
        taken_ns: list[int] = []
        for number in range(1, task.count + 1) if cluster.node_id == 1 else ():
            (message,) = make_messages(1, number, 1, task.size_bytes)
            began_ns = time.perf_counter_ns()
            came.clear()
            await channel.publish(message)
            if tally.got[1] < number:
                await came.wait()  # whoever started this program bounds it
            taken_ns.append(time.perf_counter_ns() - began_ns)
        assert tally.gaps == 0, "messages of one sender keep their order"
        say(Times(ns=taken_ns))
        await told("end")
    finally:
        stop(reading)


async def life(config: str, node: str, task: Task) -> None:
    """From joining to leaving."""
    async with joined(config, node, task) as cluster:
        await (flood if task.kind == "flood" else latency)(cluster, task)


if __name__ == "__main__":
    sys.exit(live(life))
