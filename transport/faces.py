"""The queue between the pump and one reader: every event in its place, bounded by lane.

A face has one reader at a time. When it does not read, its lanes are frozen at a high-water
mark: the senders' windows fill up, and nothing else waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable

from .core.outputs import Delivered
from .errors import PhalanxError, UsageError
from .events import Batch, Event, Lane, Message


class EventQueue:
    """What one face has to read; `freeze(lane, frozen)` is called at the marks."""

    def __init__(self, *, bytes_max: int, freeze: Callable[[Lane, bool], None]) -> None:
        self._items: deque[Delivered | Event] = deque()
        self._bytes: Counter[Lane] = Counter()
        self._bytes_max = bytes_max
        self._freeze = freeze
        self._frozen: set[Lane] = set()
        self._waiter: asyncio.Future[None] | None = None
        self._ended: PhalanxError | None = None
        self._in_good_order = False
        self._half_read: deque[Message] = deque()

    # -------------------------------------------------------------------------------- writing

    def put(self, item: Delivered | Event) -> None:
        """The next thing of the stream."""
        self._items.append(item)
        if isinstance(item, Delivered):
            lane = item.lane
            self._bytes[lane] += item.size + 64
            if self._bytes[lane] > self._bytes_max and lane not in self._frozen:
                self._frozen.add(lane)
                self._freeze(lane, True)
        self._wake()

    def end(self, error: PhalanxError, *, in_good_order: bool) -> None:
        """Nothing follows: the reader gets what is here, then the end or this error."""
        if self._ended is None:
            self._ended = error
            self._in_good_order = in_good_order
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -------------------------------------------------------------------------------- reading

    def _take(self) -> Delivered | Event:
        item = self._items.popleft()
        if isinstance(item, Delivered):
            lane = item.lane
            self._bytes[lane] -= item.size + 64
            if lane in self._frozen and self._bytes[lane] * 2 <= self._bytes_max:
                self._frozen.discard(lane)
                self._freeze(lane, False)
        return item

    async def _next(self) -> Delivered | Event:
        while not self._items:
            if self._ended is not None:
                raise self._ended
            if self._waiter is not None:
                raise UsageError(
                    "another task reads this face already; a face has one reader, "
                    "so read in one place and pass the events on"
                )
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    async def event(self) -> Event:
        """The next event; messages come one by one.

        Raises:
            EvictedError, ClosedError: the stream has ended.
        """
        while not self._half_read:
            item = await self._next()
            if not isinstance(item, Delivered):
                return item
            self._half_read.extend(messages_of(item))
        return self._half_read.popleft()

    async def batch(self) -> Batch | Event:
        """The next batch of one sender, or the next event that is no message."""
        if self._half_read:
            return self._half_read.popleft()
        item = await self._next()
        return batch_of(item) if isinstance(item, Delivered) else item

    def ready(self) -> list[Event]:
        """Everything that can be had without waiting."""
        events: list[Event] = list(self._half_read)
        self._half_read.clear()
        while self._items:
            item = self._take()
            if isinstance(item, Delivered):
                events.extend(messages_of(item))
            else:
                events.append(item)
        return events

    async def events(self) -> AsyncIterator[Event]:
        """All events, until the stream ends in good order."""
        while True:
            try:
                event = await self.event()
            except PhalanxError as error:
                if error is self._ended and self._in_good_order:
                    return
                raise
            yield event

    async def batches(self) -> AsyncIterator[Batch | Event]:
        """All batches and events, until the stream ends in good order."""
        while True:
            try:
                batch = await self.batch()
            except PhalanxError as error:
                if error is self._ended and self._in_good_order:
                    return
                raise
            yield batch

    def stats(self) -> dict[str, int]:
        """Unread things and bytes."""
        return {"items": len(self._items), "bytes": sum(self._bytes.values())}


def messages_of(item: Delivered) -> list[Message]:
    """A batch as single messages."""
    return [
        Message(
            sender=item.sender,
            payload=payload,
            channel=item.channel,
            lane=item.lane,
            view_id=item.view_id,
            directed=item.directed,
        )
        for payload in item.payloads
    ]


def batch_of(item: Delivered) -> Batch:
    """A batch as the application sees it."""
    return Batch(
        sender=item.sender,
        payloads=item.payloads,
        channel=item.channel,
        lane=item.lane,
        view_id=item.view_id,
        directed=item.directed,
    )
