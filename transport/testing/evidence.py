"""Histories read once, so that each checker finds what it asks for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ..events import Lane, Member, ViewId
from .history import (
    Accepted,
    Answered,
    AnyRecord,
    Arrived,
    Asked,
    Began,
    Ended,
    Expelled,
    Got,
    Installed,
    Leased,
    Left,
    LostPrimary,
    Missed,
    Opened,
    PathSeen,
    Placed,
    Read,
    Refused,
    RegainedPrimary,
    Returned,
    Sent,
    Stood,
    Told,
    Unheld,
)

FOR_EVER_NS = 1 << 62
NEVER = 1 << 62
"""A place that no history reaches."""
LEASE_NS = 400_000_000
"""Where a history does not say how long a lease is."""


@dataclass(slots=True)
class Sending:
    """One message, as its sender knows it."""

    sender: Member
    order: int
    """Among all messages of its sender."""
    message: bytes
    lane: Lane
    to: int
    number: int
    place: int
    """Where the call was made."""
    accepted: int
    """Where it had returned; `NEVER` if that is not known."""
    stay: int
    """In which of its views the sender was then; -1 before the first."""
    refused: bool = False
    channel: str = ""
    safe: bool = False
    receipt: bool = True


class Waiting(NamedTuple):
    """A call with a deadline."""

    what: str
    at_ns: int
    deadline_ns: int | None
    ended_ns: int | None
    barrier: bool = False


@dataclass(slots=True)
class Stay:
    """The time of one incarnation in one view: what it was told there."""

    installed: Installed
    place: int
    got: list[tuple[int, Got]] = field(default_factory=list[tuple[int, Got]])
    """What applications sent, with its places."""
    told: list[Told] = field(default_factory=list[Told])
    next: ViewId | None = None
    """The view that it went on to."""

    @property
    def view(self) -> ViewId:
        """Which view."""
        return self.installed.view

    @property
    def members(self) -> tuple[Member, ...]:
        """Of the view."""
        return self.installed.members

    def incarnation_of(self, node: int) -> Member | None:
        """Which incarnation of a node is a member of the view."""
        return next((member for member in self.members if member.node == node), None)


class History:
    """One incarnation's records, sorted by what they are about."""

    def __init__(self, records: Sequence[AnyRecord]) -> None:
        began = records[0]
        assert isinstance(began, Began), "a history begins with `Began`"
        self.records = records
        self.member = Member(began.node, began.incarnation)
        self.clock = began.clock
        self.lease_ns = began.lease_ns or LEASE_NS
        self.rails = began.rails
        self.founding = began.founding
        self.stays: list[Stay] = []
        self.sent: list[Sending] = []
        self.ordered: list[Got] = []
        """The agreed order as it came, layers' entries included."""
        self.out_of_place: list[Got] = []
        """Delivered before the first view."""
        self.statements: list[int] = []
        """When it was told that it is, or is not, in a view that acts."""
        self.leased: list[Leased] = []
        self.stood: list[Stood] = []
        self.paths: list[tuple[int, PathSeen]] = []
        self.arrivals: dict[int, tuple[int, Arrived]] = {}
        self.returns: dict[int, tuple[int, Returned]] = {}
        self.calls: dict[int, Waiting] = {}
        self.channels: list[tuple[int, Opened | Read]] = []
        """What was read of ordered channels, each with which of its stays that was in."""
        self.placed: list[Placed] = []
        self.unheld: list[Unheld] = []
        self.over: int | None = None
        """Where it was told of its end, if the cluster ended it or it left."""
        self.after_over: list[AnyRecord] = []
        self.detached = False
        """It was told at last that it has no majority."""
        self.left_ns: int | None = None
        """When it had left in good order."""
        self.ended_ns: int | None = None
        self.missed = 0
        self.last_ns = began.at_ns
        self._read(records)

    def _read(self, records: Sequence[AnyRecord]) -> None:
        calls: dict[int, list[Sending]] = {}
        for place, record in enumerate(records):
            match record:
                case Got():
                    self._got(place, record)
                case Sent():
                    self._sent(place, record, calls)
                case Accepted():
                    for sending in calls.get(record.number, ()):
                        sending.accepted = place
                    self._answered(-record.number, record.at_ns)
                case Refused():
                    for sending in calls.get(record.number, ()):
                        sending.refused = not record.perhaps
                    self._answered(-record.number, record.at_ns)
                case Told():
                    if self.stays:
                        self.stays[-1].told.append(record)
                case Arrived():
                    self.arrivals[record.ticket] = (place, record)
                case Returned():
                    self.returns[record.ticket] = (place, record)
                case Opened() | Read():
                    self.channels.append((len(self.stays) - 1, record))
                case Placed():
                    self.placed.append(record)
                case Unheld():
                    self.unheld.append(record)
                case Leased():
                    self.leased.append(record)
                case Stood():
                    self.stood.append(record)
                case Asked():
                    what, deadline_ns = record.what, record.deadline_ns
                    self.calls[record.call] = Waiting(what, record.at_ns, deadline_ns, None)
                case Answered():
                    self._answered(record.call, record.at_ns)
                case _:
                    self._told(place, record)
            # What is known of leases and stops is not written when it is, but when it is over.
            if self.over is not None and place > self.over and isinstance(record, _MESSAGES):
                self.after_over.append(record)
        self.last_ns = max((r.at_ns for r in records if r.at_ns < FOR_EVER_NS), default=0)

    def _got(self, place: int, got: Got) -> None:
        if got.first:
            self.ordered.append(got)
        if got.inner:
            return
        if self.stays:
            self.stays[-1].got.append((place, got))
        else:
            self.out_of_place.append(got)

    def _sent(self, place: int, sent: Sent, calls: dict[int, list[Sending]]) -> None:
        accepted = place if sent.accepted else NEVER
        made = [
            Sending(
                self.member,
                len(self.sent) + more,
                message,
                sent.lane,
                sent.to,
                sent.number,
                place,
                accepted,
                len(self.stays) - 1,
                channel=sent.channel,
                safe=sent.safe,
                receipt=sent.receipt,
            )
            for more, message in enumerate(sent.messages)
        ]
        self.sent += made
        if not sent.accepted:
            calls[sent.number] = made
            if sent.deadline_ns is not None:
                self.calls[-sent.number] = Waiting("a send", sent.at_ns, sent.deadline_ns, None)

    def _answered(self, call: int, at_ns: int) -> None:
        waiting = self.calls.get(call)
        if waiting is not None:
            self.calls[call] = waiting._replace(ended_ns=at_ns)

    def _told(self, place: int, record: AnyRecord) -> None:
        match record:
            case Installed():
                if self.stays:
                    self.stays[-1].next = record.view
                self.stays.append(Stay(record, place))
                self.detached = False
                self.statements.append(record.at_ns)
            case LostPrimary():
                self.statements.append(record.at_ns)
                self.detached = True
            case RegainedPrimary():
                self.detached = False
            case Expelled() | Left():
                if isinstance(record, Left):
                    self.left_ns = record.at_ns
                self.statements.append(record.at_ns)
                self.over = place if self.over is None else self.over
            case PathSeen():
                self.paths.append((place, record))
            case Ended():
                self.ended_ns = record.at_ns
            case Missed():
                self.missed += 1
            case _:
                pass

    # ------------------------------------------------------------------------------- answers

    @property
    def alive(self) -> bool:
        """Whether it was a member to the end of its history."""
        return self.ended_ns is None and self.over is None

    def binds(self, place: int) -> bool:
        """Whether this member went on from there, so that it must agree with others that did."""
        return place < self.stays[-1].place or self.alive

    def longest_gap_ns(self, sender: int, from_ns: int, to_ns: int, *, directed: bool) -> int:
        """The longest time between two deliveries of a sender's stream that touches a span.

        A silence that has not ended at `to_ns` counts as far as it goes; one before the sender
        was a member does not.
        """
        longest, before = 0, from_ns
        for place, stay in enumerate(self.stays):
            earlier = self.stays[place - 1].members if place else ()
            if stay.incarnation_of(sender) not in earlier:
                before = max(from_ns, stay.installed.at_ns)
            for _, got in stay.got:
                if got.sender != sender or got.directed is not directed:
                    continue
                if got.at_ns > to_ns:
                    return max(longest, to_ns - max(before, from_ns))
                if got.at_ns > from_ns:
                    longest = max(longest, got.at_ns - before)
                before = got.at_ns
        return max(longest, to_ns - max(before, from_ns))

    def stood_or_ended(self, at_ns: int) -> bool:
        """Whether its process stood still or was gone at a time, or somewhat before."""
        gone = self.ended_ns is not None and self.ended_ns <= at_ns
        return gone or self.last_ns < at_ns or self.stood_still_ns(at_ns - LEASE_NS, at_ns) > 0

    @cached_property
    def stay_in(self) -> dict[ViewId, Stay]:
        """Its stay in each view."""
        return {stay.view: stay for stay in self.stays}

    @cached_property
    def delivered(self) -> dict[bytes, tuple[int, ViewId]]:
        """Each message that it was given, with its place and the view that it says it is of."""
        return {
            message: (place, stay.view)
            for stay in self.stays
            for place, got in stay.got
            for message in got.messages
        }

    @cached_property
    def silences(self) -> list[tuple[int, int]]:
        """From when to when it is known that it might not act.

        It stopped to act between two looks, and may have said so there.
        """
        acted = sorted(lease.at_ns for lease in self.leased if lease.view is not None)
        found: list[tuple[int, int]] = []
        for lease in self.leased:
            if lease.view is None:
                place = bisect_right(acted, lease.since_ns)
                found.append((acted[place - 1] if place else lease.since_ns, lease.at_ns))
        return found

    def stood_still_ns(self, from_ns: int, to_ns: int) -> int:
        """For how much of a span the process stood still."""
        return sum(
            max(0, min(stood.at_ns, to_ns) - max(stood.since_ns, from_ns)) for stood in self.stood
        )


_MESSAGES = (Got, Installed, Told)


class Evidence:
    """All histories of one run."""

    def __init__(self, histories: Iterable[History], *, end_ns: int | None = None) -> None:
        self.everybody = tuple(histories)
        self.histories = tuple(history for history in self.everybody if history.stays)
        """Of those that ever took part; a node without record may take a number used before."""
        self.end_ns = (
            max((h.last_ns for h in self.everybody), default=0) if end_ns is None else end_ns
        )
        self.by_member = {history.member: history for history in self.histories}

    @property
    def one_clock(self) -> bool:
        """Whether times of different nodes may be compared."""
        return len({history.clock for history in self.histories}) <= 1

    @cached_property
    def sent(self) -> dict[bytes, Sending]:
        """Every message by its name."""
        found: dict[bytes, Sending] = {}
        for history in self.everybody:
            for sending in history.sent:
                if not sending.refused or sending.message not in found:
                    found[sending.message] = sending
        return found
