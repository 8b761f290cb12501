"""The queue between the pump and one reader: every event in its place, bounded by lane.

A face has one reader at a time. When it does not read, its lanes are frozen at a high-water
mark: the senders' windows fill up, and nothing else waits.

Events that are no messages cannot be held back, so that they are bounded here. Of unread path
changes past `PATH_CHANGES_MAX` only the newest of each peer and rail stays, in its place. Of all
other events `EVENTS_MAX` stay; for those that come after them the reader gets one `EventsLost`
in their place, with their number by kind, and then reads on. `stats()` counts both.

An application with state (`state_hooks`) is asked for it, or given it, by its reader, when that
comes to the place in the stream: what stands behind waits in the queue until the state is here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TypeAlias

from .core.outputs import (
    Delivered,
    StateArrived,
    StateAwaited,
    StateItem,
    StateVoid,
    StateWanted,
)
from .errors import EventsLost, PhalanxError, UsageError, again
from .events import Batch, Event, Lane, Message, PathChanged, StateOverdue, ViewInstalled
from .state_hooks import StateHooks
from .waking import Waiter, future_like

EVENTS_MAX = 4096
"""Unread events that are neither messages nor path changes."""
ITEM_BYTES = 64
"""What an unread batch counts beyond its payloads, so that empty messages are bounded as well."""
PATH_CHANGES_MAX = 1024
"""Unread path changes; twice what is left of them, one for each of 63 peers on 8 rails."""


class _Gap:
    """Stands in the queue where events are missing, up to the next that is not a message."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()


_Mark: TypeAlias = StateWanted | StateAwaited
"""Stands where the application's state is given, or taken."""
_STOPS = (_Gap, StateWanted, StateAwaited)


