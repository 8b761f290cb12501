"""`blocking.Cluster`: a node's membership for code that is not asyncio.

An asyncio `Cluster` lives in an event loop in a thread of its own (`join`), or in that of an
asyncio program whose worker threads want to call it (`attach`). Every method may be called from
any other thread, waits there, and raises what the asyncio method of its name raises; besides
that

* `ClosedError` once the loop is gone, with the cause if it died of one,
* `UsageError` in the loop's own thread, where waiting would be a deadlock, and in a forked child,
* `TimeoutError` if the loop is stuck and has not answered long after the call's deadline.

A call that is interrupted (Ctrl-C) is cancelled in the loop as well: a barrier's arrival is
taken back, a message that was not accepted yet is not sent.

Reading pulls: one batch at a time comes over from the loop's queue, which is bounded as ever, so
that a slow reader slows the senders down.

A program that ends without `leave` ends at once, and to the others it is a process that died: no
farewell is said for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from . import cluster as asyncio_face
from . import receipts
from .bridge import SLACK_S, Bridge, CoroutineFactory, LoopThread
from .calls import FOREVER_S, seconds
from .config import ClusterConfig
from .driver_factory import DriverFactory
from .errors import ClosedError
from .events import Batch, Event, Lateness, PathStatus, View
from .joining import Joining
from .leaving import LEAVE_TIMEOUT_S, LINGER_S
from .pulling import Pulling, Reader
from .state_hooks import OnState, OnStateRequest

__all__ = ["SLACK_S", "Cluster", "Receipt", "attach"]

T = TypeVar("T")
_ENDING_S = 1 + LINGER_S
"""What leaving takes at most after its deadline."""


class _Home:
    """The cluster of a `LoopThread`, from joining to the end of the loop."""

    def __init__(self) -> None:
        self.pulling: Pulling | None = None
        self._cluster: asyncio_face.Cluster | None = None

    async def join(self, make: Callable[[], Joining]) -> asyncio_face.Cluster:
        """Join, and remember it even if whoever asked is gone."""
        self._cluster = await make()
        self.pulling = Pulling(self._cluster)
        return self._cluster

    async def end(self) -> None:
        """Leave at once, if that has not happened, and keep what was not read."""
        if self._cluster is not None and self.pulling is not None:
            await self._cluster.leave(timeout=0)
            await self.pulling.drain()


class Cluster:
    """A member of a cluster. Made by `Cluster.join`, ended by `leave`; or made by `attach`."""

    @classmethod
    def join(
        cls,
        config: ClusterConfig | str | os.PathLike[str],
        *,
        node: str | int,
        timeout: float | None = 30,
        rejoin: bool = False,
        readmit: bool = False,
        force: bool = False,
        deliver: Collection[str] | None = None,
        on_waiting: Callable[[str], None] | None = None,
        on_state_request: OnStateRequest | None = None,
        on_state: OnState | None = None,
        drivers: DriverFactory | None = None,
    ) -> Cluster:
        """Join as `node`; returns with the first view. As a context manager it leaves on exit.

        Arguments and errors as for the asyncio `Cluster.join`; the functions among the arguments
        are called in the loop's thread, and must not call this object.
        """
        home = _Home()

        def make() -> Joining:
            return asyncio_face.Cluster.join(
                config,
                node=node,
                timeout=timeout,
                rejoin=rejoin,
                readmit=readmit,
                force=force,
                deliver=deliver,
                on_waiting=on_waiting,
                on_state_request=on_state_request,
                on_state=on_state,
                drivers=drivers,
            )

        limit_s = seconds(timeout, FOREVER_S) + SLACK_S
        thread = LoopThread(f"phalanx-{node}", home.end)
        try:
            inner = thread.bridge.call(lambda: home.join(make), limit_s)
        except BaseException:
            thread.stop()
            raise
        assert home.pulling is not None, "joining made it"
        reader = Reader(thread.bridge, home.pulling, stateful=on_state is not None)
        return cls(thread.bridge, inner, reader, thread)

    def __init__(
        self,
        bridge: Bridge,
        inner: asyncio_face.Cluster,
        reader: Reader,
        thread: LoopThread | None,
    ) -> None:
        """For `join` and `attach`."""
        self.inner = inner
        """The asyncio cluster; of use in its own event loop only (see `call`)."""
        self._bridge = bridge
        self._reader = reader
        self._thread = thread
        timing = inner.config.timing
        self._call_timeout_s = timing.call_timeout_ns / 1e9
        # The order answers a barrier's withdrawal at most a lease after the deadline.
        self._late_s = timing.lease_ns / 1e9 + SLACK_S

    # ------------------------------------------------------------------------------ life

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self.leave()

    def leave(self, *, timeout: float | None = None) -> None:
        """Leave in good order, and end the thread of `join`; idempotent.

        What was not read is still there to be read. If this is interrupted the node is gone at
        once. An attached cluster is left as well, for all who use it; its exit as a context
        manager leaves nothing.

        Args:
            timeout: seconds to wait for acknowledgements; then leaves all the same.
        """
        self._bridge.check()
        wait_s = seconds(timeout, LEAVE_TIMEOUT_S)
        try:
            self._bridge.call(
                lambda: self.inner.leave(timeout=wait_s), wait_s + _ENDING_S + SLACK_S
            )
        except ClosedError:
            pass  # the loop has ended, and the cluster with it
        finally:
            if self._thread is not None:
                self._thread.stop()

    def call(
        self,
        make: CoroutineFactory[T],
        timeout: float | None = None,
        *,
        undo: Callable[[T], None] | None = None,
    ) -> T:
        """Run a coroutine in the cluster's event loop, and wait for what it returns.

        `make` is called in the loop: `cluster.call(lambda: channel.publish(b"x"), 5)`. All faces
        of this kind are built on it.

        Args:
            timeout: the deadline, in seconds, that the coroutine itself keeps to; a lease and
                `SLACK_S` after it the coroutine is cancelled. The default is that of the profile.
            undo: given, in the loop, a result for which nobody waits any more.
        """
        limit_s = seconds(timeout, self._call_timeout_s) + self._late_s
        return self._bridge.call(make, limit_s, undo=undo)

    def ask(self, function: Callable[[], T]) -> T:
        """Call a function in the cluster's event loop, and return what it returns."""
        return self._bridge.ask(function)

    # ------------------------------------------------------------------------------- reading

    def __iter__(self) -> Iterator[Event]:
        """Every event in stream order; ends after `leave`, raises what ended the node otherwise.

        What nobody reads is bounded as with asyncio, and `EventsLost` says what is missing. One
        thread reads at a time, a second one is refused.
        """
        while (event := self._reader.event(None)) is not None:
            yield event

    def batches(self) -> Iterator[Batch | Event]:
        """The fast form: messages come as batches of one sender and channel."""
        while (item := self._reader.batch(None)) is not None:
            yield item

    def next(self, timeout: float | None = None) -> Event:
        """The next event.

        Args:
            timeout: seconds to wait for it; None waits for as long as the cluster lives.

        Raises:
            TimeoutError: there was none within the time.
            EventsLost: here some are missing; the next call goes on behind them.
            ClosedError: the cluster was left, and everything is read.
            EvictedError, StateFailed: what ended the node.
        """
        try:
            event = self._reader.event(timeout)
        except TimeoutError:
            if timeout is None:
                raise
            raise TimeoutError(f"no event within {timeout:g} s") from None
        if event is None:
            raise ClosedError("the cluster was left, and all its events are read")
        return event

    def take_ready(self) -> list[Event]:
        """All events that can be had without waiting.

        With hooks for state it ends before each view at which they are called, and behind a batch
        that was begun, as an attached cluster's always does: call it again.

        Raises:
            EventsLost: they are missing here; the next call goes on behind them.
        """
        return self._reader.ready()

    # --------------------------------------------------------------------------------- looking

    @property
    def config(self) -> ClusterConfig:
        """The cluster's configuration."""
        return self.inner.config

    @property
    def node_id(self) -> int:
        """This node's id."""
        return self.inner.node_id

    @property
    def name(self) -> str:
        """This node's name."""
        return self.inner.name

    def name_of(self, node: int) -> str:
        """The configured name of a node id."""
        return self.inner.name_of(node)

    @property
    def incarnation(self) -> int:
        """Which start of this node this is."""
        return self._bridge.ask(lambda: self.inner.incarnation)

    @property
    def view(self) -> View:
        """The installed view."""
        return self._bridge.ask(lambda: self.inner.view)

    @property
    def primary(self) -> bool:
        """Whether this node may act now: it has a lease from a majority."""
        return self._bridge.ask(lambda: self.inner.primary)

    @property
    def detached(self) -> bool:
        """Whether this node has been without a majority for a whole lease."""
        return self._bridge.ask(lambda: self.inner.detached)

    @property
    def paths(self) -> dict[int, dict[str, PathStatus]]:
        """Per peer and rail, how it is reached now."""
        return self._bridge.ask(lambda: self.inner.paths)

    @property
    def lateness(self) -> dict[int, Lateness]:
        """By node how late it closes the epochs of the agreed order."""
        return self._bridge.ask(lambda: self.inner.lateness)

    def stats(self) -> dict[str, dict[str, int]]:
        """Counters by part, as the asyncio `Cluster.stats` has them."""
        return self._bridge.ask(self.inner.stats)

    # --------------------------------------------------------------------------------- sending

    def send(
        self,
        to: int | str,
        payload: bytes,
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> Receipt:
        """Send to one member; returns when the message is accepted.

        Arguments and errors as for the asyncio `Cluster.send`. Threads that send at once are
        served in the order in which their calls reach the loop.
        """
        return self.send_many(
            to, (payload,), channel=channel, lane=lane, wait=wait, timeout=timeout
        )

    def send_many(
        self,
        to: int | str,
        payloads: Iterable[bytes],
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> Receipt:
        """The batch form of `send`: one way to the loop and one receipt for all of them."""
        listed = list(payloads)

        async def send_many() -> receipts.Receipt:
            return await self.inner.send_many(
                to, listed, channel=channel, lane=lane, wait=wait, timeout=timeout
            )

        return Receipt(self, self.call(send_many, timeout))

    def multicast(
        self,
        payload: bytes,
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> Receipt:
        """Send to every member of the view, this one included; FIFO per sender and lane."""
        return self.multicast_many(
            (payload,), channel=channel, lane=lane, wait=wait, timeout=timeout
        )

    def multicast_many(
        self,
        payloads: Iterable[bytes],
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> Receipt:
        """The batch form of `multicast`: one way to the loop and one receipt for all of them."""
        listed = list(payloads)

        async def multicast_many() -> receipts.Receipt:
            return await self.inner.multicast_many(
                listed, channel=channel, lane=lane, wait=wait, timeout=timeout
            )

        return Receipt(self, self.call(multicast_many, timeout))


class Receipt:
    """Says that one message, or one call's messages, were accepted; ask it what became of them."""

    __slots__ = ("_cluster", "_inner")

    def __init__(self, cluster: Cluster, inner: receipts.Receipt) -> None:
        self._cluster = cluster
        self._inner = inner

    @property
    def settled(self) -> bool:
        """Whether it is known already who holds it."""
        return self._inner.settled

    @property
    def missing(self) -> dict[int, str]:
        """Who does not hold it, and why, as far as it is settled."""
        return self._cluster.ask(lambda: self._inner.missing)

    def held(self, timeout: float | None = None) -> None:
        """Wait until every addressee that goes on holds it.

        Args:
            timeout: seconds; the default is the profile's call time-out.

        Raises:
            Undelivered: an addressee left the view without it; `missing` names each.
            TimeoutError: it is not known within the time.
            NoQuorum, EvictedError, ClosedError: this node cannot learn it any more.
        """
        self._cluster.call(lambda: self._inner.held(timeout=timeout), timeout)


def attach(cluster: asyncio_face.Cluster) -> Cluster:
    """A blocking face of a cluster whose event loop runs in another thread than its users'.

    For the worker threads of an asyncio program. It may be made in any thread, and as often as
    wanted; the cluster's one reader may be one of them.

    Raises:
        UsageError: this is a forked child of the cluster's process.
    """
    cluster.home.check_process()
    bridge = Bridge(cluster.home)
    # Whether it has hooks for state is not known here, so it is read as if it had.
    return Cluster(bridge, cluster, Reader(bridge, Pulling(cluster), stateful=True), None)
