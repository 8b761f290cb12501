"""Leaving in good order: once, however many tasks ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .runtime import Runtime, now_ns

LEAVE_TIMEOUT_S = 5.0
LINGER_S = 0.5
"""How long the last frames (the farewell) may take to be carried after leaving."""


class Leaving:
    """The orderly end of one cluster object; `ended` closes it, whatever came before."""

    def __init__(
        self,
        runtime: Runtime,
        loop: asyncio.AbstractEventLoop,
        listeners: list[Callable[[], None]],
        ended: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._loop = loop
        self._listeners = listeners
        self._ended = ended
        self._left: asyncio.Future[None] = loop.create_future()
        self._work: asyncio.Task[None] | None = None
        self._by_ns = 0
        self._asking = 0

    @property
    def begun(self) -> bool:
        """Whether anybody has asked to leave."""
        return self._work is not None

    def left(self) -> None:
        """The core has stepped down, or has ended otherwise."""
        if not self._left.done():
            self._left.set_result(None)

    async def leave(self, wait_s: float) -> None:
        """Leave within the time; of several calls the earliest deadline counts for all.

        Cancelling a call does not cancel another; if nobody waits any more, it ends at once.
        """
        by_ns = now_ns() + int(wait_s * 1e9)
        if self._work is None or by_ns < self._by_ns:
            self._by_ns = by_ns
            self._runtime.endpoint.leave(by_ns, now_ns())
            self._runtime.kick()
        if self._work is None:
            self._work = self._loop.create_task(self._leave(wait_s))
        self._asking += 1
        try:
            await asyncio.shield(self._work)
        finally:
            self._asking -= 1
            if not self._asking and not self._work.done():
                self._work.cancel()
                self._ended()

    async def _leave(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s + 1):
                await self._left
            async with asyncio.timeout(LINGER_S):
                while self._runtime.pump is not None and self._runtime.endpoint.peers.links():
                    await self._next_turn()
        except TimeoutError:
            pass  # the deadline of leaving: the others will find out by the lifelines
        finally:
            self._ended()

    async def _next_turn(self) -> None:
        turned: asyncio.Future[None] = self._loop.create_future()

        def done() -> None:
            if not turned.done():
                turned.set_result(None)

        self._listeners.append(done)
        try:
            await turned
        finally:
            self._listeners.remove(done)