class EventQueue:
    """What one face has to read; `freeze(lane, frozen)` is called at the marks.

    `waiter` makes what a reader awaits.
    """

    def __init__(
        self,
        *,
        bytes_max: int,
        freeze: Callable[[Lane, bool], None],
        hooks: StateHooks | None = None,
        waiter: Callable[[], Waiter] = future_like,
    ) -> None:
        self._items: deque[Delivered | Event | _Gap | _Mark] = deque()
        self._bytes: Counter[Lane] = Counter()
        self._bytes_max = bytes_max
        self._freeze = freeze
        self._frozen: set[Lane] = set()
        self._events = 0
        self._path_changes = 0
        self._gap: _Gap | None = None
        """The last gap, while no event has been kept behind it."""
        self._counters: Counter[str] = Counter()
        self._new_waiter = waiter
        self._waiter: Waiter | None = None
        self._ended: PhalanxError | None = None
        self._in_good_order = False
        self._half_read: deque[Message] = deque()
        self._hooks = hooks
        self._arrived: StateArrived | None = None
        """A state that the reader has not come to yet."""

    # -------------------------------------------------------------------------------- writing

    def put(self, item: Delivered | Event | StateItem) -> None:
        """The next thing of the stream."""
        if isinstance(item, Delivered):
            self._items.append(item)
            lane = item.lane
            self._bytes[lane] += item.size + ITEM_BYTES
            if self._bytes[lane] > self._bytes_max and lane not in self._frozen:
                self._frozen.add(lane)
                self._freeze(lane, True)
        elif isinstance(item, PathChanged):
            self._items.append(item)
            self._path_changes += 1
            if self._path_changes > PATH_CHANGES_MAX:
                self._keep_newest_path_changes()
        elif isinstance(item, StateItem):
            self._put_state_item(item)
        elif isinstance(item, StateOverdue):
            self._put_overdue(item)
        else:
            self._put_event(item)
        self._wake()

    def _put_state_item(self, item: StateItem) -> None:
        match item:
            case StateArrived():
                self._arrived = item
            case StateVoid():
                self._forget_awaited()
            case StateWanted() | StateAwaited():
                # Nobody needs the state as of an earlier view any more.
                self._items = deque(i for i in self._items if not isinstance(i, StateWanted))
                self._items.append(item)

    def _put_overdue(self, event: StateOverdue) -> None:
        """It is to be read by whoever waits at the mark, so it stands before that."""
        place = next((n for n, i in enumerate(self._items) if isinstance(i, StateAwaited)), None)
        if place is not None and self._events < EVENTS_MAX:
            self._items.insert(place, event)
            self._events += 1

    def _forget_awaited(self) -> None:
        """The state will not be taken in: the multicasts behind its mark are of no use.

        They are in the state that comes with a later view. What was sent to this node alone is
        in no other node's state, and stays.
        """
        self._arrived = None
        kept: deque[Delivered | Event | _Gap | _Mark] = deque()
        behind = False
        for item in self._items:
            if isinstance(item, StateAwaited):
                behind = True
            elif behind and isinstance(item, Delivered) and not item.directed:
                self._release(item)
                self._counters["batches_without_state"] += 1
            elif behind and isinstance(item, ViewInstalled):
                kept.append(replace(item, synced=False))
            else:
                kept.append(item)
        self._items = kept

    def _put_event(self, event: Event) -> None:
        if self._events < EVENTS_MAX:
            self._items.append(event)
            self._events += 1
            self._gap = None
            return
        if self._gap is None:
            self._gap = _Gap()
            self._items.append(self._gap)
        self._gap.lost[type(event).__name__] += 1
        self._counters["events_lost"] += 1

    def _keep_newest_path_changes(self) -> None:
        kept: deque[Delivered | Event | _Gap | _Mark] = deque()
        seen: set[tuple[int, str]] = set()
        for item in reversed(self._items):
            if isinstance(item, PathChanged):
                if (item.peer, item.rail) in seen:
                    continue
                seen.add((item.peer, item.rail))
            kept.appendleft(item)
        self._counters["path_changes_merged"] += self._path_changes - len(seen)
        self._items = kept
        self._path_changes = len(seen)

    def freeze_again(self) -> None:
        """A new core has begun: it has to be told which lanes are full."""
        for lane in self._frozen:
            self._freeze(lane, True)

    def end(self, error: PhalanxError, *, in_good_order: bool) -> None:
        """Nothing follows: the reader gets what is here, then the end or this error."""
        if self._ended is None:
            self._ended = error
            self._in_good_order = in_good_order
        if self._arrived is None:
            self._forget_awaited()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.wake()

    # -------------------------------------------------------------------------------- reading

    def _readable(self) -> bool:
        """Whether there is something to take; the state is given and taken on the way there.

        Raises:
            StateFailed: the application could not do that; this node has ended.
        """
        while self._items:
            mark = self._items[0]
            if not isinstance(mark, StateWanted | StateAwaited):
                return True
            assert self._hooks is not None, "the core asks nobody for state who has no hooks"
            arrived = self._arrived
            if isinstance(mark, StateAwaited) and arrived is None:
                return False
            self._items.popleft()
            if arrived is None or isinstance(mark, StateWanted):
                self._hooks.give(mark.view_id)
            else:
                self._arrived = None
                self._hooks.take(arrived)
        return False

    def _release(self, item: Delivered) -> None:
        lane = item.lane
        self._bytes[lane] -= item.size + ITEM_BYTES
        if lane in self._frozen and self._bytes[lane] * 2 <= self._bytes_max:
            self._frozen.discard(lane)
            self._freeze(lane, False)

    def _take(self) -> Delivered | Event:
        item = self._items.popleft()
        assert not isinstance(item, StateWanted | StateAwaited), "`_readable` went past them"
        if isinstance(item, Delivered):
            self._release(item)
        elif isinstance(item, PathChanged):
            self._path_changes -= 1
        elif isinstance(item, _Gap):
            if item is self._gap:
                self._gap = None
            raise EventsLost(lost=item.lost)
        else:
            self._events -= 1
        return item

    async def _next(self) -> Delivered | Event | None:
        """The next thing; None if the stream has ended."""
        while not self._readable():
            if self._ended is not None:
                return None
            if self._waiter is not None:
                raise UsageError(
                    "another task reads this face already; a face has one reader, "
                    "so read in one place and pass the events on"
                )
            self._waiter = self._new_waiter()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    def _end_of_stream(self) -> PhalanxError:
        assert self._ended is not None, "asked only at the end"
        return again(self._ended)

    async def event(self) -> Event:
        """The next event; messages come one by one.

        Raises:
            EventsLost: here some are missing; the next call goes on behind them.
            EvictedError, ClosedError: the stream has ended.
        """
        event = await self._event()
        if event is None:
            raise self._end_of_stream()
        return event

    async def _event(self) -> Event | None:
        while not self._half_read:
            item = await self._next()
            if not isinstance(item, Delivered):
                return item
            self._half_read.extend(messages_of(item))
        return self._half_read.popleft()

    async def batch(self) -> Batch | Event:
        """The next batch of one sender, or the next event that is no message.

        Raises as `event` does.
        """
        batch = await self._batch()
        if batch is None:
            raise self._end_of_stream()
        return batch

    async def _batch(self) -> Batch | Event | None:
        if self._half_read:
            return self._half_read.popleft()
        item = await self._next()
        return batch_of(item) if isinstance(item, Delivered) else item

    def ready(self) -> list[Event]:
        """Everything that can be had without waiting, up to where events are missing.

        It ends as well where the application's state is given or taken: there the next call
        begins, when what this one returned has been worked on.

        Raises:
            EventsLost: they are missing here; the next call goes on behind them.
        """
        events: list[Event] = list(self._half_read)
        self._half_read.clear()
        # What is here is to be worked on before events are missing, or the state is wanted.
        while not (events and self._items and isinstance(self._items[0], _STOPS)):
            if not self._readable():
                break
            item = self._take()
            if isinstance(item, Delivered):
                events.extend(messages_of(item))
            else:
                events.append(item)
        return events

    async def events(self) -> AsyncIterator[Event]:
        """All events, until the stream ends in good order."""
        while (event := await self._event()) is not None:
            yield event
        if not self._in_good_order:
            raise self._end_of_stream()

    async def batches(self) -> AsyncIterator[Batch | Event]:
        """All batches and events, until the stream ends in good order."""
        while (batch := await self._batch()) is not None:
            yield batch
        if not self._in_good_order:
            raise self._end_of_stream()

    def stats(self) -> dict[str, int]:
        """Unread things and bytes, and what was merged or lost because nobody read."""
        return {
            "items": len(self._items),
            "bytes": sum(self._bytes.values()),
            **self._counters,
        }


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
