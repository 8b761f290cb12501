"""What a recorder has read of its cluster, and the application has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from ..errors import PhalanxError, again
from ..events import Batch, Event, Message
from ..faces import ITEM_BYTES
from ..pulling import messages_of

AHEAD_BYTES = 1 << 20
"""How much is read before the application takes it; then the cluster's own queue fills up."""


class ReadAhead:
    """A queue with one reader; what it holds is written down already."""

    def __init__(self) -> None:
        self._items: deque[Batch | Event | PhalanxError] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._over: PhalanxError | None = None
        self._in_good_order = False
        self._half_read: deque[Event] = deque()
        """The rest of a batch whose messages are taken one by one."""

    @property
    def over(self) -> bool:
        """Whether nothing follows what is here."""
        return self._over is not None

    async def room(self) -> None:
        """Return when the application has taken enough."""
        while self._bytes > AHEAD_BYTES:
            self._room.clear()
            await self._room.wait()

    def put(self, item: Batch | Event | PhalanxError) -> None:
        """The next thing; an error is raised in its place, and others may follow."""
        self._items.append(item)
        self._bytes += _size(item)
        self._news.set()

    def end(self, error: PhalanxError, *, in_good_order: bool) -> None:
        """Nothing follows: the reader gets what is here, then the end or this error."""
        if self._over is None:
            self._over, self._in_good_order = error, in_good_order
        self._news.set()

    def _take(self) -> Batch | Event:
        item = self._items.popleft()
        self._bytes -= _size(item)
        self._room.set()
        if isinstance(item, PhalanxError):
            raise item
        return item

    def take_all(self) -> list[Batch | Event]:
        """All that is here."""
        items: list[Batch | Event] = list(self._half_read)
        self._half_read.clear()
        while self._items:
            items.append(self._take())
        return items

    async def _next(self) -> Batch | Event | None:
        """The next thing; None if all has ended in good order."""
        while not self._items:
            if self._over is not None:
                if self._in_good_order:
                    return None
                raise again(self._over)
            self._news.clear()
            await self._news.wait()
        return self._take()

    async def batches(self) -> AsyncIterator[Batch | Event]:
        """Everything, until it ends in good order."""
        while True:
            item = self._half_read.popleft() if self._half_read else await self._next()
            if item is None:
                return
            yield item

    async def events(self) -> AsyncIterator[Event]:
        """The same with messages one by one."""
        while True:
            if not self._half_read:
                item = await self._next()
                if item is None:
                    return
                self._half_read.extend(events_of(item))
            yield self._half_read.popleft()


def _size(item: Batch | Event | PhalanxError) -> int:
    return ITEM_BYTES + (sum(map(len, item.payloads)) if isinstance(item, Batch) else 0)


def batch_of(item: Batch | Event) -> Batch | Event:
    """A message as the batch of one that it might have come in; anything else as it is."""
    if not isinstance(item, Message):
        return item
    return Batch(
        sender=item.sender,
        payloads=[item.payload],
        channel=item.channel,
        lane=item.lane,
        view_id=item.view_id,
        directed=item.directed,
    )


def events_of(item: Batch | Event) -> list[Event]:
    """A batch as single messages; anything else as it is."""
    return [*messages_of(item)] if isinstance(item, Batch) else [item]
