"""`blocking.Barriers` and `blocking.OrderedChannel`: for code that is not asyncio.

On top of a `phalanx.transport.blocking.Cluster`, joined or attached. Every method waits in the
thread that calls it, and raises what the asyncio method of its name raises, besides what any
call of a blocking cluster may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Literal

from phalanx.transport.blocking import Cluster
from phalanx.transport.calls import FOREVER_S
from phalanx.transport.errors import ClosedError
from phalanx.transport.events import Position, ViewInstalled

from . import arrival, channels, double, events, party, service
from .channel_items import Entries
from .channels import Entry, OnState, OnStateRequest
from .events import Registration, Release, Skew
from .explain import Explanation
from .service import LaneLike, PartiesLike, PolicyLike, StrengthLike

__all__ = ["Arrival", "Barriers", "Double", "OrderedChannel", "Party", "Publication"]


class Barriers:
    """The named barriers of a blocking cluster; any number of threads may use one or several."""

    def __init__(self, cluster: Cluster) -> None:
        """The service of this cluster, which `Barriers` of asyncio gives as well.

        Raises:
            UsageError: the cluster was joined before `phalanx.barrier` was imported.
        """
        self._cluster = cluster
        self._inner = cluster.ask(lambda: service.Barriers(cluster.inner))

    def wait(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
        policy: PolicyLike = "break",
        payload: bytes = b"",
        after: Collection[LaneLike] = (),
    ) -> Release:
        """Arrive at barrier `name` and wait for all parties; see the asyncio `Barriers.wait`.

        A node is a party once, however many threads it has: a second one that arrives at the same
        name is refused. An interrupt (Ctrl-C) takes the arrival back.

        Raises:
            BarrierBroken, BarrierTimeout, NoQuorum, UsageError, Overloaded.
        """

        async def wait() -> Release:
            return await self._inner.wait(
                name,
                parties=parties,
                timeout=timeout,
                strength=strength,
                policy=policy,
                payload=payload,
                after=after,
            )

        return self._cluster.call(wait, timeout)

    def arrive(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
        policy: PolicyLike = "break",
        payload: bytes = b"",
        after: Collection[LaneLike] = (),
    ) -> Arrival:
        """Arrive now and wait later (a split-phase barrier); `timeout` counts from this call."""

        async def arrive() -> arrival.Arrival:
            return await self._inner.arrive(
                name,
                parties=parties,
                timeout=timeout,
                strength=strength,
                policy=policy,
                payload=payload,
                after=after,
            )

        inner = self._cluster.call(arrive, timeout, undo=arrival.Arrival.cancel)
        return Arrival(self._cluster, inner, timeout)

    def register(
        self,
        name: str,
        *,
        strength: StrengthLike = "agreed",
        policy: PolicyLike = "break",
        timeout: float | None = None,
    ) -> Party:
        """Be a party of barrier `name` in each generation that begins from now on (a phaser).

        It is the node that is registered, not the thread. Interrupted (Ctrl-C), it is not.

        Raises:
            BarrierMismatch, BarrierTimeout, NoQuorum, UsageError, Overloaded.
        """

        async def register() -> party.Party:
            return await self._inner.register(
                name, strength=strength, policy=policy, timeout=timeout
            )

        def undo(unwanted: party.Party) -> None:
            self._inner.unregister(unwanted.name)

        return Party(self._cluster, self._cluster.call(register, timeout, undo=undo))

    def double(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
        policy: Literal["break", "shrink"] = "break",
    ) -> Double:
        """Enter together, leave together: `with barriers.double("job", parties=3):`.

        As with asyncio; `timeout` is for entering and for leaving, each.

        Raises:
            UsageError: bad arguments. Entering and leaving raise what `wait` raises.
        """

        def made() -> double.Double:
            return self._inner.double(
                name, parties=parties, timeout=timeout, strength=strength, policy=policy
            )

        return Double(self._cluster, self._cluster.ask(made), timeout)

    def missing(self, name: str) -> dict[int, str]:
        """Who is waited for at barrier `name`, and why, by node id; empty if it is not in use."""
        return self._cluster.ask(lambda: self._inner.missing(name))

    def explain(self, name: str) -> Explanation:
        """Who has arrived at barrier `name` and who is missing, since when, and on which paths."""
        return self._cluster.ask(lambda: self._inner.explain(name))

    def skew(self) -> Mapping[int, Skew]:
        """By node id, how much later than the first it arrived, in all generations released."""
        return self._cluster.ask(self._inner.skew)

    def open(self) -> list[events.GenerationStatus]:
        """All open generations in the cluster, as far as the agreed order is known here."""
        return self._cluster.ask(self._inner.open)

    def stats(self) -> dict[str, int]:
        """Counters since the cluster was joined."""
        return self._cluster.ask(self._inner.stats)


class Arrival:
    """This node has arrived at one generation of a barrier; made by `Barriers.arrive`."""

    def __init__(self, cluster: Cluster, inner: arrival.Arrival, timeout: float | None) -> None:
        self.name = inner.name
        self._cluster = cluster
        self._inner = inner
        self._timeout = timeout

    @property
    def done(self) -> bool:
        """Whether `wait` would return or raise at once."""
        return self._cluster.ask(lambda: self._inner.done)

    def cancel(self) -> None:
        """Take the arrival back, which breaks the generation unless it is released already."""
        self._cluster.ask(self._inner.cancel)

    def take_back(self) -> None:
        """Ask for the arrival back: `wait` then says what the order says, maybe a release."""
        self._cluster.ask(self._inner.take_back)

    def wait(self) -> Release:
        """Wait for the other parties; may be called again for the same answer.

        Raises what `Barriers.wait` raises. An interrupt (Ctrl-C) takes the arrival back.
        """
        return self._cluster.call(self._inner.wait, self._timeout)


class Party:
    """This node is registered at a barrier; made by `Barriers.register`."""

    def __init__(self, cluster: Cluster, inner: party.Party) -> None:
        self.name = inner.name
        self.registration: Registration = inner.registration
        """What this party was told of the others when it was registered."""
        self._cluster = cluster
        self._inner = inner

    @property
    def registered(self) -> bool:
        """Whether it still is."""
        return self._cluster.ask(lambda: self._inner.registered)

    @property
    def parties(self) -> tuple[int, ...]:
        """All nodes that are registered now, as far as the agreed order is known here."""
        return self._cluster.ask(lambda: self._inner.parties)

    def arrive(self, *, payload: bytes = b"", timeout: float | None = None) -> Arrival:
        """Arrive now and wait later; `timeout` counts from this call."""
        inner = self._cluster.call(
            lambda: self._inner.arrive(payload=payload, timeout=timeout),
            timeout,
            undo=arrival.Arrival.cancel,
        )
        return Arrival(self._cluster, inner, timeout)

    def wait(self, *, payload: bytes = b"", timeout: float | None = None) -> Release:
        """Arrive, and wait for everybody who was registered when the first of them arrived.

        Raises what `Barriers.wait` raises, and `UsageError` if it is not registered any more.
        """
        return self._cluster.call(
            lambda: self._inner.wait(payload=payload, timeout=timeout), timeout
        )

    def arrive_and_deregister(self, *, payload: bytes = b"", timeout: float | None = None) -> None:
        """Arrive for the last time, and wait for nobody: returns when the order has it.

        Raises:
            UsageError: it is not registered any more, or waits here.
            NoQuorum: this node is cut off; it is said as soon as it can be.
        """
        self._cluster.call(
            lambda: self._inner.arrive_and_deregister(payload=payload, timeout=timeout), timeout
        )

    def deregister(self, *, timeout: float | None = None) -> None:
        """Be no party of later generations. If it is waited for now, this is its arrival.

        Raises what `arrive_and_deregister` raises, except that it may wait here.
        """
        self._cluster.call(lambda: self._inner.deregister(timeout=timeout), timeout)


class Double:
    """The context manager that `Barriers.double` returns; for one use.

    Leaving is waited for where the body ends. A body that ends by an exception, an interrupt
    (Ctrl-C) too, breaks the leaving for the others, and they are told so.
    """

    def __init__(self, cluster: Cluster, inner: double.Double, timeout: float | None) -> None:
        self._cluster = cluster
        self._inner = inner
        self._timeout = timeout

    def __enter__(self) -> Release:
        """Enter when all parties do; the release says who they are."""

        def undo(_release: Release) -> None:
            self._inner.abandon("KeyboardInterrupt")

        return self._cluster.call(self._inner.__aenter__, self._timeout, undo=undo)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave when all do. After an exception nobody is waited for: the others are told."""
        self._cluster.call(lambda: self._inner.__aexit__(kind, error, traceback), self._timeout)


