"""`blocking.Barriers` and `blocking.OrderedChannel`: for code that is not asyncio.

On top of a `phalanx.transport.blocking.Cluster`, joined or attached. Every method waits in the
thread that calls it, and raises what the asyncio method of its name raises, besides what any
call of a blocking cluster may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from phalanx.transport.blocking import Cluster
from phalanx.transport.calls import FOREVER_S
from phalanx.transport.errors import ClosedError
from phalanx.transport.events import Position, ViewInstalled

from . import arrival, channels, events, service
from .channel_items import Entries
from .channels import Entry, OnState, OnStateRequest
from .events import Release
from .service import PartiesLike, PolicyLike, StrengthLike

__all__ = ["Arrival", "Barriers", "OrderedChannel"]


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
            )

        inner = self._cluster.call(arrive, timeout, undo=arrival.Arrival.cancel)
        return Arrival(self._cluster, inner, timeout)

    def missing(self, name: str) -> dict[int, str]:
        """Who is waited for at barrier `name`, and why, by node id; empty if it is not in use."""
        return self._cluster.ask(lambda: self._inner.missing(name))

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

    def wait(self) -> Release:
        """Wait for the other parties; may be called again for the same answer.

        Raises what `Barriers.wait` raises. An interrupt (Ctrl-C) takes the arrival back.
        """
        return self._cluster.call(self._inner.wait, self._timeout)


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

    def _next(self, timeout: float | None) -> Entries | ViewInstalled | None:
        async def pull() -> Entries | ViewInstalled | None:
            async with asyncio.timeout(timeout):
                return await self._inner.next()

        return self._cluster.call(pull, FOREVER_S if timeout is None else timeout)

    def close(self) -> None:
        """Read no more of this channel here; idempotent."""
        self._cluster.ask(self._inner.close)
