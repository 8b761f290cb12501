"""Threads, loops and networks for the tests of blocking faces; everything ends with its context."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

from phalanx.transport import Message
from phalanx.transport.blocking import Cluster
from phalanx.transport.config import ClusterConfig
from phalanx.transport.drivers.base import Driver, LocalEndpoint
from phalanx.transport.testing.memory import MemoryCluster, MemoryNetwork, memory_cluster

GUARD_S = 20.0
"""What takes longer than this hangs."""
T = TypeVar("T")


class _Locked:
    """An object whose methods are called one at a time, whatever the thread."""

    def __init__(self, inner: object, lock: threading.RLock) -> None:
        self._inner = inner
        self._lock = lock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                return found(*args, **kwargs)

        return call


class ThreadedNetwork(MemoryNetwork):
    """A network in memory between event loops of several threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()

    def driver(self, config: ClusterConfig, local: LocalEndpoint) -> Any:
        """A driver on this network; drivers reach into each other, so all share one lock."""
        return cast(Driver, _Locked(super().driver(config, local), self._lock))


@contextlib.contextmanager
def asyncio_program(nodes: int = 3) -> Generator[tuple[MemoryCluster, asyncio.AbstractEventLoop]]:
    """An asyncio program in another thread, with a whole cluster in its loop."""
    started: concurrent.futures.Future[tuple[MemoryCluster, asyncio.AbstractEventLoop]] = (
        concurrent.futures.Future()
    )
    ended = asyncio.Event()

    async def program() -> None:
        async with memory_cluster(nodes) as memory:
            started.set_result((memory, asyncio.get_running_loop()))
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(program())
        except asyncio.CancelledError:
            pass  # a test has stopped it
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    memory, loop = started.result(GUARD_S)
    try:
        yield memory, loop
    finally:
        with contextlib.suppress(RuntimeError):  # a test has ended it
            loop.call_soon_threadsafe(ended.set)
        thread.join(GUARD_S)
        assert not thread.is_alive(), "the program ends when it is asked to"


def in_threads(*calls: Callable[[], T]) -> list[T]:
    """Make all calls at once, each in its own thread; their results in order."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        return [future.result(GUARD_S) for future in futures]


@contextlib.contextmanager
def in_thread(call: Callable[[], T]) -> Generator[concurrent.futures.Future[T]]:
    """Make a call in another thread while the body runs."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


def interrupt() -> None:
    """Press Ctrl-C on the main thread, in which tests run."""
    ident = threading.main_thread().ident
    assert ident is not None, "it runs"
    signal.pthread_kill(ident, signal.SIGINT)


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again, each time in the loop, until it is so."""
    end = time.monotonic() + GUARD_S
    while not condition():
        assert time.monotonic() < end, "it never came"


def messages(cluster: Cluster, count: int) -> list[Message]:
    """The next messages."""
    found: list[Message] = []
    for event in cluster:
        if isinstance(event, Message):
            found.append(event)
            if len(found) == count:
                break
    return found