class OrderedChannel:
    """An ordered channel of a blocking cluster; see the asyncio `OrderedChannel`.

    Any thread publishes; one thread reads at a time. The hooks are called in the cluster's event
    loop, when the reader asks for what stands behind their place in the stream.
    """

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        on_state_request: OnStateRequest | None = None,
        on_state: OnState | None = None,
        timeout: float | None = None,
    ) -> None:
        """Open the channel, and wait until it is known where it begins.

        Raises:
            UsageError: a bad name, one hook without the other, or it is open here already.
            TimeoutError: it is not open within `timeout` seconds.
        """
        self._cluster = cluster

        async def opened() -> channels.OrderedChannel:
            channel = channels.OrderedChannel(
                cluster.inner, name, on_state_request=on_state_request, on_state=on_state
            )
            try:
                await channel.opened(timeout=timeout)
            except BaseException:
                channel.close()
                raise
            return channel

        self._inner = cluster.call(opened, timeout, undo=channels.OrderedChannel.close)

    @property
    def position(self) -> Position | None:
        """Of the last entry that was read here, or of the opening."""
        return self._cluster.ask(lambda: self._inner.position)

    def publish(
        self, payload: bytes, *, safe: bool = False, timeout: float | None = None
    ) -> Position:
        """Publish an entry; returns its position when it is ordered. Raises as with asyncio."""
        return self.publish_many((payload,), safe=safe, timeout=timeout)

    def publish_many(
        self, payloads: Iterable[bytes], *, safe: bool = False, timeout: float | None = None
    ) -> Position:
        """The batch form of `publish`: returns the position of the last of them."""
        messages = list(payloads)
        return self._cluster.call(
            lambda: self._inner.publish_many(messages, safe=safe, timeout=timeout), timeout
        )

    def submit(
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
        messages = list(payloads)
        inner = self._cluster.call(
            lambda: self._inner.submit(messages, safe=safe, wait=wait, timeout=timeout), timeout
        )
        return Publication(self._cluster, inner)

    def __iter__(self) -> Iterator[Entry]:
        """Every entry in the agreed order; ends when the cluster is left.

        Raises:
            EntriesMissed: this node was away; iterate again, it goes on behind them.
            EvictedError, ClosedError
        """
        for batch in self.batches():
            first = batch.first
            for place, payload in enumerate(batch.payloads):
                position = Position(first.era, first.k, first.index + place)
                yield Entry(position=position, sender=batch.sender, payload=payload)

    def batches(self) -> Iterator[Entries]:
        """The fast form: consecutive entries of one sender."""
        for item in self.events():
            if isinstance(item, Entries):
                yield item

    def events(self) -> Iterator[Entries | ViewInstalled]:
        """Batches of entries and, in its place between them, each view."""
        while (item := self._next(None)) is not None:
            yield item

    def next(self, timeout: float | None = None) -> Entries | ViewInstalled:
        """The next batch of entries, or view.

        Raises:
            TimeoutError: there was none within `timeout` seconds.
            ClosedError: the cluster was left, and everything is read.
            EntriesMissed, EvictedError
        """
        item = self._next(timeout)
        if item is None:
            raise ClosedError("the cluster was left, and all entries of the channel are read")
        return item

    def take_ready(self) -> list[Entries | ViewInstalled]:
        """Everything that can be had without waiting, as `events` gives it.

        Raises:
            EntriesMissed: as in iterating; call it again.
        """
        return self._cluster.ask(self._inner.take_ready)

    def stats(self) -> dict[str, int]:
        """Unread things and bytes."""
        return self._cluster.ask(self._inner.stats)

    def _next(self, timeout: float | None) -> Entries | ViewInstalled | None:
        async def pull() -> Entries | ViewInstalled | None:
            async with asyncio.timeout(timeout):
                return await self._inner.next()

        return self._cluster.call(pull, FOREVER_S if timeout is None else timeout)

    def close(self) -> None:
        """Read no more of this channel here; idempotent."""
        self._cluster.ask(self._inner.close)


class Publication:
    """Messages that are accepted, and will be ordered; made by `OrderedChannel.submit`."""

    def __init__(self, cluster: Cluster, inner: channels.Publication) -> None:
        self._cluster = cluster
        self._inner = inner

    @property
    def done(self) -> bool:
        """Whether `ordered` would return or raise at once."""
        return self._cluster.ask(lambda: self._inner.done)

    def ordered(self, *, timeout: float | None = None) -> Position:
        """The position of the last of them, when it is ordered (or safe, if that was asked for).

        Raises:
            TimeoutError: it is not known within `timeout` seconds.
            NoQuorum: this node cannot know (`outcome` is "unknown").
            EvictedError, ClosedError
        """
        return self._cluster.call(lambda: self._inner.ordered(timeout=timeout), timeout)
