"""The member that sends flat out, over a channel that is a queue."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from peers import flood
from peers.flood import Flood, Tally, make_messages
from peers.lines import Delivered, Task

MS = 1_000_000


@dataclass(frozen=True)
class Batch:
    """Entries of one sender."""

    sender: int
    payloads: Sequence[bytes]


class QueueChannel:
    """What is published comes back, in batches of another size than it was published in."""

    def __init__(self, sender: int, *, lose_every: int = 0) -> None:
        self._sender = sender
        self._lose_every = lose_every
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(maxsize=4)
        self._calls = itertools.count(1)

    async def publish(self, payload: bytes) -> None:
        """One message."""
        await self.submit([payload])

    async def submit(self, payloads: list[bytes]) -> None:
        """Waits for room."""
        if self._lose_every and next(self._calls) % self._lose_every == 0:
            payloads = payloads[1:]
        half = len(payloads) // 2
        for part in (payloads[:half], payloads[half:]):
            await self._queue.put(Batch(self._sender, part))

    async def batches(self) -> AsyncIterator[Batch]:
        """For ever."""
        while True:
            yield await self._queue.get()


def words(sender: int, numbers: Sequence[int], size_bytes: int) -> list[bytes]:
    """Messages of those numbers."""
    return [make_messages(sender, number, 1, size_bytes)[0] for number in numbers]


@pytest.mark.parametrize("size_bytes", [16, 64, 2048, 4096])
def test_messages_in_order_have_no_gaps(size_bytes: int) -> None:
    """Small messages are checked at once, large ones one by one, to the same end."""
    tally = Tally(2, size_bytes)
    assert tally.take(1, make_messages(1, 1, 10, size_bytes)) == 10
    assert tally.take(2, make_messages(2, 1, 3, size_bytes)) == 3
    assert tally.take(1, make_messages(1, 11, 5, size_bytes)) == 5
    assert (tally.got, tally.gaps) == ({1: 15, 2: 3}, 0)
    assert all(len(m) == size_bytes for m in make_messages(1, 1, 3, size_bytes))


@pytest.mark.parametrize("size_bytes", [64, 4096])
@pytest.mark.parametrize("numbers", [[2], [1, 3], [1, 1], [2, 1], [1, 2, 4, 3, 5]])
def test_lost_doubled_and_overtaken_messages_are_gaps(size_bytes: int, numbers: list[int]) -> None:
    """Also within a batch, and also if its number of messages is right."""
    tally = Tally(1, size_bytes)
    tally.take(1, words(1, numbers, size_bytes))
    assert tally.gaps == 1


def test_a_message_under_the_name_of_another_sender_is_a_gap() -> None:
    """The channel says who has sent it, and the message does too."""
    tally = Tally(2, 64)
    tally.take(2, make_messages(1, 1, 1, 64))
    assert tally.gaps == 1


@pytest.mark.parametrize("size_bytes", [64, 4096])
def test_the_hash_is_that_of_the_order_and_not_of_the_batches(size_bytes: int) -> None:
    """Nodes may be given the same sequence in pieces of other sizes."""
    messages = make_messages(1, 1, 12, size_bytes)
    others = make_messages(2, 1, 1, size_bytes)
    whole, parts, different = (Tally(2, size_bytes) for _ in range(3))
    whole.take(1, messages)
    whole.take(2, others)
    parts.take(1, messages[:5])
    parts.take(1, messages[5:])
    parts.take(2, others)
    different.take(2, others)
    different.take(1, messages)
    assert whole.hash == parts.hash != different.hash


def flow(channel: QueueChannel, extra: int = 0) -> Delivered:
    """One member sends flat out for a tenth of a second; `extra` more are asked for."""

    async def play() -> Delivered:
        task = Task(kind="flood", nodes=1, warm_up_ns=20 * MS, window_ns=80 * MS)
        run = Flood(channel, 1, task)
        reading = asyncio.ensure_future(run.read())
        sent = await run.send()
        result = await run.drain([sent + extra])
        reading.cancel()
        assert result.total <= sent
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flood, "DRAIN_S", 0.2)
        return asyncio.run(play())


def test_a_flood_counts_in_its_window_and_drains() -> None:
    """What came in the warm-up is in the total and not in the rate."""
    result = flow(QueueChannel(1))
    assert result.complete
    assert result.gaps == 0
    assert 0 < result.delivered < result.total


def test_a_flood_that_loses_messages_says_so() -> None:
    """It ends all the same."""
    result = flow(QueueChannel(1, lose_every=10))
    assert not result.complete
    assert result.gaps > 0


def test_a_flood_waits_for_what_the_others_say_they_have_sent() -> None:
    """Else the hash would be that of a part."""
    assert not flow(QueueChannel(1), extra=1).complete
