"""The asyncio face of named barriers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal, Protocol, TypeAlias

from phalanx.transport.calls import node_of, seconds
from phalanx.transport.config import S
from phalanx.transport.errors import BarrierTimeout, NoQuorum, PhalanxError, UsageError
from phalanx.transport.events import Lane
from phalanx.transport.layer_face import LayerFace
from phalanx.transport.waking import Waiter

from . import events, names
from .arrival import Arrival, Asked
from .checking import LaneLike, check_name, check_payload, has_bulk, policy_of, strength_of
from .core import BarrierCore
from .double import Double
from .events import Release, Skew
from .explain import Explanation, explain
from .party import Party
from .settings import AllParties, Count, Parties, Registered, Settings, Strength, named

__all__ = [
    "LAYER",
    "Arrival",
    "Barriers",
    "LaneLike",
    "PartiesLike",
    "PolicyLike",
    "StrengthLike",
]

LAYER: Final = "barrier"
"""The name under which the core is registered with the transport."""

PartiesLike: TypeAlias = int | Iterable[int | str] | None
"""None: all members of the view. A number: that many, whoever. Else node ids or names."""
StrengthLike: TypeAlias = Literal["arrived", "agreed", "safe"]
PolicyLike: TypeAlias = Literal["break", "shrink", "wait_for_rejoin"]
_Sends: TypeAlias = list[tuple[tuple[int, Lane], int]]
"""As `LayerFace.held` takes them."""

SETTINGS_MAX: Final = 256
"""Settings that are remembered by what callers write."""
_ARRIVED: Final = Strength.ARRIVED
_SAFE: Final = Strength.SAFE


class HasLayers(Protocol):
    """What barriers need of a cluster."""

    @property
    def layer_face(self) -> LayerFace:
        """Where layers meet the cluster."""
        ...


class Barriers:
    """The named barriers of a cluster; `Barriers(cluster)` twice is the same service."""

    _cluster: LayerFace
    _core: BarrierCore
    _open: dict[int, Asked]
    _settings: dict[tuple[object, object, object], Settings]
    _call_timeout_s: float

    def __new__(cls, cluster: HasLayers) -> Barriers:
        """The service of this cluster.

        Raises:
            UsageError: the cluster was opened before `phalanx.barrier` was imported.
        """
        face, fresh = cluster.layer_face, super().__new__(cls)
        return face.service(Barriers, lambda: fresh._begun(face))

    def _begun(self, face: LayerFace) -> Barriers:
        core = face.layer(LAYER)
        assert isinstance(core, BarrierCore), "it is registered under this name"
        self._cluster = face
        self._core = core
        self._open = {}
        self._settings = {}
        self._call_timeout_s = face.config.timing.call_timeout_ns / S
        face.add_layer_listener(self._collect)
        return self

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
        """Arrive at barrier `name` and wait for all parties.

        Args:
            name: 1 to 64 printable bytes; a name can be used again at once.
            parties: None for all members of the view, a number of members, or node ids and names.
            timeout: seconds; None means the profile's `call_timeout_ns`.
            strength: `agreed`: everything that a party sent before it arrived is in the queues
                here when this returns. `arrived` promises the meeting alone. `safe`: every
                member holds it, so that the release also binds members that are cut off
                afterwards, and has a fencing token.
            policy: what becomes of it when a party leaves the view: `break` it, `shrink` to those
                who are left, or `wait_for_rejoin` of its node.
            payload: at most 64 KiB, which all parties get with the release.
            after: `("bulk",)` if what this node has multicast on the bulk lane is to be there as
                well, at all parties. The barrier then waits for that.

        All parties have to give the same parties, strength and policy. Cancelling the task takes
        the arrival back.

        Raises:
            BarrierBroken: a party left, timed out or cancelled; every party sees the same.
            BarrierTimeout: this wait's own deadline broke the generation (a `TimeoutError`).
            BarrierMismatch: parties came with different settings; each of them is told (a
                `UsageError`).
            NoQuorum: this node is cut off; `outcome` says whether the arrival may count.
            UsageError: bad arguments, a second wait of one name at this node, or a call from
                another event loop.
            Overloaded: too many barriers are open in the cluster, or too many bytes of payloads.
        """
        settings, bulk = self._checked(name, parties, strength, policy, after)
        since_ns, wait_s = self._cluster.now_ns(), self._seconds(timeout)
        self._check_arrival(name, payload)
        # Mostly nothing has to be waited for before: then this is one coroutine, not three.
        if sends := self._unheld(settings, bulk=bulk):
            await self._held(name, sends, wait_s)
        arrival = self._arrive(name, settings, payload, since_ns, wait_s, bulk=bulk)
        return arrival.release(await arrival.outcome())

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
    ) -> Arrival:
        """Arrive now and wait later (a split-phase barrier): see `wait`, which does both.

        `timeout` counts from this call. The wait must be asked for by `Arrival.wait`; until
        its outcome is known no second arrival at `name` is possible on this node.
        """
        settings, bulk = self._checked(name, parties, strength, policy, after)
        return await self.arrive_as(name, settings, payload, timeout, bulk=bulk)

    async def register(
        self,
        name: str,
        *,
        strength: StrengthLike = "agreed",
        policy: PolicyLike = "break",
        timeout: float | None = None,
    ) -> Party:
        """Be a party of barrier `name` in each generation that begins from now on (a phaser).

        The parties of a generation are those who are registered when the first of them arrives.
        `Party.registration` says what one that comes late has to know.

        Raises:
            BarrierMismatch: others use the name with another strength or policy, or without
                registration.
            BarrierTimeout: not registered in time, nor will it be.
            NoQuorum: this node is cut off; `outcome` says whether it may be registered. If so,
                that is taken back as soon as it can be.
            UsageError: bad arguments, or this node is registered there already.
            Overloaded: parties are registered at too many barriers.
        """
        self._cluster.check_caller()
        check_name(name)
        level, on_leaving = strength_of(strength), policy_of(policy)
        settings = Settings(Registered(), level, on_leaving)
        wait_s = self._seconds(timeout)
        self._check_acts(name)
        now_ns = self._cluster.now_ns()
        ticket = self._core.register(
            name, settings, deadline_ns=now_ns + int(wait_s * S), now_ns=now_ns
        )
        outcome = await self._ask(Asked(self, name, ticket, wait_s))
        return Party(self, settings, outcome.registration)

    def double(
        self,
        name: str,
        *,
        parties: PartiesLike = None,
        timeout: float | None = None,
        strength: StrengthLike = "agreed",
        policy: Literal["break", "shrink"] = "break",
    ) -> Double:
        """Enter together, leave together: `async with barriers.double("job", parties=3):`.

        Who leaves is who has entered. `timeout` is for entering and for leaving, each. An
        exception in the body is raised at once, and breaks the leaving for the others.

        Raises:
            UsageError: bad arguments. Entering and leaving raise what `wait` raises.
        """
        self._cluster.check_caller()
        check_name(name)
        if policy not in ("break", "shrink"):
            raise UsageError(
                "who has entered cannot come back as another incarnation: "
                f"policy is one of 'break', 'shrink', not {policy!r}"
            )
        self._seconds(timeout)
        return Double(self, name, self._settings_of(parties, strength, policy), timeout)

    # ---------------------------------------------------------------------------- questions

    def missing(self, name: str) -> dict[int, str]:
        """Who is waited for at barrier `name`, and why, by node id; empty if it is not in use."""
        return self._core.missing(name)

    def explain(self, name: str) -> Explanation:
        """Who has arrived at barrier `name` and who is missing, since when, and on which paths."""
        config = self._cluster.config
        known = {node.id: node.name for node in config.nodes}
        return explain(
            self._core,
            name,
            paths=self._cluster.paths,
            name_of=lambda node: known.get(node, f"node {node}"),
            now_ns=self._cluster.now_ns(),
        )

    def skew(self) -> Mapping[int, Skew]:
        """By node id, how much later than the first it arrived, in all generations released."""
        return self._core.skew()

    def open(self) -> list[events.GenerationStatus]:
        """All open generations in the cluster, as far as the agreed order is known here."""
        return self._core.generations()

    def stats(self) -> dict[str, int]:
        """Counters since the cluster was opened."""
        return self._core.stats()

    # ------------------------------------------------------------- for parties and doubles

    async def arrive_as(
        self,
        name: str,
        settings: Settings,
        payload: bytes,
        timeout: float | None,
        *,
        bulk: bool = False,
    ) -> Arrival:
        """For `Party` and `Double`: arrive with settings that are made already."""
        since_ns, wait_s = self._cluster.now_ns(), self._seconds(timeout)
        self._check_arrival(name, payload)
        if sends := self._unheld(settings, bulk=bulk):
            await self._held(name, sends, wait_s)
        return self._arrive(name, settings, payload, since_ns, wait_s, bulk=bulk)

    def _arrive(
        self,
        name: str,
        settings: Settings,
        payload: bytes,
        since_ns: int,
        wait_s: float,
        *,
        bulk: bool,
    ) -> Arrival:
        """Everything is checked, and what was sent before is held where it has to be."""
        cluster = self._cluster
        ticket = self._core.arrive(
            name,
            settings,
            payload=payload,
            deadline_ns=since_ns + int(wait_s * S),
            now_ns=cluster.now_ns(),
            after=cluster.unnumbered(bulk=bulk),
            bulk=bulk,
        )
        arrival = Arrival(self, name, ticket, wait_s)
        self._open[ticket] = arrival
        cluster.hurry()
        if self._core.has_outcomes:
            self._collect()
        return arrival

    async def deregister(
        self, name: str, settings: Settings, payload: bytes, timeout: float | None, *, arrive: bool
    ) -> None:
        """For `Party`."""
        self._cluster.check_caller()
        wait_s = self._seconds(timeout)
        check_payload(payload)
        self._check_acts(name)
        if sends := self._unheld(settings):
            await self._held(name, sends, wait_s)
        ticket = self._core.deregister(
            name,
            arrive=arrive,
            payload=payload,
            deadline_ns=self._cluster.now_ns() + int(wait_s * S),
            after=self._cluster.unnumbered(bulk=False),
        )
        asked = Asked(self, name, ticket, wait_s)
        self._open[ticket] = asked
        self._cluster.kick()
        outcome = await asked.outcome()
        if not isinstance(outcome, events.Retired):
            raise asked.error(outcome)

    def spoil(self, name: str, settings: Settings, reason: str) -> None:
        """For `Double`: tell the others not to go on. Never raises: an exception is under way."""
        node = self._cluster.node_id
        try:
            self._cluster.check_caller()
            self._core.spoil(name, settings, f"node {node} has left by an exception: {reason}")
        except PhalanxError:
            return  # This node has ended, or begun anew; then a view tells them.
        self._cluster.kick()

    def unregister(self, name: str) -> None:
        """For the blocking face: nobody has got the party, so that this node is none."""
        self._core.unregister(name)
        self._cluster.kick()

    def is_registered(self, name: str) -> bool:
        """For `Party`."""
        return self._core.registered_with(name) is not None

    def registered_at(self, name: str) -> tuple[int, ...]:
        """For `Party`."""
        return self._core.rosters().get(name, ())

    def check_caller(self) -> None:
        """For `Arrival`: refuse a call from another event loop or process."""
        self._cluster.check_caller()

    def waiter(self) -> Waiter:
        """For `Arrival`."""
        return self._cluster.waiter()

    def take_back(self, asked: Asked) -> None:
        """For `Arrival`: the order says what becomes of it."""
        if asked.ticket in self._open:
            self._core.cancel(asked.ticket, now_ns=self._cluster.now_ns())
            self._cluster.kick()

    def withdraw(self, asked: Asked) -> None:
        """For `Arrival`: nobody waits any more; the name is free at once."""
        if self._open.pop(asked.ticket, None) is None:
            return  # It is over.
        self._core.abandon(asked.ticket, now_ns=self._cluster.now_ns())
        self._cluster.kick()
        reason = f"cancelled by node {self._cluster.node_id}"
        asked.settle(
            events.Broken(
                ticket=asked.ticket, name=asked.name, generation=None, reason=reason, missing={}
            )
        )

    # ------------------------------------------------------------------------------ internals

    async def _ask(self, asked: Asked) -> events.Enrolled:
        self._open[asked.ticket] = asked
        self._cluster.kick()
        if self._core.has_outcomes:
            self._collect()
        try:
            outcome = await asked.outcome()
        except asyncio.CancelledError:
            if asked.succeeded:  # In the very moment in which the task was cancelled.
                self.unregister(asked.name)
            raise
        if isinstance(outcome, events.Enrolled):
            return outcome
        raise asked.error(outcome)

    def _check_arrival(self, name: str, payload: bytes) -> None:
        check_payload(payload)
        self._check_acts(name)

    def _check_acts(self, name: str) -> None:
        if self._cluster.detached:
            shown = names.shown(name)
            raise NoQuorum(f"no arrival at barrier {shown!r}: this node is not in a majority")

    def _seconds(self, timeout: float | None) -> float:
        wait_s = seconds(timeout, self._call_timeout_s)
        if timeout is not None and timeout < 0:
            raise UsageError(f"a timeout is 0 or more seconds, or None, not {timeout!r}")
        return wait_s

    def _unheld(self, settings: Settings, *, bulk: bool = False) -> _Sends:
        """What was sent before and not all hold that are to hold it before this node arrives.

        An arrival says that what was sent before is delivered: directed messages too, and with
        `safe` that all members hold the others.
        """
        if settings.strength is _ARRIVED:
            return []
        lanes: tuple[Lane, ...] = ()
        if settings.strength is _SAFE:
            lanes = (Lane.FIFO, Lane.BULK) if bulk else (Lane.FIFO,)
        return self._cluster.unheld(lanes)

    async def _held(self, name: str, sends: _Sends, wait_s: float) -> None:
        try:
            await self._cluster.held(sends, wait_s)
        except TimeoutError as error:
            missing = {self._cluster.node_id: "not all that it sent before is acknowledged"}
            raise BarrierTimeout(
                name=names.shown(name), timeout_s=wait_s, missing=missing
            ) from error

    def _checked(
        self,
        name: str,
        parties: PartiesLike,
        strength: object,
        policy: object,
        after: Collection[LaneLike],
    ) -> tuple[Settings, bool]:
        """What a caller wants, checked: with which settings, and whether bulk belongs to it."""
        self._cluster.check_caller()
        check_name(name)
        return self._settings_of(parties, strength, policy), bool(after) and has_bulk(after)

    def _settings_of(self, parties: PartiesLike, strength: object, policy: object) -> Settings:
        """From what a caller writes; the usual ways of writing are looked up."""
        usual = isinstance(strength, str) and isinstance(policy, str)
        if usual and (parties is None or type(parties) is int):
            key = parties, strength, policy
            found = self._settings.get(key)
            if found is not None:
                return found
            found = Settings(self._parties(parties), strength_of(strength), policy_of(policy))
            if len(self._settings) >= SETTINGS_MAX:
                self._settings.clear()
            self._settings[key] = found
            return found
        return Settings(self._parties(parties), strength_of(strength), policy_of(policy))

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
                return named({node_of(config, node).id for node in parties})

    def _collect(self) -> None:
        """Give the outcomes to those who wait, while this node may act.

        In a view change, or before the lease of a new view, outcomes wait; they end at the
        latest when the node is detached, which makes them unknown.
        """
        if not self._core.has_outcomes or not (self._cluster.primary or self._cluster.detached):
            return
        for outcome in self._core.take_outcomes():
            asked = self._open.pop(outcome.ticket, None)
            if asked is not None:
                asked.settle(outcome)
