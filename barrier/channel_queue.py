"""The queue between the core of ordered channels and the one reader of a channel.

It is bounded: past a mark the ordered lane of this node takes nothing more (`freeze`), so that
the senders wait. The application's state is given and taken by the reader, when it comes to that
place of the stream: what stands behind waits in the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from phalanx.transport.errors import PhalanxError, UsageError, again
from phalanx.transport.events import Position, ViewInstalled
from phalanx.transport.waking import Waiter, future_like

from .channel_items import ChannelItem, Entries, Opening, StateMade, StateMark

ENTRIES_COST_BYTES = 64
"""What unread entries of one batch count beyond their payloads."""
VIEWS_MAX = 1024
"""Unread views; of more the oldest are dropped: they say nothing that the newest does not."""

Readable: TypeAlias = Entries | ViewInstalled | Opening


class ChannelQueue:
    """What one channel has to read.

    `freeze` is called at the marks; `wanted` and `give` when the reader comes to a `StateMark`
    (`wanted` says None while it is not decided); `take` when it comes to an `Opening`. What they
    raise, the reader gets. `waiter` makes what a reader awaits.
    """

    def __init__(
        self,
        *,
        bytes_max: int,
        freeze: Callable[[bool], None],
        wanted: Callable[[Position], bool | None],
        give: Callable[[Position], None],
        take: Callable[[StateMade], None],
        waiter: Callable[[], Waiter] = future_like,
    ) -> None:
        self._items: deque[Entries | ViewInstalled | Opening | StateMark] = deque()
        self._bytes_max = bytes_max
        self._bytes = 0
        self._views = 0
        self._frozen = False
        self._freeze = freeze
        self._wanted = wanted
        self._give = give
        self._take_state = take
        self._made: StateMade | None = None
        """A state that the reader has not come to yet."""
        self._new_waiter = waiter
        self._waiter: Waiter | None = None
        self._ended: PhalanxError | None = None
        self._in_good_order = False

    @property
    def frozen(self) -> bool:
        """Whether it is full."""
        return self._frozen

    @property
    def empty(self) -> bool:
        """Whether there is nothing unread."""
        return not self._items

    def stats(self) -> dict[str, int]:
        """Unread things and bytes."""
        return {"items": len(self._items), "bytes": self._bytes}

    # -------------------------------------------------------------------------------- writing

    def put(self, item: ChannelItem) -> None:
        """The next thing of the channel."""
        match item:
            case StateMade():
                self._made = item
                self._settle_openings(item)
            case Entries():
                self._items.append(item)
                self._bytes += item.size + ENTRIES_COST_BYTES
                if self._bytes > self._bytes_max and not self._frozen:
                    self._frozen = True
                    self._freeze(True)
            case ViewInstalled():
                self._items.append(item)
                self._views += 1
                if self._views > VIEWS_MAX:
                    self._drop_oldest_view()
            case Opening():
                if item.anew:
                    self._forget_behind_opening()
                self._items.append(item)
            case StateMark():
                self._items.append(item)
        self.wake()

    def _forget_behind_opening(self) -> None:
        """An opening that was never settled is void, and with it what stands behind it."""
        self._made = None
        kept: deque[Entries | ViewInstalled | Opening | StateMark] = deque()
        void = False
        for item in self._items:
            void = void or isinstance(item, Opening)
            if not void or isinstance(item, ViewInstalled):
                kept.append(item)
            elif isinstance(item, Entries):
                self._read(item)
        self._items = kept

    def _settle_openings(self, made: StateMade) -> None:
        """One opening counts: with a state its own, and without any the first."""
        kept: deque[Entries | ViewInstalled | Opening | StateMark] = deque()
        first = next((item for item in self._items if isinstance(item, Opening)), None)
        with_state = made.state is not None or made.too_large
        skipping = False
        for item in self._items:
            if isinstance(item, Opening):
                skipping = bool(with_state) and item.position != made.position
                if (item.position == made.position) if with_state else item is first:
                    kept.append(item)
            elif not skipping or isinstance(item, ViewInstalled):
                kept.append(item)
            elif isinstance(item, Entries):
                self._read(item)
        self._items = kept

    def _read(self, item: Entries) -> None:
        self._bytes -= item.size + ENTRIES_COST_BYTES
        if self._frozen and self._bytes * 2 <= self._bytes_max:
            self._frozen = False
            self._freeze(False)

    def _drop_oldest_view(self) -> None:
        oldest = next(item for item in self._items if isinstance(item, ViewInstalled))
        self._items.remove(oldest)
        self._views -= 1

    def end(self, error: PhalanxError, *, in_good_order: bool) -> None:
        """Nothing follows: the reader gets what is here, then the end or this error."""
        if self._ended is None:
            self._ended = error
            self._in_good_order = in_good_order
        self.wake()

    def wake(self) -> None:
        """Something has changed that the reader may wait for."""
        if self._waiter is not None and (self._items or self._ended is not None):
            self._waiter.wake()

    # -------------------------------------------------------------------------------- reading

    def next_ready(self) -> Readable | None:
        """The next thing to read; None if it is not there yet."""
        while self._items:
            item = self._items[0]
            if isinstance(item, StateMark):
                wanted = self._wanted(item.position)
                if wanted is None and self._ended is None:
                    return None
                self._items.popleft()
                if wanted:
                    self._give(item.position)
                continue
            if isinstance(item, Opening):
                made = self._made
                if made is None:
                    return None
                self._items.popleft()
                self._made = None
                self._take_state(made)
                return item
            self._items.popleft()
            if isinstance(item, Entries):
                self._read(item)
            else:
                self._views -= 1
            return item
        return None

    async def next(self) -> Readable | None:
        """The next thing; None when the channel has ended in good order.

        Raises:
            UsageError: another task reads this channel.
            EvictedError, ClosedError: it has ended otherwise.
        """
        while (item := self.next_ready()) is None:
            if self._ended is not None:
                if self._in_good_order:
                    return None
                raise again(self._ended)
            if self._waiter is not None:
                raise UsageError(
                    "another task reads this channel already; a channel has one reader, "
                    "so read in one place and pass the entries on"
                )
            self._waiter = self._new_waiter()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return item
