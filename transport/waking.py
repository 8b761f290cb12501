"""Those who wait go on within the very turn that lets them, not in the event loop's next one.

Setting an `asyncio.Future` puts its task into the queue of the event loop, which asks the kernel
once more for what has come before it runs it. Who waits for a barrier waits for nothing else, so
its task is run by the callback that found the barrier complete, once all that has come is taken
in; and what it asks for then goes out in the same turn (`Pump.put_out`).

`asyncio.Task` may await anything that behaves like a future (`_asyncio_future_blocking`), and runs
on when the callback is called that it has added.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

_Callback = Callable[[Any], object]


class Waking:
    """Who is to go on when all that has come is taken in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._turning = False
        self._woken: deque[Waiter] = deque()
        self._until: dict[Waiter, float] = {}
        """Who waits until when, in the time of the event loop."""
        self._timer: asyncio.TimerHandle | None = None
        """For the earliest of them, or for one that waits no more: one timer serves all."""

    def begin(self) -> None:
        """A callback of the event loop makes a turn; `end` is called behind it."""
        self._turning = True

    def end(self) -> None:
        """Run whoever was woken since `begin`."""
        self._turning = False
        if not self._woken:
            return
        woken = self._woken  # nobody is added, for `wake` leaves it to the loop now
        try:
            while woken:
                woken.popleft().go_on()
        finally:  # a task that ends the program must not keep the others from hearing of it
            while woken:
                self.loop.call_soon(woken.popleft().go_on)

    def wake(self, waiter: Waiter) -> None:
        """Somebody is to go on."""
        if self._turning:
            self._woken.append(waiter)
        else:
            # A task calls this: another one cannot run before it waits.
            self.loop.call_soon(waiter.go_on)

    def expire_at(self, waiter: Waiter, deadline_s: float) -> None:
        """Somebody waits until then at the latest, or until `forget`."""
        self._until[waiter] = deadline_s
        if self._timer is None or deadline_s < self._timer.when():
            self._expire_next_at(deadline_s)

    def forget(self, waiter: Waiter) -> None:
        """It waits no more."""
        self._until.pop(waiter, None)

    def _expire_next_at(self, deadline_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(deadline_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        now_s = self.loop.time()
        for waiter in [it for it, until_s in self._until.items() if until_s <= now_s]:
            del self._until[waiter]
            waiter.expire()
        if self._until:
            self._expire_next_at(min(self._until.values()))


def future_like() -> Waiter:
    """One that is woken as a future is, where there is no turn."""
    return Waiter(Waking(asyncio.get_running_loop()))


class Waiter:
    """What one task awaits, once; cancelling the task cancels it."""

    def __init__(self, waking: Waking) -> None:
        self._waking = waking
        self._asyncio_future_blocking = False
        self._done = self._cancelled = self._expired = False
        self._cancel_message: object = None
        self._callbacks: list[tuple[_Callback, contextvars.Context | None]] = []

    def __await__(self) -> Generator[Any, None, None]:
        """Wait until it is woken."""
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    def wake(self) -> None:
        """Let the task go on; nothing more if it does already."""
        if not self._done:
            self._done = True
            self._waking.wake(self)

    async def within(self, deadline_s: float) -> None:
        """Wait until it is woken, or until that time of the event loop.

        Raises:
            TimeoutError: it was not woken by then.
        """
        self._waking.expire_at(self, deadline_s)
        try:
            await self
        finally:
            self._waking.forget(self)

    def expire(self) -> None:
        """For `Waking`: its time is over."""
        if not self._done:
            self._expired = True
            self.wake()

    def go_on(self) -> None:
        """For `Waking`: run the task until it waits again."""
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            if context is None:
                callback(self)
            else:
                context.run(callback, self)

    # ------------------------------------------------------------------- for asyncio.Task

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task."""
        return self._waking.loop

    def add_done_callback(
        self, callback: _Callback, *, context: contextvars.Context | None = None
    ) -> None:
        """Have it called when the task is to go on."""
        self._callbacks.append((callback, context))
        if self._done:
            self._waking.loop.call_soon(self.go_on)

    def remove_done_callback(self, callback: _Callback) -> int:
        """Do not call it; how often it would have been."""
        kept = [item for item in self._callbacks if item[0] != callback]
        removed = len(self._callbacks) - len(kept)
        self._callbacks = kept
        return removed

    def cancel(self, msg: object = None) -> bool:
        """Raise `CancelledError` in the task; False if it goes on already."""
        if self._done:
            return False
        self._done = self._cancelled = True
        self._cancel_message = msg
        self._waking.loop.call_soon(self.go_on)
        return True

    def done(self) -> bool:
        """Whether the task goes on, or was cancelled."""
        return self._done

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    def result(self) -> None:
        """None.

        Raises:
            CancelledError: it was cancelled.
            TimeoutError: it was not woken in time.
        """
        if self._expired:
            raise TimeoutError
        if self._cancelled:
            raise asyncio.CancelledError(
                *(() if self._cancel_message is None else (self._cancel_message,))
            )
