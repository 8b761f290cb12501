"""`Cluster`: a node's membership, as an application of asyncio sees it.

It owns a `Runtime` (core, drivers, record) and turns what comes out of it into the event stream,
receipts and errors. It belongs to one event loop and one process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from pathlib import Path

from . import config_file
from .calls import Home, node_of, seconds
from .config import ClusterConfig
from .core import outputs
from .core.outputs import RecordLost, StreamItem
from .driver_factory import DriverFactory
from .errors import (
    ClosedError,
    EvictedError,
    JoinTimeout,
    NoQuorum,
    PhalanxError,
    UsageError,
    again,
)
from .events import (
    Batch,
    Event,
    Evicted,
    Lane,
    Lateness,
    MessageUndelivered,
    PathStatus,
    PeerRefused,
    PrimaryLost,
    Rejoined,
    View,
    ViewInstalled,
)
from .faces import EventQueue
from .identity import Identities
from .joining import Joining, JoinOptions, WaitingWords, hooks_of
from .layer_face import LayerFace
from .leaving import LEAVE_TIMEOUT_S, Leaving
from .receipts import Receipt
from .runtime import Runtime, now_ns
from .sending import Sending
from .state_hooks import OnState, OnStateRequest, check_hooks, too_large
from .status import counters, lateness_table, path_table
from .waking import Waiter


class Cluster:
    """A member of a cluster. Made by `Cluster.join`, ended by `leave`."""

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
    ) -> Joining:
        """Join as `node`; await the result, or use it with `async with` (leaves on exit).

        Args:
            config: a cluster file, or what `config_file.load` made of one.
            node: name or id of the node that this process is.
            timeout: seconds until the first view with this node; None waits for ever.
            rejoin: after an eviction, come back as a newcomer with a new incarnation.
            readmit: start although the durable record is lost (see docs/operations.md).
            force: a majority is gone for good: found the cluster anew, on a majority of the
                configured votes, without state (see docs/operations.md; it cannot be undone).
            deliver: channels whose messages the application reads; None for all, () for none.
                Other events are queued all the same, within the bounds that `__aiter__` names.
            on_waiting: called with words about what is waited for, each time they change.
            on_state_request: returns the application's state as bytes, for newcomers. Called by
                whoever reads this cluster, when all events before have been read; see
                docs/guarantees.md.
            on_state: takes such a state, of which what is read next is the continuation.
            drivers: where frames go; for tests (`phalanx.transport.testing.memory`).

        Raises:
            ConfigError: the file cannot be used.
            EnvironmentTrouble: a port is taken, no address exists, the record is unusable ...
            JoinTimeout: no view in time; the message says who was missing.
        """
        check_hooks(on_state_request, on_state)
        loaded = config if isinstance(config, ClusterConfig) else config_file.load(Path(config))
        node_of(loaded, node)
        options = JoinOptions(
            rejoin=rejoin,
            readmit=readmit,
            force=force,
            deliver=None if deliver is None else frozenset(deliver),
            on_waiting=on_waiting,
            drivers=drivers,
            on_state_request=on_state_request,
            on_state=on_state,
        )
        wait = None if timeout is None else seconds(timeout, 0)
        return Joining(lambda: cls(loaded, node, options), wait)

    def __init__(self, config: ClusterConfig, node: str | int, options: JoinOptions) -> None:
        self.config = config
        self._node = config.node(node)
        self._identities = Identities(config)
        self._options = options
        self.home = self._home = Home()  # public for the blocking face
        self._loop = self._home.loop
        self._runtime = Runtime(
            config,
            self._node,
            sink=self._take,
            failed=self._fail,
            turned=self._turned,
            drivers=options.drivers,
            stateful=options.on_state is not None,
        )
        self._queue = EventQueue(
            bytes_max=config.limits.receive_queue_bytes,
            freeze=self._freeze,
            hooks=hooks_of(options, core=self._runtime, failed=self._end),
            waiter=lambda: Waiter(self._runtime.waking),
        )
        self._sending = Sending(config, self._runtime, self._home, self.check_state)
        self._first_view: asyncio.Future[None] = self._loop.create_future()
        self._over: PhalanxError | None = None
        self._left = False
        self._rejoining = False
        self._waiting = WaitingWords(self._runtime, self.name_of, options.on_waiting)
        self._listeners: list[Callable[[], None]] = []
        self.layer_face = LayerFace(self, self._runtime, self._sending, self._home, self._listeners)
        """For what is built on the agreed order (barriers, ordered channels), not for programs."""
        self._leaving = Leaving(self._runtime, self._loop, self._listeners, self._end_in_good_order)

    # ------------------------------------------------------------------------------ life

    async def enter(self, timeout: float | None) -> None:
        """For `Joining`: open everything and wait for the first view."""
        try:
            self._runtime.open(readmit=self._options.readmit, force=self._options.force)
            async with asyncio.timeout(timeout):
                await self._first_view
        except TimeoutError:
            late = JoinTimeout(f"no view within {timeout:g} s: {self._waiting.words()}")
            self._end(late)
            raise late from None
        except BaseException as error:
            ended = error if isinstance(error, PhalanxError) else ClosedError("joining was ended")
            self._end(ended)
            raise

    async def leave(self, *, timeout: float | None = None) -> None:
        """Leave in good order: the others hold what was sent, and know at once that we left.

        Idempotent, and tasks may call it at once: cancelling one call does not disturb another,
        and the earliest deadline counts. After it every call raises `ClosedError` and iterators
        end. If the only call is cancelled, the node is gone at once, without waiting for more.

        Args:
            timeout: seconds to wait for acknowledgements; then leaves all the same.

        Raises:
            UsageError: the timeout is no number, or this is not the cluster's event loop.
        """
        self._home.check()
        wait = seconds(timeout, LEAVE_TIMEOUT_S)
        if self._over is not None or self._runtime.pump is None:
            self._end(self._over or ClosedError("the cluster was left"))
            return
        await self._leaving.leave(wait)

    def _end_in_good_order(self) -> None:
        self._end(ClosedError("the cluster was left; join again to go on"), in_good_order=True)

    def _fail(self, error: BaseException) -> None:
        """The core has a bug, or the disk a trouble: nobody may be left waiting."""
        wrapped = ClosedError(f"the node stopped: {error!r}")
        wrapped.__cause__ = error
        self._end(wrapped)
        context = {"message": "phalanx stopped", "exception": error}
        self._loop.call_exception_handler(context)

    def _end(self, error: PhalanxError, *, in_good_order: bool = False) -> None:
        if self._over is None:
            self._over = again(error)
            self._left = in_good_order
        for layer in self._runtime.layers.values():
            layer.detached(str(self._over), now_ns=now_ns())
        self._runtime.close()
        self._fail_waiters(self._over)
        self._queue.end(self._over, in_good_order=in_good_order)
        self._leaving.left()
        for listener in list(self._listeners):
            listener()

    def _fail_waiters(self, error: PhalanxError) -> None:
        self._sending.fail(error)
        if not self._first_view.done():
            self._first_view.set_exception(again(error))
            # Whoever awaits it gets the error; without anybody it must not be reported.
            self._first_view.exception()

    # ---------------------------------------------------------------------------- the stream

    def _take(self, item: StreamItem) -> None:
        """One item of the core's stream, in order."""
        match item:
            case outputs.Delivered():
                if self._options.deliver is None or item.channel in self._options.deliver:
                    self._queue.put(item)
            case outputs.Settled():
                if not self._sending.settled(item) and item.missing:
                    self._queue.put(MessageUndelivered(missing=item.missing))
            case outputs.Room():
                self._sending.room(item.addressee, item.lane)
            case outputs.Ordered() | outputs.Unison() | outputs.Stable():
                pass  # ordered channels read these as layers
            case outputs.StateWanted() | outputs.StateAwaited():
                self._say_rejoined()
                self._queue.put(item)
            case outputs.StateTooLarge():
                self._loop.call_soon(self._end, too_large(item, self.config.limits.state_bytes_max))
            case ViewInstalled():
                self._view_installed(item)
            case Evicted():
                self._evicted(item)
            case RecordLost():
                self._record_lost(item)
            case outputs.Left():
                self._leaving.left()
            case PrimaryLost():
                self._queue.put(item)
                words = f"contact to the majority is lost (reachable: {item.reachable})"
                self._sending.lose_primary(words)
            case PeerRefused():
                self._waiting.refused(item)
                self._queue.put(item)
            case _:
                self._queue.put(item)

    def _say_rejoined(self) -> None:
        if self._rejoining:
            self._rejoining = False
            self._queue.put(Rejoined(incarnation=self._runtime.incarnation))

    def _view_installed(self, event: ViewInstalled) -> None:
        self._say_rejoined()
        self._queue.put(event)
        self._sending.view_installed()
        if not self._first_view.done():
            self._first_view.set_result(None)

    def _evicted(self, event: Evicted) -> None:
        unknown = self._sending.open_by_node()
        if unknown:
            self._queue.put(MessageUndelivered(missing=unknown))
        self._queue.put(event)
        error = EvictedError(f"the cluster went on in view {event.view_id} without this node")
        if not self._options.rejoin or self._leaving.begun:
            self._loop.call_soon(self._end, error)
            return
        self._sending.begin_anew(error)
        self._rejoining = True
        self._loop.call_soon(self._begin_anew, 0, True)

    def _record_lost(self, item: RecordLost) -> None:
        error = self._options.after_loss(item, self._runtime.incarnation)
        if error is None:
            self._loop.call_soon(self._begin_anew, item.seen + 1, False)
        else:
            self._loop.call_soon(self._end, error)

    def _begin_anew(self, at_least: int, keep_record: bool) -> None:
        if self._over is not None:
            return
        try:
            self._runtime.begin_anew(at_least=at_least, keep_record=keep_record)
        except PhalanxError as error:
            self._end(error)
        except Exception as error:  # a bug: nobody may be left waiting
            self._fail(error)
        else:
            self._queue.freeze_again()
            self.layer_face.freeze_again()

    def _turned(self) -> None:
        if not self._first_view.done():
            self._waiting.turned()
        for listener in list(self._listeners):
            listener()

    def _freeze(self, lane: Lane, frozen: bool) -> None:
        if self._runtime.pump is not None:
            self._runtime.endpoint.freeze(lane, frozen=frozen, now_ns=now_ns())
            self._runtime.kick()

    # ------------------------------------------------------------------------------- reading

    def __aiter__(self) -> AsyncIterator[Event]:
        """Every event in stream order; ends after `leave`, raises `EvictedError` after that.

        What nobody reads is bounded: messages by the senders' windows. Of path changes past 1,024
        unread the newest of each peer and rail is kept, of other events 4,096; where more of these
        are missing, iterating raises `EventsLost` once, and goes on when it is begun again.
        """
        self._home.check()
        return self._queue.events()

    def batches(self) -> AsyncIterator[Batch | Event]:
        """The fast form: messages come as batches of one sender and channel."""
        self._home.check()
        return self._queue.batches()

    def take_ready(self) -> list[Event]:
        """All events that can be had without waiting; `EventsLost` as in iterating.

        With hooks for state it ends before each view at which they are called: call it again.
        """
        return self._queue.ready()

    @property
    def node_id(self) -> int:
        """This node's id."""
        return self._node.id

    @property
    def name(self) -> str:
        """This node's name."""
        return self._node.name

    def name_of(self, node: int) -> str:
        """The configured name of a node id."""
        return self._identities.name_of(node)

    @property
    def incarnation(self) -> int:
        """Which start of this node this is."""
        return self._runtime.incarnation

    @property
    def view(self) -> View:
        """The installed view.

        Raises:
            ClosedError: the cluster was left, or this node evicted.
        """
        view = self._runtime.endpoint.view if self._runtime.pump is not None else None
        if view is None:
            raise self._error("no view is installed at the moment")
        return view

    @property
    def primary(self) -> bool:
        """Whether this node may act now: it has a lease from a majority."""
        return self._runtime.pump is not None and self._runtime.endpoint.acting(now_ns())

    @property
    def detached(self) -> bool:
        """Whether this node has been without a majority for a whole lease."""
        return self._runtime.pump is None or self._runtime.endpoint.detached

    @property
    def ended(self) -> PhalanxError | None:
        """Why this object can be used no more; None while it can."""
        return self._over

    @property
    def left(self) -> bool:
        """Whether it has ended in good order."""
        return self._left

    @property
    def paths(self) -> dict[int, dict[str, PathStatus]]:
        """Per peer and rail, how it is reached now."""
        return path_table(self._runtime)

    @property
    def lateness(self) -> dict[int, Lateness]:
        """By node how much later than the first it closes the epochs of the agreed order.

        Everybody waits for the slowest; `traffic.evict_slow_ms` leaves out who takes too long.
        """
        return lateness_table(self._runtime)

    def stats(self) -> dict[str, dict[str, int]]:
        """Counters by part: `core`, `driver`, `lifelines`, `windows`, `queue` and each layer."""
        return {**counters(self._runtime), "queue": self._queue.stats()}

    # ------------------------------------------------------------------------------- sending

    async def send(
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

        Args:
            to: node id or name of a member of the view (itself included by `multicast` only).
            payload: up to `limits.message_bytes_max` bytes.
            lane: "fifo", or "bulk" for what must never delay anything else.
            wait: if False, raises `Overloaded` instead of waiting for room, or behind others:
                calls for one stream are served in order. One that is cancelled may be accepted.
            timeout: seconds to wait for room at most.

        Raises:
            UsageError: also if `to` has left the view, or is another incarnation, when there is
                room; nothing was accepted then.
            Overloaded, NoQuorum, EvictedError, ClosedError.
        """
        return await self.send_many(
            to, (payload,), channel=channel, lane=lane, wait=wait, timeout=timeout
        )

    async def send_many(
        self,
        to: int | str,
        payloads: Iterable[bytes],
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> Receipt:
        """The batch form of `send`: one receipt for all of them, as of `multicast_many`."""
        node = node_of(self.config, to).id
        if node == self.node_id:
            raise UsageError("a node does not send to itself; multicast includes the sender")
        return await self._sending.send(node, payloads, channel, lane, wait=wait, timeout=timeout)

    async def multicast(
        self,
        payload: bytes,
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> Receipt:
        """Send to every member of the view, this one included; FIFO per sender and lane.

        Arguments and errors as for `send`.
        """
        return await self._sending.send(0, (payload,), channel, lane, wait=wait, timeout=timeout)

    async def multicast_many(
        self,
        payloads: Iterable[bytes],
        *,
        channel: str = "",
        lane: str = "fifo",
        wait: bool = True,
        timeout: float | None = None,
    ) -> Receipt:
        """The batch form of `multicast`: one receipt for all of them.

        With `wait=False` either all are accepted or, if there is no room for the first, none;
        an `Overloaded` in the middle says how many were.
        """
        return await self._sending.send(0, payloads, channel, lane, wait=wait, timeout=timeout)

    def _error(self, otherwise: str) -> PhalanxError:
        return again(self._over) if self._over is not None else ClosedError(otherwise)

    def check_state(self) -> None:
        """Refuse a call that this node cannot serve now.

        Raises:
            UsageError: it comes from another event loop or process.
            NoQuorum, EvictedError, ClosedError
        """
        self._home.check()
        if self._over is not None:
            raise again(self._over)
        if self._rejoining:
            raise EvictedError("this node was evicted and is joining again")
        if self._runtime.endpoint.detached:
            raise NoQuorum("this node has no contact to a majority of the votes")
        if self._runtime.endpoint.standing.leaving:
            raise ClosedError("this node is leaving")
