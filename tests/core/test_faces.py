"""The queue of one reader: everything in its place, frozen and thawed at its marks."""

from __future__ import annotations

import asyncio

import pytest

from phalanx.transport.core.outputs import Delivered
from phalanx.transport.errors import ClosedError, EvictedError, UsageError
from phalanx.transport.events import Batch, Event, Lane, Message, PrimaryRegained, ViewId
from phalanx.transport.faces import EventQueue

VIEW = ViewId(1, 1)
OTHER = PrimaryRegained(view_id=VIEW)


def delivered(*payloads: bytes, lane: Lane = Lane.FIFO) -> Delivered:
    """A batch of node 2."""
    return Delivered(2, lane, "", False, list(payloads), VIEW, 1, sum(map(len, payloads)))


class Frozen:
    """A queue, and what it did to its lanes."""

    def __init__(self, bytes_max: int = 1000) -> None:
        self.calls: list[tuple[Lane, bool]] = []
        self.queue = EventQueue(
            bytes_max=bytes_max, freeze=lambda lane, frozen: self.calls.append((lane, frozen))
        )


def words(events: list[Event]) -> list[object]:
    """Payloads for messages, and the events themselves."""
    return [event.payload if isinstance(event, Message) else event for event in events]


def test_a_lane_freezes_one_byte_past_the_limit_and_thaws_at_half() -> None:
    """A full queue stops granting window, on its own lane alone."""
    face = Frozen()
    face.queue.put(delivered(bytes(1000 - 64)))
    face.queue.put(delivered(bytes(900), lane=Lane.BULK))
    assert face.calls == []
    face.queue.put(delivered(b""))
    assert face.calls == [(Lane.FIFO, True)]
    face.queue.put(delivered(b"more"))
    assert face.calls == [(Lane.FIFO, True)]
    face.queue.ready()
    assert face.calls == [(Lane.FIFO, True), (Lane.FIFO, False)]
    assert face.queue.stats() == {"items": 0, "bytes": 0}


def test_empty_messages_fill_a_queue_as_well() -> None:
    """Each costs memory even if it has no bytes."""
    face = Frozen(bytes_max=640)
    for _ in range(10):
        face.queue.put(delivered(b""))
    assert face.calls == []
    face.queue.put(delivered(b""))
    assert face.calls == [(Lane.FIFO, True)]


def test_events_keep_their_place_between_messages() -> None:
    """A view separates what was sent in it from what was sent before."""
    face = Frozen()
    face.queue.put(delivered(b"a", b"b"))
    face.queue.put(OTHER)
    face.queue.put(delivered(b"c"))

    async def read() -> list[Event]:
        first = await face.queue.event()
        return [first, *face.queue.ready()]

    assert words(asyncio.run(read())) == [b"a", b"b", OTHER, b"c"]


def test_a_half_read_batch_goes_on_message_by_message() -> None:
    """Changing from one iterator to the other loses nothing and repeats nothing."""
    face = Frozen()
    face.queue.put(delivered(b"a", b"b"))
    face.queue.put(delivered(b"c", b"d"))

    async def read() -> list[object]:
        found: list[object] = [(await face.queue.event())]
        found += [await face.queue.batch(), await face.queue.batch()]
        return found

    first, rest, batch = asyncio.run(read())
    assert isinstance(first, Message)
    assert isinstance(rest, Message)
    assert isinstance(batch, Batch)
    assert (first.payload, rest.payload, batch.payloads) == (b"a", b"b", [b"c", b"d"])


def test_the_end_comes_after_what_is_queued() -> None:
    """What was delivered before an eviction was delivered."""
    face = Frozen()
    face.queue.put(delivered(b"last"))
    face.queue.end(EvictedError("out"), in_good_order=False)

    async def read() -> None:
        event = await face.queue.event()
        assert isinstance(event, Message)
        with pytest.raises(EvictedError):
            await face.queue.event()

    asyncio.run(read())


def test_an_orderly_end_ends_the_iteration_for_everybody_who_waits() -> None:
    """`async for` simply stops when the node has left."""
    face = Frozen()

    async def read() -> list[Event]:
        async def collect() -> list[Event]:
            return [event async for event in face.queue.events()]

        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            task = group.create_task(collect())
            await asyncio.sleep(0)
            face.queue.put(OTHER)
            await asyncio.sleep(0)
            face.queue.end(ClosedError("left"), in_good_order=True)
        return task.result()

    assert asyncio.run(read()) == [OTHER]


def test_a_second_reader_is_told_so() -> None:
    """Two readers would each see a random half of the stream."""
    face = Frozen()

    async def read() -> None:
        first = asyncio.create_task(face.queue.event())
        await asyncio.sleep(0)
        with pytest.raises(UsageError):
            await face.queue.event()
        face.queue.put(OTHER)
        assert await first == OTHER

    asyncio.run(read())


def test_a_cancelled_reader_leaves_the_queue_whole() -> None:
    """A time-out around a read must not lose what comes a moment later."""
    face = Frozen()

    async def read() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await face.queue.event()
        face.queue.put(OTHER)
        assert await face.queue.event() == OTHER

    asyncio.run(read())
