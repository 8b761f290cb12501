"""Looks again for a moment instead of sleeping, for those who buy latency with processor time.

A process that sleeps is woken some tens of microseconds late. With `[timing] spin_us` the event
loop does not sleep until nothing has come for so long: each of its turns asks the kernel what
there is, and everything else in the loop has its turn as well.
"""

from __future__ import annotations

import asyncio
import time


class Spinning:
    """Keeps one event loop awake."""

    def __init__(self, loop: asyncio.AbstractEventLoop, spin_us: int) -> None:
        self._loop = loop
        self._spin_ns = spin_us * 1000
        self._until_ns = 0
        self.spins = False
        """It does not sleep now."""

    def renew(self) -> None:
        """Something has come or gone: more may follow soon."""
        if not self._spin_ns:
            return
        self._until_ns = time.monotonic_ns() + self._spin_ns
        if not self.spins:
            self.spins = True
            self._loop.call_soon(self._again)

    def _again(self) -> None:
        self.spins = time.monotonic_ns() < self._until_ns
        if self.spins:
            self._loop.call_soon(self._again)
