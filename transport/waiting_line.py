"""Those who wait for room in one stream: first come, first served.

When there is room, the line itself makes the attempts of those who wait, in order, until one is
refused. If room woke every waiter to try again, nearly all would be refused again, and the event
loop would stand still for a time that grows with the square of their number; if each woke the
next, every message would be a batch of its own.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, TypeAlias

from .errors import PhalanxError, again

AT_ONCE: Final = 64
"""Waiters served, or told that their time is over, in one turn of the event loop."""

Attempt: TypeAlias = Callable[[], bool]
"""Try to have everything accepted; True if it is. May raise a `PhalanxError` for its caller."""
_Future: TypeAlias = asyncio.Future[None]


class WaitingLine:
    """The line of one stream. Whoever finds it `busy` and does not join it overtakes others."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: OrderedDict[_Future, Attempt] = OrderedDict()
        self._overdue: deque[_Future] = deque()
        self._serving = False

    @property
    def busy(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    async def wait(self, attempt: Attempt, deadline: float) -> None:
        """Return when `attempt` has succeeded, after those of all who came before.

        Cancelling it takes it out of the line, unless it has succeeded already.

        Raises:
            TimeoutError: it had not by the deadline, in the time of the event loop.
            PhalanxError: what the attempt raised, or what everybody here was told by `fail`.
        """
        future: _Future = self._loop.create_future()
        self._waiting[future] = attempt
        timer = self._loop.call_at(deadline, self._is_overdue, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiting.pop(future, None)
            if future.done() and not future.cancelled():
                future.exception()  # a task that was cancelled meanwhile has not looked at it

    def opened(self) -> None:
        """The stream may have room again."""
        if self._waiting and not self._serving:
            self._serving = True
            self._loop.call_soon(self._serve)

    def fail(self, error: PhalanxError) -> None:
        """Give everybody who waits this error."""
        waiting, self._waiting = self._waiting, OrderedDict()
        for future in waiting:
            if not future.done():
                future.set_exception(again(error))

    def _serve(self) -> None:
        self._serving = False
        for _ in range(min(AT_ONCE, len(self._waiting))):
            future, attempt = next(iter(self._waiting.items()))
            if not future.done():
                try:
                    if not attempt():
                        return  # there will be room again
                    future.set_result(None)
                except PhalanxError as error:
                    future.set_exception(error)
            del self._waiting[future]
        self.opened()

    def _is_overdue(self, future: _Future) -> None:
        # A herd often has one deadline.
        self._overdue.append(future)
        if len(self._overdue) == 1:
            self._loop.call_soon(self._expire)

    def _expire(self) -> None:
        for _ in range(min(AT_ONCE, len(self._overdue))):
            future = self._overdue.popleft()
            if not future.done():
                del self._waiting[future]
                future.set_exception(TimeoutError())
        if self._overdue:
            self._loop.call_soon(self._expire)
