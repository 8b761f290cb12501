"""Calls from ordinary threads into an event loop that runs in another thread.

What is handed over is a function that makes a coroutine: it is made and run in the loop, so that
nothing of a call that comes too late has begun. Whoever waits looks twice a second whether the
loop is still there, for a loop of somebody else ends without a word.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from .calls import Home
from .errors import ClosedError, PhalanxError, UsageError, again

T = TypeVar("T")
CoroutineFactory = Callable[[], Coroutine[Any, Any, T]]
"""Makes the coroutine of one call, in the event loop."""

SLACK_S = 5.0
"""How much longer than its own deadline a call may take before the loop is taken for stuck."""
CANCEL_S = 1.0
"""How long a call that is given up may take to end."""
_LOOK_S = 0.5


class _Call(Generic[T]):
    """One call; its methods run in the event loop."""

    def __init__(self, make: CoroutineFactory[T], undo: Callable[[T], None] | None) -> None:
        self.outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.task: asyncio.Task[T] | None = None
        self._make = make
        self._undo = undo

    def start(self) -> None:
        """Begin, unless nobody waits any more."""
        if not self.outcome.done():
            self.task = asyncio.get_running_loop().create_task(self._make())
            self.task.add_done_callback(self._finish)

    def failed_with(self, error: BaseException) -> bool:
        """Whether this is what the call itself has raised; asked by who waited for it."""
        done = self.outcome.done() and not self.outcome.cancelled()
        return done and self.outcome.exception() is error

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.outcome.cancel()
            return
        error = task.exception()
        if not self.outcome.set_running_or_notify_cancel():
            if error is None:  # Nobody waits any more.
                self._throw_away(task.result())
        elif error is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())

    def cancel(self) -> None:
        """End it, if it has not ended."""
        if self.task is None:
            self.outcome.cancel()
        else:
            self.task.cancel()

    def discard(self) -> None:
        """Nobody has taken its result: whatever that is must not stay."""
        if self.outcome.exception() is None:
            self._throw_away(self.outcome.result())

    def _throw_away(self, result: T) -> None:
        if self._undo is not None:
            self._undo(result)


class Bridge:
    """The way into one event loop; any thread but the loop's own may use it."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._loop = home.loop
        self._lock = threading.Lock()
        self._open: set[_Call[Any]] = set()
        self._over: PhalanxError | None = None

    def call(
        self,
        make: CoroutineFactory[T],
        limit_s: float,
        *,
        undo: Callable[[T], None] | None = None,
    ) -> T:
        """Run a coroutine in the loop, and wait for it.

        Past the limit it is cancelled. It is as well if this thread is interrupted
        (`KeyboardInterrupt`); a result that it has all the same is given to `undo`, in the loop.

        Raises:
            UsageError: this is the loop's own thread, or a forked child.
            ClosedError: the loop takes no calls any more, or has ended this one.
            TimeoutError: the limit has passed.
        """
        self.check()
        call = _Call(make, undo)
        try:
            self._submit(call)
            if self._wait(call, limit_s):
                return call.outcome.result(0)
        except concurrent.futures.CancelledError:
            ended = self._error()
            raise ended from ended.__cause__
        except BaseException as error:
            if not call.failed_with(error) and not self._given_up(call):
                self._soon(call.discard)
            raise
        if self._given_up(call):
            raise TimeoutError(f"no answer of the event loop within {limit_s:g} s")
        return call.outcome.result()

    def ask(self, function: Callable[[], T]) -> T:
        """Call a function in the loop; raises as `call` does."""

        async def run() -> T:
            return function()

        return self.call(run, SLACK_S)

    def check(self) -> None:
        """Refuse to wait where nothing can come of it.

        Raises:
            UsageError: this is the loop's own thread, or a forked child.
        """
        self._home.check_process()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        if running is self._loop:
            raise UsageError(
                "this is the thread of the cluster's own event loop, which a blocking call would "
                "stop for ever; await the asyncio Cluster here, and block in other threads"
            )

    def running(self) -> list[asyncio.Task[Any]]:
        """In the loop: the calls that have begun and not ended."""
        with self._lock:
            calls = list(self._open)
        return [call.task for call in calls if call.task is not None and not call.task.done()]

    def end(self, error: PhalanxError) -> None:
        """Take no more calls, and give this error to all that wait."""
        with self._lock:
            self._over = self._over or error
            waiting, self._open = self._open, set()
        for call in waiting:
            call.outcome.cancel()

    # ------------------------------------------------------------------------------ internals

    def _error(self) -> PhalanxError:
        if self._over is not None:
            return again(self._over)
        return ClosedError("the event loop of the cluster has ended, and with it this call")

    def _submit(self, call: _Call[Any]) -> None:
        with self._lock:
            if self._over is not None:
                raise again(self._over)
            self._open.add(call)
            call.outcome.add_done_callback(lambda _: self._open.discard(call))
            if not self._soon(call.start):
                raise ClosedError("the event loop of the cluster is closed; join again to go on")

    def _soon(self, callback: Callable[[], None]) -> bool:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # it is closed
            return False
        return True

    def _wait(self, call: _Call[Any], limit_s: float) -> bool:
        """Whether it ends within the limit."""
        end = time.monotonic() + limit_s
        while not call.outcome.done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            try:
                call.outcome.exception(min(left, _LOOK_S))
            except concurrent.futures.CancelledError:
                return True
            except TimeoutError:  # of this look
                if self._loop.is_closed():
                    call.outcome.cancel()
        return True

    def _given_up(self, call: _Call[Any]) -> bool:
        """Cancel a call; False if it has ended by itself all the same."""
        if self._soon(call.cancel):
            self._wait(call, CANCEL_S)
        return call.outcome.cancel()


