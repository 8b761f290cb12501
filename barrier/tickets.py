"""The waits of one node: each gets one ticket, and each ticket exactly one outcome."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from phalanx.transport.events import Lane, Member, Position

from . import events
from .generation import Generation
from .messages import Cause
from .settings import Settings, Strength


class Kind(enum.Enum):
    """What a ticket asks for."""

    ARRIVE = enum.auto()
    REGISTER = enum.auto()
    QUIT = enum.auto()
    """To be registered no more."""
    ARRIVE_AND_QUIT = enum.auto()


_SAFE: Final = Strength.SAFE
_RELEASE: Final = events.Release
_RELEASED: Final = events.Released


@dataclass(slots=True, init=False, eq=False)
class Ticket:
    """One thing that this node has asked for and that has no outcome yet."""

    serial: int
    name: str
    settings: Settings
    deadline_ns: int | None
    kind: Kind
    payload: bytes
    spoiled: str
    bulk: bool
    """Bulk multicasts before it belong to it."""
    asked_ns: int
    after: Mapping[Lane, int] | None
    """Tokens of this node's own multicasts that are to be numbered before the arrival."""
    taken: bool
    """Its entry of this view was handed to the transport, so that it may be ordered."""
    opened: Position | None
    """The generation in which it counts, once it was ordered."""
    cause: Cause | None
    """Why it is being taken back; None while it is wanted."""
    grace_ns: int | None
    """When an undecided withdrawal becomes `Unknown`."""
    abandoned: bool
    """Nobody waits for the outcome; kept until its withdrawal is decided."""
    completed: Generation | None
    """Released, but not everything that must be here first is here."""
    position: Position | None
    """Where that was decided."""
    over: bool
    """It has its outcome, or was dropped without one."""

    def __init__(
        self,
        serial: int,
        name: str,
        settings: Settings,
        deadline_ns: int | None,
        kind: Kind = Kind.ARRIVE,
        payload: bytes = b"",
    ) -> None:
        self.serial = serial
        self.name = name
        self.settings = settings
        self.deadline_ns = deadline_ns
        self.kind = kind
        self.payload = payload
        self.spoiled = ""
        self.bulk = False
        self.asked_ns = 0
        self.after = None
        self.taken = False
        self.opened = None
        self.cause = None
        self.grace_ns = None
        self.abandoned = False
        self.completed = None
        self.position = None
        self.over = False

    @property
    def wake_ns(self) -> int | None:
        """When it wants to be looked at."""
        return self.deadline_ns if self.cause is None else self.grace_ns


