"""Ordered channels: the same sequence of entries at every member, with the state to begin from."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

from phalanx.transport.calls import seconds
from phalanx.transport.config import NAME_BYTES_MAX, S
from phalanx.transport.errors import (
    EntriesMissed,
    NoQuorum,
    PhalanxError,
    StateFailed,
    UsageError,
    again,
)
from phalanx.transport.events import Position, ViewInstalled
from phalanx.transport.layer_face import LayerFace
from phalanx.transport.waking import Waiter

from .channel_items import Entries, Opening, Published, StateMade
from .channel_queue import ChannelQueue, Readable
from .order import ChannelsCore
from .service import HasLayers

LAYER = "channels"
"""The name under which the core is registered with the transport."""

OnStateRequest: TypeAlias = Callable[[], bytes]
OnState: TypeAlias = Callable[[bytes], None]
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of an ordered channel."""

    position: Position
    """Its place in the agreed order: the same at every member, growing for ever."""
    sender: int
    payload: bytes


class _Waiting(NamedTuple):
    token: int
    publication: Publication


class _Service:
    """The channels of one cluster: who reads what, and who waits for a position."""

    def __init__(self, face: LayerFace) -> None:
        core = face.layer(LAYER)
        assert isinstance(core, ChannelsCore), "it is registered under this name"
        self.face = face
        self.core = core
        self.queues: dict[str, ChannelQueue] = {}
        self.opened: dict[str, asyncio.Future[Position]] = {}
        """By name of each open channel where it begins."""
        # Places are given in the order of tokens, but safe ones are told later than others.
        self._waiting: dict[bool, deque[_Waiting]] = {False: deque(), True: deque()}
        face.add_layer_listener(self.collect)

    def collect(self) -> None:
        """After a turn: give positions to whoever waits for them, and entries to queues."""
        core, face = self.core, self.face
        if not core.has_news and face.ended is None:
            return
        reason = core.take_detached()
        if face.ended is None and not reason and face.primary:
            for published in core.take_published():
                self._published(published)
        for name, item in core.take_items():
            queue = self.queues.get(name)
            if queue is not None:
                queue.put(item)
                if isinstance(item, Opening) and not self.opened[name].done():
                    self.opened[name].set_result(item.position)
        for queue in self.queues.values():
            queue.wake()
        if face.ended is not None:
            self._fail(face.ended)
            for opened in self.opened.values():
                if not opened.done():
                    opened.set_exception(again(face.ended))
                    opened.exception()
            for queue in self.queues.values():
                queue.end(face.ended, in_good_order=face.left)
        elif reason:
            core.take_published()
            self._fail(NoQuorum(f"not known whether it was ordered: {reason}", outcome="unknown"))

    def _published(self, published: Published) -> None:
        waiting = self._waiting[published.safe]
        if not waiting:
            return
        last_token, first = published.last_token, published.first
        first_token = last_token - published.number + 1
        while waiting and waiting[0].token <= last_token:
            token, publication = waiting.popleft()
            place = first.index + max(0, token - first_token)
            publication.settle(Position(first.era, first.k, place))

    def open(self, name: str, queue: ChannelQueue, *, hooks: bool) -> None:
        """Open a channel with its queue."""
        self.core.open(name, takes=hooks, gives=hooks)
        self.queues[name] = queue
        self.opened[name] = asyncio.get_running_loop().create_future()
        self.face.kick()

    def close(self, name: str) -> None:
        """Forget a channel."""
        del self.queues[name]
        self.opened.pop(name).cancel()
        self.core.close(name)
        self.face.kick()

    def _fail(self, error: PhalanxError) -> None:
        for waiting in self._waiting.values():
            while waiting:
                waiting.popleft().publication.settle(error)

    def wait_for(self, token: int, publication: Publication, *, safe: bool) -> None:
        """Tell it the position of a message of this node, when that has one."""
        self._waiting[safe].append(_Waiting(token, publication))


class Publication:
    """Messages that are accepted, and will be ordered: ask where."""

    def __init__(self, waiter: Callable[[], Waiter], timeout_s: float) -> None:
        self._new_waiter = waiter
        self._timeout_s = timeout_s
        self._outcome: Position | PhalanxError | None = None
        self._waiters: list[Waiter] = []

    @property
    def done(self) -> bool:
        """Whether `ordered` would return or raise at once."""
        return self._outcome is not None

    def settle(self, outcome: Position | PhalanxError) -> None:
        """For the service: wake whoever waits."""
        if self._outcome is None:
            self._outcome = outcome
            for waiter in self._waiters:
                waiter.wake()

    async def ordered(self, *, timeout: float | None = None) -> Position:
        """The position of the last of them, when it is ordered (or safe, if that was asked for).

        Raises:
            TimeoutError: it is not known within `timeout` seconds.
            NoQuorum: this node cannot know (`outcome` is "unknown").
            EvictedError, ClosedError
        """
        if self._outcome is None:
            waiter = self._new_waiter()
            self._waiters.append(waiter)
            await waiter.within(waiter.get_loop().time() + seconds(timeout, self._timeout_s))
        assert self._outcome is not None, "that is what wakes a waiter"
        if isinstance(self._outcome, PhalanxError):
            raise again(self._outcome)
        return self._outcome


