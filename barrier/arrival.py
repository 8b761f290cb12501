"""What a caller holds who has arrived, and how outcomes become returns and exceptions."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from phalanx.transport.errors import (
    BarrierBroken,
    BarrierMismatch,
    BarrierTimeout,
    NoQuorum,
    Overloaded,
    PhalanxError,
)
from phalanx.transport.waking import Waiter

from . import events, names
from .events import Release

_RELEASED: Final = events.Released


class Service(Protocol):
    """What an arrival needs of its service."""

    def check_caller(self) -> None:
        """Refuse a call from another event loop or process."""
        ...

    def waiter(self) -> Waiter:
        """What one task can await."""
        ...

    def withdraw(self, asked: Asked) -> None:
        """Nobody waits any more: take it back."""
        ...

    def take_back(self, asked: Asked) -> None:
        """Ask for it back; its outcome is what the order says."""
        ...


class Asked:
    """Something that was asked of the barriers and gets one outcome, for any number of waiters."""

    def __init__(self, service: Service, name: str, ticket: int, timeout_s: float) -> None:
        self.name = names.shown(name)
        self.ticket = ticket
        self._service = service
        self._timeout_s = timeout_s
        self._outcome: events.Outcome | None = None
        self._waiters: list[Waiter] = []

    @property
    def done(self) -> bool:
        """Whether `wait` would return or raise at once."""
        return self._outcome is not None

    @property
    def succeeded(self) -> bool:
        """Whether its outcome is what was asked for."""
        return isinstance(self._outcome, events.Released | events.Enrolled | events.Retired)

    def cancel(self) -> None:
        """Take it back. An arrival breaks its generation then, unless that is released already."""
        self._service.check_caller()
        self._service.withdraw(self)

    def settle(self, outcome: events.Outcome) -> None:
        """For the service: wake whoever waits."""
        self._outcome = outcome
        for waiter in self._waiters:
            waiter.wake()

    async def outcome(self) -> events.Outcome:
        """Wait until it has its outcome. Cancelling the task takes back what was asked for."""
        self._service.check_caller()
        if self._outcome is None:
            waiter = self._service.waiter()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._service.withdraw(self)
                raise
        assert self._outcome is not None, "that is what wakes a waiter"
        return self._outcome

    def error(self, outcome: events.Outcome) -> PhalanxError:
        """The exception for an outcome that is none of those that were asked for."""
        match outcome:
            case events.Broken(generation=at, reason=reason, missing=missing):
                return BarrierBroken(name=self.name, reason=reason, missing=missing, generation=at)
            case events.TimedOut(generation=at, missing=missing):
                return BarrierTimeout(
                    name=self.name, timeout_s=self._timeout_s, missing=missing, generation=at
                )
            case events.Mismatch(generation=at, ours=ours, theirs=theirs):
                return BarrierMismatch(name=self.name, ours=ours, theirs=theirs, generation=at)
            case events.Refused(reason=reason):
                return Overloaded(reason)
            case events.Unknown(reason=reason, outcome=effect):
                return NoQuorum(f"barrier {self.name!r}: {reason}", outcome=effect)
            case events.Released() | events.Enrolled() | events.Retired():
                raise AssertionError(f"{outcome} is no failure")


class Arrival(Asked):
    """This node has arrived at one generation of a barrier; made by `Barriers.arrive`."""

    def take_back(self) -> None:
        """Ask for the arrival back: `wait` then says what the order says, maybe a release.

        For whoever still wants to know the outcome that all other parties see.
        """
        self._service.check_caller()
        self._service.take_back(self)

    async def wait(self) -> Release:
        """Wait for the other parties; may be called again for the same answer.

        Raises what `Barriers.wait` raises. Cancelling the task takes the arrival back.
        """
        return self.release(await self.outcome())

    def release(self, outcome: events.Outcome) -> Release:
        """What an outcome brings.

        Raises what `wait` raises.
        """
        if isinstance(outcome, _RELEASED):
            return outcome.release
        raise self.error(outcome)