class Tickets:
    """All tickets without an outcome, and the outcomes that nobody has taken yet."""

    def __init__(self, node: int) -> None:
        self._node = node
        self._open: dict[int, Ticket] = {}
        self._by_name: dict[str, list[Ticket]] = {}
        self._serial = 0
        self._outcomes: list[events.Outcome] = []
        self._earliest_ns: int | None = None
        """No ticket wants to be looked at before."""
        self.stats: Counter[str] = Counter()
        """But for what is counted in each round: see `counted`."""
        self._arrivals = self._released = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Ticket]:
        """In the order of arrival; tickets may be resolved meanwhile."""
        return iter(list(self._open.values()))

    def get(self, serial: int) -> Ticket | None:
        """That ticket, while it has no outcome."""
        return self._open.get(serial)

    def of(self, name: str) -> list[Ticket]:
        """All tickets of a name, abandoned ones too."""
        return list(self._by_name.get(name, ()))

    def waiting_at(self, name: str) -> Ticket | None:
        """The one wait of that name that somebody still wants."""
        for ticket in self._by_name.get(name, ()):
            if not ticket.abandoned and ticket.kind is Kind.ARRIVE:
                return ticket
        return None

    def registering_at(self, name: str) -> Ticket | None:
        """What this node is about to change about its registration at that name."""
        return next((it for it in self._by_name.get(name, ()) if it.kind is not Kind.ARRIVE), None)

    def waiting_in(self, generation: Generation) -> list[Ticket]:
        """The tickets, abandoned ones too, that count in a generation."""
        tickets = self._by_name.get(generation.name)
        if tickets is None:
            return []
        opened = generation.opened
        return [ticket for ticket in tickets if ticket.opened == opened]

    def add(
        self,
        name: str,
        settings: Settings,
        deadline_ns: int | None,
        kind: Kind = Kind.ARRIVE,
        payload: bytes = b"",
    ) -> Ticket:
        """A new ticket."""
        self._serial += 1
        ticket = Ticket(self._serial, name, settings, deadline_ns, kind, payload)
        self._open[self._serial] = ticket
        self._by_name.setdefault(name, []).append(ticket)
        if deadline_ns is not None:
            self.watch(deadline_ns)
        self._arrivals += kind is Kind.ARRIVE
        return ticket

    def counted(self) -> dict[str, int]:
        """How often since the start."""
        return dict(self.stats) | {"arrivals": self._arrivals, "released": self._released}

    @property
    def has_outcomes(self) -> bool:
        """Whether `take_outcomes` gives any."""
        return bool(self._outcomes)

    def take_outcomes(self) -> list[events.Outcome]:
        """The outcomes since the last call, in the order in which they became known."""
        if not self._outcomes:
            return []
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def forfeit(self, reason: str) -> None:
        """Releases that were not returned in time may not be returned any more."""
        self._outcomes = [
            events.Unknown(
                ticket=outcome.ticket,
                name=outcome.release.name,
                reason=reason,
                outcome="unknown",
            )
            if isinstance(outcome, events.Released)
            else outcome
            for outcome in self._outcomes
        ]

    # --------------------------------------------------------------------------------- time

    def watch(self, at_ns: int) -> None:
        """Some ticket wants to be looked at then."""
        if self._earliest_ns is None or at_ns < self._earliest_ns:
            self._earliest_ns = at_ns

    def next_deadline(self) -> int | None:
        """Not later than the earliest time at which a ticket wants to be looked at."""
        return self._earliest_ns if self._open else None

    def due(self, now_ns: int) -> list[Ticket]:
        """The tickets that want to be looked at now; the caller has to do something about each."""
        if self._earliest_ns is None or now_ns < self._earliest_ns:
            return []
        return [it for it in self._open.values() if it.wake_ns is not None and it.wake_ns <= now_ns]

    def look_again(self) -> None:
        """What was due is dealt with: find the next time."""
        times = (ticket.wake_ns for ticket in self._open.values())
        self._earliest_ns = min((time for time in times if time is not None), default=None)

    # ---------------------------------------------------------------------------- outcomes

    def release(self, ticket: Ticket, parties: tuple[Member, ...]) -> None:
        """Everybody has arrived and all that must be here is here."""
        generation, position = ticket.completed, ticket.position
        assert generation is not None, "the order decides releases"
        assert position is not None, "each of them at a position"
        safe = generation.settings.strength is _SAFE
        release = _RELEASE(
            name=generation.name,
            generation=generation.opened,
            position=position,
            parties=parties,
            payloads=generation.payloads,
            token=position if safe else None,
        )
        self.resolve(ticket, _RELEASED(ticket=ticket.serial, release=release))

    def break_(self, ticket: Ticket, reason: str, missing: Mapping[int, str]) -> None:
        """Broken for every party alike."""
        broken = events.Broken(
            ticket=ticket.serial,
            name=ticket.name,
            generation=ticket.opened,
            reason=reason,
            missing=missing,
        )
        self.resolve(ticket, broken)

    def taken_back(self, ticket: Ticket, missing: Mapping[int, str]) -> None:
        """The outcome of a withdrawal for the one who withdrew."""
        if ticket.cause is not Cause.TIMEOUT:
            self.break_(ticket, f"cancelled by node {self._node}", missing)
            return
        outcome = events.TimedOut(
            ticket=ticket.serial, name=ticket.name, generation=ticket.opened, missing=missing
        )
        self.resolve(ticket, outcome)

    def mismatch(self, ticket: Ticket, ours: str, theirs: str) -> None:
        """The others use other settings."""
        outcome = events.Mismatch(
            ticket=ticket.serial,
            name=ticket.name,
            generation=ticket.opened,
            ours=ours,
            theirs=theirs,
        )
        self.resolve(ticket, outcome)

    def refuse(self, ticket: Ticket, reason: str) -> None:
        """Refused at every member, because a limit is reached."""
        self.resolve(ticket, events.Refused(ticket=ticket.serial, name=ticket.name, reason=reason))

    def unknown(self, ticket: Ticket, reason: str, *, keep: bool = False) -> None:
        """Say that nothing is known; `keep` goes on trying to withdraw the arrival."""
        left_this_node = ticket.taken or ticket.opened is not None
        outcome = events.Unknown(
            ticket=ticket.serial,
            name=ticket.name,
            reason=reason,
            outcome="unknown" if left_this_node else "none",
        )
        if not keep:
            self.resolve(ticket, outcome)
            return
        if not ticket.abandoned:
            self._emit(outcome)
        ticket.abandoned = True
        ticket.grace_ns = None

    def resolve(self, ticket: Ticket, outcome: events.Outcome) -> None:
        """Give a ticket its one outcome, unless nobody wants it."""
        if not ticket.abandoned:
            self._emit(outcome)
        self.forget(ticket)

    def forget(self, ticket: Ticket) -> None:
        """Drop a ticket without a word."""
        ticket.over = True
        del self._open[ticket.serial]
        siblings = self._by_name[ticket.name]
        siblings.remove(ticket)
        if not siblings:
            del self._by_name[ticket.name]

    def _emit(self, outcome: events.Outcome) -> None:
        if type(outcome) is _RELEASED:
            self._released += 1
        else:
            self.stats[type(outcome).__name__.lower()] += 1
        self._outcomes.append(outcome)
