"""Reading a cluster from another thread: the loop's side, and that of the one who reads.

Reading pulls: one batch comes over at a time, so that what is unread is bounded by the cluster's
own queue, and hooks for state are called when the reader asks for what stands behind them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager

from .bridge import SLACK_S, Bridge
from .calls import FOREVER_S, seconds
from .cluster import Cluster
from .errors import ClosedError, EventsLost, PhalanxError, UsageError, again
from .events import Batch, Event, Message


class Pulling:
    """The loop's side of reading: what has come over and was not taken yet.

    It is put here and not returned, so that nothing is lost when a reader is interrupted.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.items: deque[Batch | Event | EventsLost] = deque()
        self.over = False
        """Nothing follows what is in `items`."""
        self.error: PhalanxError | None = None
        """What ended the stream, if it was not the end in good order."""
        self._cluster = cluster
        self._source: AsyncIterator[Batch | Event] | None = None

    async def pull(self, timeout: float | None = None) -> None:
        """Take over the next batch or event, or the end.

        Raises:
            TimeoutError: there was nothing within the time.
        """
        if self.over:
            return
        if self._source is None:
            self._source = self._cluster.batches()
        try:
            async with asyncio.timeout(timeout):
                self.items.append(await anext(self._source))
        except StopAsyncIteration:
            self.over = True
        except EventsLost as lost:
            self._source = None
            self.items.append(lost)
        except UsageError:  # another task reads
            self._source = None
            raise
        except PhalanxError as error:
            self.over, self.error = True, error
        except BaseException:  # cancelled, or timed out
            self._source = None
            raise

    async def pull_ready(self) -> None:
        """Take over all that can be had without waiting."""
        try:
            self.items.extend(self._cluster.take_ready())
        except EventsLost as lost:
            self.items.append(lost)

    async def drain(self) -> None:
        """After the cluster's end: take over what is left of the stream."""
        self._source = None  # A pull that still waits has its own.
        while not self.over:
            await self.pull()


class Reader:
    """The reading thread's side."""

    def __init__(self, bridge: Bridge, pulling: Pulling, *, stateful: bool) -> None:
        self._bridge = bridge
        self._pulling = pulling
        self._stateful = stateful
        """The application may have hooks for state, which must not be called too early."""
        self._messages: deque[Message] = deque()
        """The rest of a batch of which some messages have been read."""
        self._reading = threading.Lock()

    def ready(self) -> list[Event]:
        """All events that can be had without waiting.

        With hooks for state it ends before each view at which they are called, and behind a batch
        that was begun, as an attached cluster's always does: call it again.

        Raises:
            EventsLost: they are missing here; the next call goes on behind them.
        """
        with self._one_reader():
            events: list[Event] = list(self._messages)
            self._messages.clear()
            if not (events and self._stateful):
                try:
                    self._bridge.call(self._pulling.pull_ready, SLACK_S)
                except ClosedError:
                    if not self._pulling.over:
                        raise
            items = self._pulling.items
            while items and not (events and isinstance(items[0], EventsLost)):
                item = items.popleft()
                if isinstance(item, EventsLost):
                    raise again(item)
                events.extend(messages_of(item) if isinstance(item, Batch) else (item,))
            return events

    def event(self, timeout: float | None) -> Event | None:
        """The next event, messages one by one; None at the end in good order."""
        with self._one_reader():
            while not self._messages:
                item = self._next_item(timeout)
                if not isinstance(item, Batch):
                    return item
                self._messages.extend(messages_of(item))
            return self._messages.popleft()

    def batch(self, timeout: float | None) -> Batch | Event | None:
        """The next batch or other event; None at the end in good order."""
        with self._one_reader():
            return self._messages.popleft() if self._messages else self._next_item(timeout)

    def _next_item(self, timeout: float | None) -> Batch | Event | None:
        """The next thing; None at the end in good order."""
        pulling = self._pulling
        wait_s = seconds(timeout, FOREVER_S)
        while not pulling.items and not pulling.over:
            try:
                self._bridge.call(lambda: pulling.pull(wait_s), wait_s + SLACK_S)
            except ClosedError:
                if not pulling.over:  # else what was left was taken over when the loop ended
                    raise
        if pulling.items:
            item = pulling.items.popleft()
            if isinstance(item, EventsLost):
                raise again(item)
            return item
        if pulling.error is not None:
            raise again(pulling.error)
        return None

    @contextmanager
    def _one_reader(self) -> Generator[None]:
        if not self._reading.acquire(blocking=False):
            raise UsageError(
                "another thread reads this face already; a face has one reader, "
                "so read in one place and pass the events on"
            )
        try:
            yield
        finally:
            self._reading.release()


def messages_of(batch: Batch) -> list[Message]:
    """A batch as single messages."""
    return [
        Message(
            sender=batch.sender,
            payload=payload,
            channel=batch.channel,
            lane=batch.lane,
            view_id=batch.view_id,
            directed=batch.directed,
        )
        for payload in batch.payloads
    ]
