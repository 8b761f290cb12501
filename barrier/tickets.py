"""The waits of one node: each gets one ticket, and each ticket exactly one outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from phalanx.transport.events import Lane, Position

from . import events, messages
from .messages import Cause, Parties, Strength
from .table import Completed


@dataclass(slots=True, kw_only=True, eq=False)
class Ticket:
    """One arrival of this node that has no outcome yet."""

    serial: int
    name: str
    parties: Parties
    strength: Strength
    deadline_ns: int | None
    after: Mapping[Lane, int] = field(default_factory=dict[Lane, int])
    """Tokens of this node's own multicasts that are to be numbered before the arrival."""
    taken: bool = False
    """Its entry of this view was handed to the transport, so that it may be ordered."""
    opened: Position | None = None
    """The generation in which it counts, once it was ordered."""
    cause: Cause | None = None
    """Why it is being taken back; None while it is wanted."""
    grace_ns: int | None = None
    """When an undecided withdrawal becomes `Unknown`."""
    abandoned: bool = False
    """Nobody waits for the outcome; kept until its withdrawal is decided."""
    completed: Completed | None = None
    """Released, but not everything that must be delivered first is here."""

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
        self.stats: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Ticket]:
        """In the order of arrival; tickets may be resolved meanwhile."""
        return iter(list(self._open.values()))

    def get(self, serial: int) -> Ticket | None:
        """That ticket, while it has no outcome."""
        return self._open.get(serial)

    def waiting_at(self, name: str) -> Ticket | None:
        """The one wait of that name that somebody still wants."""
        return next((t for t in self._by_name.get(name, ()) if not t.abandoned), None)

    def waiting_in(self, name: str, opened: Position) -> list[Ticket]:
        """The tickets, abandoned ones too, that count in a generation."""
        return [ticket for ticket in self._by_name.get(name, ()) if ticket.opened == opened]

    def add(
        self, name: str, parties: Parties, strength: Strength, deadline_ns: int | None
    ) -> Ticket:
        """A new ticket."""
        self._serial += 1
        ticket = Ticket(
            serial=self._serial,
            name=name,
            parties=parties,
            strength=strength,
            deadline_ns=deadline_ns,
        )
        self._open[ticket.serial] = ticket
        self._by_name.setdefault(name, []).append(ticket)
        self.stats["arrivals"] += 1
        return ticket

    def take_outcomes(self) -> list[events.Outcome]:
        """The outcomes since the last call, in the order in which they became known."""
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

    def next_deadline(self) -> int | None:
        """The earliest time at which a ticket wants to be looked at."""
        times = (ticket.wake_ns for ticket in self._open.values())
        return min((time for time in times if time is not None), default=None)

    # ---------------------------------------------------------------------------- outcomes

    def release(self, ticket: Ticket) -> None:
        """Everybody has arrived and all that must be here is here."""
        assert ticket.completed is not None, "the order decides releases"
        generation = ticket.completed.generation
        release = events.Release(
            name=generation.name,
            generation=generation.opened,
            position=ticket.completed.position,
            parties=tuple(sorted(generation.marks)),
        )
        self.resolve(ticket, events.Released(ticket=ticket.serial, release=release))

    def break_(self, ticket: Ticket, reason: str, missing: dict[int, str]) -> None:
        """Broken for every party alike."""
        broken = events.Broken(
            ticket=ticket.serial,
            name=ticket.name,
            generation=ticket.opened,
            reason=reason,
            missing=missing,
        )
        self.resolve(ticket, broken)

    def taken_back(self, ticket: Ticket, missing: dict[int, str]) -> None:
        """The outcome of a withdrawal for the one who withdrew."""
        if ticket.cause is not Cause.TIMEOUT:
            self.break_(ticket, f"cancelled by node {self._node}", missing)
            return
        outcome = events.TimedOut(
            ticket=ticket.serial, name=ticket.name, generation=ticket.opened, missing=missing
        )
        self.resolve(ticket, outcome)

    def mismatch(self, ticket: Ticket, theirs: str) -> None:
        """Refused, because the others use other settings."""
        ours = messages.settings_in_words(ticket.parties, ticket.strength)
        outcome = events.Mismatch(ticket=ticket.serial, name=ticket.name, ours=ours, theirs=theirs)
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
        del self._open[ticket.serial]
        siblings = self._by_name[ticket.name]
        siblings.remove(ticket)
        if not siblings:
            del self._by_name[ticket.name]

    def _emit(self, outcome: events.Outcome) -> None:
        self.stats[type(outcome).__name__.lower()] += 1
        self._outcomes.append(outcome)
