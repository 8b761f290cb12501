"""The asyncio face of named barriers."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable
from typing import Literal, Protocol, TypeAlias

from phalanx.transport.calls import node_of, seconds
from phalanx.transport.config import S
from phalanx.transport.errors import (
    BarrierBroken,
    BarrierTimeout,
    NoQuorum,
    Overloaded,
    UsageError,
)
from phalanx.transport.layer_face import LayerFace

from . import events, messages
from .core import BarrierCore
from .events import Release
from .messages import AllParties, Count, Parties, Strength

LAYER = "barrier"
"""The name under which the core is registered with the transport."""

PartiesLike: TypeAlias = int | Iterable[int | str] | None
"""None: all members of the view. A number: that many, whoever. Else node ids or names."""
StrengthLike: TypeAlias = Literal["arrived", "agreed"]


class HasLayers(Protocol):
    """What barriers need of a cluster."""

    @property
    def layer_face(self) -> LayerFace:
        """Where layers meet the cluster."""
        ...


_services: weakref.WeakValueDictionary[int, Barriers] = weakref.WeakValueDictionary()
"""By id of the face, which lives as long as its service."""


class Barriers:
    """The named barriers of a cluster; `Barriers(cluster)` twice is the same service."""

    _cluster: LayerFace
    _core: BarrierCore
    _open: dict[int, asyncio.Future[events.Outcome]]

    def __new__(cls, cluster: HasLayers) -> Barriers:
        """The service of this cluster.

        Raises:
            UsageError: the cluster was opened before `phalanx.barrier` was imported.
        """
        face = cluster.layer_face
        found = _services.get(id(face))
        if found is not None and found._cluster is face:
            return found
        core = face.layer(LAYER)
        assert isinstance(core, BarrierCore), "it is registered under this name"
        self = super().__new__(cls)
        self._cluster = face
        self._core = core
        self._open = {}
        face.add_layer_listener(self._collect)
        _services[id(face)] = self
        return self

    async def wait(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
    ) -> Release:
        """Arrive at barrier `name` and wait for all parties.

        With strength `agreed` everything that a party sent before it arrived is in the queues
        here when this returns; `arrived` promises the meeting alone. `timeout` is in seconds;
        None means the profile's `call_timeout_ns`. Cancelling the task takes the arrival back.

        Raises:
            BarrierBroken: a party left, timed out or cancelled; every party sees the same.
            BarrierTimeout: this wait's own deadline broke the generation (a `TimeoutError`).
            NoQuorum: this node is cut off; `outcome` says whether the arrival may count.
            UsageError: bad arguments, a second wait of one name at this node, settings that
                differ from those of the other parties, or a call from another event loop.
            Overloaded: too many barriers are open in the cluster.
        """
        arrival = await self.arrive(name, parties=parties, timeout=timeout, strength=strength)
        return await arrival.wait()

    async def arrive(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
    ) -> Arrival:
        """Arrive now and wait later (a split-phase barrier): see `wait`, which does both.

        `timeout` counts from this call. The wait must be asked for by `Arrival.wait`; until
        its outcome is known no second arrival at `name` is possible on this node.
        """
        self._cluster.check_caller()
        _check_name(name)
        wait_s = seconds(timeout, self._cluster.config.timing.call_timeout_ns / S)
        if timeout is not None and timeout < 0:
            raise UsageError(f"a timeout is 0 or more seconds, or None, not {timeout!r}")
        deadline_ns = self._cluster.now_ns() + int(wait_s * S)
        wanted = self._parties(parties)
        level = _strength(strength)
        if self._cluster.detached:
            raise NoQuorum(f"no arrival at barrier {name!r}: this node is not in a majority")
        if level is Strength.AGREED:
            await self._directed_held(name, wait_s)
        ticket = self._core.arrive(
            name,
            parties=wanted,
            strength=level,
            deadline_ns=deadline_ns,
            now_ns=self._cluster.now_ns(),
            after=self._cluster.accepted(),
        )
        outcome: asyncio.Future[events.Outcome] = asyncio.get_running_loop().create_future()
        self._open[ticket] = outcome
        self._collect()
        self._cluster.kick()
        return Arrival(self, name, ticket, outcome, wait_s)

    def missing(self, name: str) -> dict[int, str]:
        """Who is waited for at barrier `name`, and why, by node id; empty if it is not in use."""
        return self._core.missing(name)

    def open(self) -> list[events.GenerationStatus]:
        """All open generations in the cluster, as far as the agreed order is known here."""
        return self._core.generations()

    def stats(self) -> dict[str, int]:
        """Counters since the cluster was opened."""
        return self._core.stats()

    # ------------------------------------------------------------------------------ internals

    async def _directed_held(self, name: str, seconds: float) -> None:
        """An arrival says that what was sent before is delivered: directed messages too."""
        try:
            await self._cluster.directed_held(seconds)
        except TimeoutError as error:
            missing = {self._cluster.node_id: "its directed messages are not acknowledged"}
            raise BarrierTimeout(name=name, timeout_s=seconds, missing=missing) from error

    def _parties(self, parties: PartiesLike) -> Parties:
        match parties:
            case None:
                return AllParties()
            case bool() | str() | bytes():
                raise UsageError(f"parties is a number or several nodes, not {parties!r}")
            case int():
                return Count(n=parties)
            case _:
                config = self._cluster.config
                return messages.named({node_of(config, node).id for node in parties})

    def _collect(self) -> None:
        """Give the outcomes to those who wait, while this node may act.

        In a view change, or before the lease of a new view, outcomes wait; they end at the
        latest when the node is detached, which makes them unknown.
        """
        if not (self._cluster.primary or self._cluster.detached):
            return
        for outcome in self._core.take_outcomes():
            ticket = outcome.ticket
            future = self._open.pop(ticket, None)
            if future is not None:
                future.set_result(outcome)

    def check_caller(self) -> None:
        """For `Arrival`: see `ClusterFace`."""
        self._cluster.check_caller()

    def take_back(self, ticket: int) -> None:
        """For `Arrival`: the order says what becomes of it."""
        if ticket in self._open:
            self._core.cancel(ticket, now_ns=self._cluster.now_ns())
            self._cluster.kick()

    def withdraw(self, ticket: int, name: str) -> None:
        """For `Arrival`: nobody waits any more; the name is free at once."""
        future = self._open.pop(ticket, None)
        if future is None:
            return  # It is over.
        self._core.abandon(ticket, now_ns=self._cluster.now_ns())
        self._cluster.kick()
        reason = f"cancelled by node {self._cluster.node_id}"
        future.set_result(
            events.Broken(ticket=ticket, name=name, generation=None, reason=reason, missing={})
        )


class Arrival:
    """This node has arrived at one generation of a barrier; made by `Barriers.arrive`."""

    def __init__(
        self,
        service: Barriers,
        name: str,
        ticket: int,
        outcome: asyncio.Future[events.Outcome],
        timeout_s: float,
    ) -> None:
        self.name = name
        self._service = service
        self._ticket = ticket
        self._outcome = outcome
        self._timeout_s = timeout_s

    @property
    def done(self) -> bool:
        """Whether `wait` would return or raise at once."""
        return self._outcome.done()

    def cancel(self) -> None:
        """Take the arrival back, which breaks the generation unless it is released already."""
        self._service.check_caller()
        self._service.withdraw(self._ticket, self.name)

    def take_back(self) -> None:
        """Ask for the arrival back: `wait` then says what the order says, maybe a release.

        For whoever still wants to know the outcome that all other parties see.
        """
        self._service.check_caller()
        self._service.take_back(self._ticket)

    async def wait(self) -> Release:
        """Wait for the other parties; may be called again for the same answer.

        Raises what `Barriers.wait` raises. Cancelling the task takes the arrival back.
        """
        self._service.check_caller()
        try:
            outcome = await asyncio.shield(self._outcome)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return _release_or_raise(outcome, self._timeout_s)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise UsageError(f"a barrier's name is a str, not {type(name).__name__}")


def _strength(strength: str) -> Strength:
    try:
        return Strength(strength)
    except ValueError:
        known = ", ".join(repr(level.value) for level in Strength)
        raise UsageError(f"strength is one of {known}, not {strength!r}") from None


def _release_or_raise(outcome: events.Outcome, timeout_s: float) -> Release:
    match outcome:
        case events.Released(release=release):
            return release
        case events.Broken(name=name, generation=at, reason=reason, missing=missing):
            raise BarrierBroken(name=name, reason=reason, missing=missing, generation=at)
        case events.TimedOut(name=name, generation=at, missing=missing):
            raise BarrierTimeout(name=name, timeout_s=timeout_s, missing=missing, generation=at)
        case events.Mismatch(name=name, ours=ours, theirs=theirs):
            raise UsageError(
                f"barrier {name!r} is in use with other settings: {theirs}; this call uses {ours}"
            )
        case events.Refused(reason=reason):
            raise Overloaded(reason)
        case events.Unknown(name=name, reason=reason, outcome=effect):
            raise NoQuorum(f"barrier {name!r}: {reason}", outcome=effect)