class OrderedChannel:
    """A named channel of a cluster whose entries come in the same order at every member.

    A channel is opened by making it: from the position of this opening in the agreed order on,
    its entries are delivered here. With the two hooks it begins with the state of a member that
    has the channel open already:

    * `on_state_request()` returns this application's state as bytes. It is called by whoever reads
      this channel, when everything before the newcomer's opening has been read.
    * `on_state(state)` takes such a state, before the first entry is read.

    One task reads a channel, by one of `async for entry in channel`, `batches()` and `events()`.
    What it does not read is bounded: then the senders on ordered channels wait.
    """

    def __init__(
        self,
        cluster: HasLayers,
        name: str,
        *,
        on_state_request: OnStateRequest | None = None,
        on_state: OnState | None = None,
    ) -> None:
        """Open the channel.

        Raises:
            UsageError: a bad name, one hook without the other, it is open here already, or this
                is not the cluster's event loop.
        """
        face = cluster.layer_face
        face.check_caller()
        _check_name(name)
        if (on_state_request is None) != (on_state is None):
            raise UsageError(
                "give both on_state_request and on_state, or neither: who takes state is asked "
                "for its own when the next one opens the channel"
            )
        self.name = name
        self._face = face
        self._service = face.service(_Service, lambda: _Service(face))
        self._on_state_request = on_state_request
        self._on_state = on_state
        self._call_timeout_s = face.config.timing.call_timeout_ns / S
        self._loop = asyncio.get_running_loop()
        self._position: Position | None = None
        self._missed: Position | None = None
        self._queue = ChannelQueue(
            bytes_max=face.config.limits.receive_queue_bytes,
            freeze=lambda frozen: face.freeze_ordered(self, frozen=frozen),
            wanted=lambda position: self._service.core.wanted(name, position),
            give=self._give,
            take=self._take,
            waiter=face.waiter,
        )
        self._service.open(name, self._queue, hooks=on_state is not None)

    async def opened(self, *, timeout: float | None = None) -> Position:
        """Return where the channel begins here, when that is known; reading waits for it anyway.

        Raises:
            TimeoutError: it is not within `timeout` seconds.
            UsageError: the channel was closed.
            EvictedError, ClosedError
        """
        self._face.check_caller()
        opened = self._service.opened.get(self.name)
        if opened is None or self._service.queues.get(self.name) is not self._queue:
            raise UsageError(f"channel {self.name!r} was closed")
        async with asyncio.timeout(seconds(timeout, self._call_timeout_s)):
            return await asyncio.shield(opened)

    # ---------------------------------------------------------------------------- publishing

    async def publish(
        self, payload: bytes, *, safe: bool = False, timeout: float | None = None
    ) -> Position:
        """Publish an entry; returns its position when it is ordered.

        Args:
            payload: up to `limits.message_bytes_max` bytes.
            safe: deliver it, here and everywhere, and return, only when every member of the view
                holds it: then it survives the crash of any of them.
            timeout: seconds for room and order together; the profile's call time-out by default.

        Raises:
            Overloaded: there was no room in time; of several, the message says which are published.
            TimeoutError: it was accepted and not ordered in time: it may still be.
            NoQuorum: this node is cut off; `outcome` says whether it may be ordered.
            UsageError, EvictedError, ClosedError
        """
        return await self.publish_many((payload,), safe=safe, timeout=timeout)

    async def publish_many(
        self, payloads: Iterable[bytes], *, safe: bool = False, timeout: float | None = None
    ) -> Position:
        """The batch form of `publish`: returns the position of the last of them.

        They keep their order, and entries of others may stand between them. Raises as `publish`.
        """
        limit = self._loop.time() + seconds(timeout, self._call_timeout_s)
        publication = await self._submit(list(payloads), safe=safe, wait=True, deadline=limit)
        return await publication.ordered(timeout=max(0.0, limit - self._loop.time()))

    async def submit(
        self,
        payloads: Iterable[bytes],
        *,
        safe: bool = False,
        wait: bool = True,
        timeout: float | None = None,
    ) -> Publication:
        """Publish without waiting for the order: returns when the entries are accepted.

        With `wait=False` it raises `Overloaded` instead of waiting for room. Raises as `publish`.
        """
        limit = self._loop.time() + seconds(timeout, self._call_timeout_s)
        return await self._submit(list(payloads), safe=safe, wait=wait, deadline=limit)

    async def _submit(
        self, payloads: list[bytes], *, safe: bool, wait: bool, deadline: float
    ) -> Publication:
        opened = self._service.opened.get(self.name)
        if opened is None or not opened.done():
            # Whoever publishes on a channel reads its own entries there.
            await self.opened(timeout=deadline - self._loop.time())
        publication = Publication(self._face.waiter, self._call_timeout_s)
        await self._face.publish(
            self.name,
            payloads,
            safe=safe,
            wait=wait,
            deadline=deadline,
            when_accepted=lambda token: self._service.wait_for(token, publication, safe=safe),
        )
        return publication

    def publish_from_thread(
        self, payload: bytes, *, safe: bool = False, timeout: float | None = None
    ) -> concurrent.futures.Future[Position]:
        """`publish`, from any other thread: the future has its result, or raises as it does."""
        call = self.publish(payload, safe=safe, timeout=timeout)
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    # ------------------------------------------------------------------------------- reading

    @property
    def position(self) -> Position | None:
        """Of the last entry that was read here, or of the opening; None before that."""
        return self._position

    async def __aiter__(self) -> AsyncIterator[Entry]:
        """Every entry in the agreed order; ends when the cluster is left.

        Raises:
            EntriesMissed: this node was away; iterate again, it goes on behind them.
            EvictedError, ClosedError
        """
        async for batch in self.batches():
            era, k, index = batch.first.era, batch.first.k, batch.first.index
            for place, payload in enumerate(batch.payloads):
                position = Position(era, k, index + place)
                self._position = position
                yield Entry(position=position, sender=batch.sender, payload=payload)

    async def batches(self) -> AsyncIterator[Entries]:
        """The fast form: consecutive entries of one sender, `first` being the position of the
        first of them; the others follow one by one."""
        async for item in self.events():
            if isinstance(item, Entries):
                yield item

    async def events(self) -> AsyncIterator[Entries | ViewInstalled]:
        """Batches of entries and, in its place between them, each view. Raises as iterating."""
        while (item := await self.next()) is not None:
            yield item

    async def next(self) -> Entries | ViewInstalled | None:
        """The next thing of `events`; None when the cluster was left. Raises as iterating."""
        self._face.check_caller()
        while (item := await self._queue.next()) is not None:
            self._note(item)
            if self._missed is not None:
                missed, self._missed = self._missed, None
                raise EntriesMissed(channel=self.name, position=missed)
            if not isinstance(item, Opening):
                return item
        return None

    def take_ready(self) -> list[Entries | ViewInstalled]:
        """Everything that can be had without waiting, as `events` gives it.

        Raises:
            EntriesMissed: as in iterating; call it again.
        """
        taken: list[Entries | ViewInstalled] = []
        while self._missed is None and (item := self._queue.next_ready()) is not None:
            self._note(item)
            if not isinstance(item, Opening):
                taken.append(item)
        if self._missed is not None and not taken:
            missed, self._missed = self._missed, None
            raise EntriesMissed(channel=self.name, position=missed)
        return taken

    def _note(self, item: Readable) -> None:
        if isinstance(item, Entries):
            first = item.first
            self._position = Position(first.era, first.k, first.index + len(item.payloads) - 1)
        elif isinstance(item, Opening):
            self._position = item.position
            if item.again and self._on_state is None:
                self._missed = item.position

    def stats(self) -> dict[str, int]:
        """Unread things and bytes."""
        return self._queue.stats()

    def close(self) -> None:
        """Read no more of this channel here; idempotent. The name can be opened again."""
        if self._service.queues.get(self.name) is self._queue:
            self._service.close(self.name)
            self._face.freeze_ordered(self, frozen=False)
            self._queue.end(UsageError(f"channel {self.name!r} was closed"), in_good_order=True)

    # --------------------------------------------------------------------------------- hooks

    def _give(self, position: Position) -> None:
        assert self._on_state_request is not None, "who has no hooks says that it has no state"
        state = self._call("on_state_request", self._on_state_request)
        # Checked at run time too: anything else would be found out at another node.
        if type(state) is not bytes:
            raise self._failed(f"on_state_request returned {type(state).__name__}, not bytes")
        self._service.core.give(self.name, position, state)
        self._face.kick()

    def _take(self, made: StateMade) -> None:
        take, state = self._on_state, made.state
        if made.too_large:
            raise self._failed(
                f"the state of node {made.donor} has {made.too_large} bytes, and this node takes "
                "less; raise limits.state_bytes_max in every file"
            )
        if take is not None and state is not None:
            self._call("on_state", lambda: take(state))

    def _call(self, name: str, hook: Callable[[], _Result]) -> _Result:
        try:
            return hook()
        except Exception as error:
            # The application's own code may raise anything; its state is in doubt then.
            raise self._failed(f"{name} raised {error!r}") from error

    def _failed(self, what: str) -> StateFailed:
        self.close()
        return StateFailed(f"channel {self.name!r} is closed, its state is in doubt: {what}")


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise UsageError(f"a channel's name is a str, not {type(name).__name__}")
    encoded = name.encode(errors="replace")
    if not 1 <= len(encoded) <= NAME_BYTES_MAX or not name.isprintable() or name[0] == "!":
        raise UsageError(
            f"an ordered channel's name has 1 to {NAME_BYTES_MAX} printable bytes and does not "
            f"start with '!', not {name!r}"
        )
