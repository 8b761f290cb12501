"""What became of accepted messages: receipts, and the ledger of one local stream."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Mapping

from .calls import Home, seconds
from .errors import PhalanxError, Undelivered, again

LOSSES_KEPT = 1024
"""Ranges of messages with missing holders that a ledger remembers for late questions."""


class Ledger:
    """How far the messages of one local stream are settled, and which were not held by all."""

    def __init__(self, home: Home | None = None) -> None:
        self._home = home
        self.settled = 0
        self._losses: deque[tuple[int, int, Mapping[int, str]]] = deque(maxlen=LOSSES_KEPT)
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._serial = 0
        self._given_up = 0
        """How many in the heap nobody waits for any more."""
        self._failed: PhalanxError | None = None

    @property
    def waiting(self) -> int:
        """Questions that are open, and those given up that are still remembered."""
        return len(self._waiting)

    def settle(self, token: int, missing: Mapping[int, str]) -> bool:
        """Every message up to `token` has met its fate; True if anybody waited for one of them."""
        if missing:
            self._losses.append((self.settled + 1, token, missing))
        self.settled = max(self.settled, token)
        awaited = False
        while self._waiting and self._waiting[0][0] <= token:
            future = heapq.heappop(self._waiting)[2]
            if future.done():
                self._given_up -= 1
            else:
                awaited = True
                future.set_result(None)
        return awaited

    def fail(self, error: PhalanxError, *, final: bool) -> None:
        """Those who wait get an error; `final` if nothing more will ever be settled."""
        if final:
            self._failed = error
        waiting, self._waiting = self._waiting, []
        self._given_up = 0
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(again(error))

    async def wait(self, token: int, timeout: float) -> None:
        """Wait until a message is settled.

        Raises:
            TimeoutError: it was not in time.
            UsageError: another event loop runs here than the cluster's.
        """
        if self._home is not None:
            self._home.check()
        if token <= self.settled:
            return
        if self._failed is not None:
            raise again(self._failed)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._serial += 1
        heapq.heappush(self._waiting, (token, self._serial, future))
        try:
            async with asyncio.timeout(timeout):
                await future
        finally:
            if future.cancelled():
                self._forget_given_up()

    def _forget_given_up(self) -> None:
        """Whoever asks again and again with a short time-out must not fill the heap."""
        self._given_up += 1
        if self._given_up * 2 > len(self._waiting):
            self._waiting = [entry for entry in self._waiting if not entry[2].done()]
            heapq.heapify(self._waiting)
            self._given_up = 0

    def missing(self, first: int, last: int) -> dict[int, str]:
        """Who does not hold one of these messages, and why."""
        found: dict[int, str] = {}
        for start, end, missing in self._losses:
            if start <= last and first <= end:
                found.update(missing)
        return found


class Receipt:
    """Says that one message, or one call's messages, were accepted; ask it what became of them."""

    __slots__ = ("_first", "_last", "_ledger", "_timeout")

    def __init__(self, ledger: Ledger, first: int, last: int, timeout: float) -> None:
        self._ledger = ledger
        self._first = first
        self._last = last
        self._timeout = timeout

    @property
    def settled(self) -> bool:
        """Whether it is known already who holds it."""
        return self._last <= self._ledger.settled

    @property
    def missing(self) -> dict[int, str]:
        """Who does not hold it, and why, as far as it is settled."""
        return self._ledger.missing(self._first, self._last)

    async def held(self, *, timeout: float | None = None) -> None:
        """Wait until every addressee that goes on holds it.

        Args:
            timeout: seconds; the default is the profile's call time-out.

        Raises:
            Undelivered: an addressee left the view without it; `missing` names each.
            TimeoutError: it is not known within the time.
            NoQuorum, EvictedError, ClosedError: this node cannot learn it any more.
        """
        await self._ledger.wait(self._last, seconds(timeout, self._timeout))
        missing = self._ledger.missing(self._first, self._last)
        if missing:
            raise Undelivered(missing=missing)
