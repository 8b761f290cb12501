"""Barriers whose waits and outcomes stand in the history that a `Recorder` writes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from phalanx.transport.errors import BarrierBroken, BarrierError, PhalanxError
from phalanx.transport.testing.history import name_of
from phalanx.transport.testing.recorder import Recorder

from ..arrival import Arrival
from ..events import Release
from ..service import Barriers, LaneLike, PartiesLike, PolicyLike, StrengthLike
from .meetings import TAKEN_BACK, verdict_of

UNKNOWN = "unknown"


class RecordedBarriers:
    """`Barriers` of the recorder's cluster; each call that waits is written down."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.barriers = Barriers(recorder.cluster)

    async def wait(
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
        """As of `Barriers`."""
        arrival = await self.arrive(
            name,
            parties=parties,
            timeout=timeout,
            strength=strength,
            policy=policy,
            payload=payload,
            after=after,
        )
        return await arrival.wait()

    async def arrive(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
        policy: PolicyLike = "break",
        payload: bytes = b"",
        after: Collection[LaneLike] = (),
    ) -> RecordedArrival:
        """As of `Barriers`."""
        recorder = self._recorder
        brought = name_of(payload) if payload else b""
        ticket = recorder.arrived(name, timeout, cut=strength != "arrived", payload=brought)
        try:
            arrival = await self.barriers.arrive(
                name,
                parties=parties,
                timeout=timeout,
                strength=strength,
                policy=policy,
                payload=payload,
                after=after,
            )
        except (PhalanxError, asyncio.CancelledError):
            recorder.returned(ticket, name, UNKNOWN)
            raise
        return RecordedArrival(recorder, ticket, arrival)


class RecordedArrival:
    """An `Arrival` whose outcome is written down when it is asked for."""

    def __init__(self, recorder: Recorder, ticket: int, arrival: Arrival) -> None:
        self._recorder = recorder
        self._ticket = ticket
        self._arrival = arrival
        self._noted = False

    @property
    def done(self) -> bool:
        """As of `Arrival`."""
        return self._arrival.done

    def cancel(self) -> None:
        """As of `Arrival`. Whether it was released before is told to the others alone."""
        if not self._arrival.done:
            self._note(UNKNOWN)
        self._arrival.cancel()

    def take_back(self) -> None:
        """As of `Arrival`."""
        self._arrival.take_back()

    async def wait(self) -> Release:
        """As of `Arrival`."""
        name = self._arrival.name
        try:
            release = await self._arrival.wait()
        except BarrierError as error:
            reason = error.reason if isinstance(error, BarrierBroken) else ""
            verdict = verdict_of(reason, error.missing) if reason else TAKEN_BACK
            self._note(verdict, error=error)
            raise
        except (PhalanxError, asyncio.CancelledError):
            self._note(UNKNOWN)
            raise
        # What was sent before it can be had without waiting: it is delivered now.
        self._recorder.drain()
        if not self._noted:
            self._noted = True
            self._recorder.returned(
                self._ticket,
                name,
                "released",
                generation=release.generation,
                position=release.position,
                parties=release.parties,
                payloads={node: name_of(it) for node, it in release.payloads.items()},
                token=release.token,
            )
        return release

    def _note(self, verdict: str, *, error: BarrierError | None = None) -> None:
        if not self._noted:
            self._noted = True
            generation = error.generation if error is not None else None
            self._recorder.returned(
                self._ticket, self._arrival.name, verdict, generation=generation
            )
