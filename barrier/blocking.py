"""`blocking.Barriers`: named barriers for code that is not asyncio.

On top of a `phalanx.transport.blocking.Cluster`, joined or attached. Every method waits in the
thread that calls it, and raises what the asyncio method of its name raises, besides what any
call of a blocking cluster may.
"""

from __future__ import annotations

from phalanx.transport.blocking import Cluster

from . import events, service
from .events import Release
from .service import PartiesLike, StrengthLike

__all__ = ["Arrival", "Barriers"]


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
    ) -> Release:
        """Arrive at barrier `name` and wait for all parties; see the asyncio `Barriers.wait`.

        A node is a party once, however many threads it has: a second one that arrives at the same
        name is refused. An interrupt (Ctrl-C) takes the arrival back.

        Raises:
            BarrierBroken, BarrierTimeout, NoQuorum, UsageError, Overloaded.
        """

        async def wait() -> Release:
            return await self._inner.wait(name, parties=parties, timeout=timeout, strength=strength)

        return self._cluster.call(wait, timeout)

    def arrive(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
    ) -> Arrival:
        """Arrive now and wait later (a split-phase barrier); `timeout` counts from this call."""

        async def arrive() -> service.Arrival:
            return await self._inner.arrive(
                name, parties=parties, timeout=timeout, strength=strength
            )

        arrival = self._cluster.call(arrive, timeout, undo=service.Arrival.cancel)
        return Arrival(self._cluster, arrival, timeout)

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

    def __init__(self, cluster: Cluster, inner: service.Arrival, timeout: float | None) -> None:
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
