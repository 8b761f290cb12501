"""Messages as fast as they are taken: made, counted, checked and hashed."""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

from .lines import DRAIN_S, Delivered, Sent, Task, say
from .phalanx_member import begin, stop, told

CALL_BYTES = 64 << 10
"""Sent by one call, at most, ..."""
CALL_MESSAGES = 512
"""... and so many messages."""
NUMBER_BITS = 48
"""Of the word at the beginning of each message; above them is its sender."""
_WORD_BYTES = 8
_SMALL_BYTES = 2048
"""Larger messages are looked at one by one instead of being joined first."""


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


def step_of(size_bytes: int) -> int:
    """How many messages of this size one call sends."""
    return max(1, min(CALL_MESSAGES, CALL_BYTES // size_bytes))


def make_messages(node: int, first: int, count: int, size_bytes: int) -> list[bytes]:
    """Numbered messages of a sender."""
    padding = bytes(size_bytes - _WORD_BYTES)
    begin_word = (node << NUMBER_BITS) + first
    return [
        word.to_bytes(_WORD_BYTES, sys.byteorder) + padding
        for word in range(begin_word, begin_word + count)
    ]


class Entries(Protocol):
    """Messages of one sender."""

    @property
    def sender(self) -> int: ...

    @property
    def payloads(self) -> Sequence[bytes]: ...


class Channel(Protocol):
    """What takes messages, and gives them back as they come to this node."""

    async def submit(self, payloads: list[bytes]) -> object:
        """Waits for room."""
        ...

    def batches(self) -> AsyncIterator[Entries]: ...


class Flood:
    """Sends as fast as the channel takes it, and counts what comes within a window."""

    def __init__(
        self,
        channel: Channel,
        node: int,
        task: Task,
        *,
        silent: bool = False,
        hears: Collection[int] | None = None,
    ) -> None:
        """A `silent` one sends nothing; what comes is of those it `hears`, or else of everybody."""
        self._channel = channel
        self._node = node
        self._silent = silent
        self._hears = hears
        self._task = task
        self._tally = Tally(task.nodes, task.size_bytes)
        self._delivered = 0
        self._begins_ns = self._ends_ns = 0
        self._wanted: list[int] | None = None
        self._complete = asyncio.Event()

    async def read(self) -> None:
        """Take everything that comes."""
        async for entries in self._channel.batches():
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
        if self._silent:
            # It is done with sending when the others are: then all say so, and drain together.
            await asyncio.sleep((self._ends_ns - time.monotonic_ns()) / 1e9)
        step = step_of(size)
        while time.monotonic_ns() < self._ends_ns:
            messages = make_messages(self._node, sent + 1, step, size)
            await self._channel.submit(messages)
            sent += step
        return sent

    async def drain(self, wanted: list[int]) -> Delivered:
        """Wait until all that anybody has sent is here, and say what has come."""
        if self._hears is not None:
            wanted = [due if node in self._hears else 0 for node, due in enumerate(wanted, start=1)]
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


async def play(run: Flood) -> None:
    """The whole of a run, of a member that has come together with the others."""
    reading = asyncio.ensure_future(run.read())
    try:
        await begin()
        say(Sent(sent=await run.send()))
        say(await run.drain([int(word) for word in await told("drain")]))
        await told("end")
    finally:
        stop(reading)
