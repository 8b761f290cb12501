"""A double barrier: its parties enter together and leave together."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from . import names
from .events import Release
from .settings import Entered, Settings

if TYPE_CHECKING:
    from .service import Barriers


class Double:
    """The context manager that `Barriers.double` returns; for one use.

    Who has entered is who leaves: whoever left the view meanwhile breaks the leaving, or with the
    policy `shrink` is not waited for. A body that ends by an exception breaks the leaving for the
    others, and they are told so.
    """

    def __init__(
        self, service: Barriers, name: str, settings: Settings, timeout: float | None
    ) -> None:
        self._service = service
        self._name = name
        self._settings = settings
        self._timeout = timeout
        self._leave: tuple[str, Settings] | None = None

    async def __aenter__(self) -> Release:
        """Enter when all parties do; the release says who they are."""
        arrival = await self._service.arrive_as(
            names.enter_name(self._name), self._settings, b"", self._timeout
        )
        try:
            release = await arrival.wait()
        except asyncio.CancelledError:
            if arrival.succeeded:  # In the very moment in which the task was cancelled.
                self._has_entered(await arrival.wait())
                self.abandon("CancelledError")
            raise
        self._has_entered(release)
        return msgspec.structs.replace(release, name=self._name)

    def _has_entered(self, release: Release) -> None:
        settings = Settings(
            Entered(release.parties), self._settings.strength, self._settings.policy
        )
        self._leave = names.leave_name(self._name, release.generation), settings

    def abandon(self, reason: str) -> None:
        """Do not leave with the others who have entered, but tell them why. Never raises."""
        assert self._leave is not None, "it has entered"
        self._service.spoil(*self._leave, reason)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave when all do. After an exception nobody is waited for: the others are told."""
        if kind is not None:
            self.abandon(_words(kind, error))
            return
        assert self._leave is not None, "it has entered"
        name, settings = self._leave
        arrival = await self._service.arrive_as(name, settings, b"", self._timeout)
        await arrival.wait()


def _words(kind: type[BaseException], error: BaseException | None) -> str:
    """What an exception is called towards the others: one printable line."""
    text = "".join(c if c.isprintable() else " " for c in str(error or ""))
    return f"{kind.__name__}: {text}" if text else kind.__name__