class LoopThread:
    """An event loop in a daemon thread of its own, which ends by `stop`, or with the process."""

    def __init__(self, name: str, ending: CoroutineFactory[None]) -> None:
        """`ending` runs in the loop at its end, also when something has thrown it over."""
        self._loop = asyncio.new_event_loop()
        self._home = Home(self._loop)
        self.bridge = Bridge(self._home)
        self._ending = ending
        self._stopping = asyncio.Event()
        # A daemon: a program that ends without a word to the cluster must not hang.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        _living.add(self)

    def stop(self) -> None:
        """End the loop and wait for its thread, unless that is stuck; idempotent."""
        with contextlib.suppress(RuntimeError):  # it is closed: the thread has ended
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(SLACK_S)

    def park(self) -> None:
        """At the end of the process: the loop does nothing more, and closes nothing."""
        if not self._home.is_here:
            return  # Its thread was not copied by fork().
        parked = threading.Event()

        def stand_still() -> None:
            parked.set()
            threading.Event().wait()

        try:
            self._loop.call_soon_threadsafe(stand_still)
        except RuntimeError:
            return
        parked.wait(CANCEL_S)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except BaseException as error:
                # Whatever comes out of a loop's callbacks (`SystemExit`) ends the loop.
                died = ClosedError(f"the event loop of the cluster has died: {error!r}")
                died.__cause__ = error
                self.bridge.end(died)
                runner.run(self._ending())

    async def _serve(self) -> None:
        await self._stopping.wait()
        await self._ending()
        # They end by themselves: what they wait for has just been told of the end.
        if running := self.bridge.running():
            await asyncio.wait(running, timeout=CANCEL_S)
        self.bridge.end(ClosedError("the cluster was left; join again to go on"))


_living: weakref.WeakSet[LoopThread] = weakref.WeakSet()


@atexit.register
def _park_all() -> None:
    """The kernel ends what is open, which the others take for what it is: a process that died.

    A loop that went on while the interpreter is taken down would fail in the middle of a turn,
    close its lifelines by a reset, which proves nothing, and have the others wait.
    """
    for thread in list(_living):
        thread.park()
