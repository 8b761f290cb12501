"""A registered party of a barrier: it is waited for in each generation until it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .arrival import Arrival
from .events import Registration, Release
from .settings import Settings

if TYPE_CHECKING:
    from .service import Barriers


class Party:
    """This node is registered at a barrier; made by `Barriers.register`.

    A registration belongs to one incarnation of the node. It outlives views in which the node
    goes on; after an eviction or a restart the node registers again.
    """

    def __init__(self, service: Barriers, settings: Settings, registration: Registration) -> None:
        self.name = registration.name
        self.registration = registration
        """What this party was told of the others when it was registered."""
        self._service = service
        self._settings = settings

    @property
    def registered(self) -> bool:
        """Whether it still is."""
        return self._service.is_registered(self.name)

    @property
    def parties(self) -> tuple[int, ...]:
        """All nodes that are registered now, as far as the agreed order is known here."""
        return self._service.registered_at(self.name)

    async def arrive(self, *, payload: bytes = b"", timeout: float | None = None) -> Arrival:
        """Arrive now and wait later: see `wait`, which does both."""
        return await self._service.arrive_as(self.name, self._settings, payload, timeout)

    async def wait(self, *, payload: bytes = b"", timeout: float | None = None) -> Release:
        """Arrive, and wait for everybody who was registered when the first of them arrived.

        Raises what `Barriers.wait` raises, and `UsageError` if it is not registered any more.
        """
        arrival = await self.arrive(payload=payload, timeout=timeout)
        return await arrival.wait()

    async def arrive_and_deregister(
        self, *, payload: bytes = b"", timeout: float | None = None
    ) -> None:
        """Arrive for the last time, and wait for nobody: returns when the order has it.

        Raises:
            UsageError: it is not registered any more, or waits here.
            NoQuorum: this node is cut off, or the order has not said it in time; it is said as
                soon as it can be.
        """
        await self._service.deregister(self.name, self._settings, payload, timeout, arrive=True)

    async def deregister(self, *, timeout: float | None = None) -> None:
        """Be no party of later generations. If it is waited for now, this is its arrival.

        Raises what `arrive_and_deregister` raises, except that it may wait here.
        """
        await self._service.deregister(self.name, self._settings, b"", timeout, arrive=False)
