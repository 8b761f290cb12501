"""Checkers of ordered channels, in the form of `checkers.py`."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from ..events import Member, Position, ViewId
from .checkers import Checker, Complaints, shown
from .evidence import Evidence, History, Stay
from .history import Opened, Read
from .lives import Lives, evidence_of

__all__ = [
    "CHANNELS",
    "CHANNELS_QUIET",
    "all_read",
    "channel_entries",
    "channel_order",
    "channel_state",
    "safe_delivery",
]

_Entry: TypeAlias = tuple[int, bytes]
"""Sender and message."""


class _Segment(NamedTuple):
    """What one application read of one channel from one opening to the next."""

    history: History
    channel: str
    opened: Position | None
    """None: it was opened before this history began."""
    entries: list[tuple[Position, _Entry]]


class _Bound:
    """Which nodes have to agree with the others on what was ordered in which views.

    Those who went on from it, and in the last one those who are there at the end: who is cut off,
    or starts over, may have read what is nobody else's.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._bound: dict[tuple[int, ViewId], bool] = {}
        for history in evidence.histories:
            for stay in history.stays:
                following = history.stay_in[stay.next] if stay.next is not None else None
                over = following is not None and following.installed.started_over
                bound = history.alive if following is None else not over
                self._bound[history.member.node, stay.view] = bound

    def at(self, node: int, position: Position) -> bool:
        """Whether a node has to agree on what is at a position."""
        return self._bound.get((node, ViewId(position.era, position.k)), False)


class _Channels:
    """What all histories tell of the entries of ordered channels, as far as they are bound."""

    def __init__(self, evidence: Evidence) -> None:
        self.bound = _Bound(evidence)
        self.conflicts: list[str] = []
        self.entries: dict[str, dict[Position, _Entry]] = defaultdict(dict)
        """By channel, all that is known to have a place in its order."""
        self.segments = [found for h in evidence.histories for found in self._segments(h)]
        self._raw(evidence)
        for segment in self.segments:
            for position, entry in segment.entries:
                self._note(segment.history.member, segment.channel, position, entry)
        self.places = {name: sorted(entries) for name, entries in self.entries.items()}

    def _note(self, member: Member, channel: str, position: Position, entry: _Entry) -> None:
        known = self.entries[channel].setdefault(position, entry)
        if known != entry:
            self.conflicts.append(
                f"{channel!r} has {shown(entry[1])} at {position} for {member}, and "
                f"{shown(known[1])} for another"
            )

    def _raw(self, evidence: Evidence) -> None:
        """What a simulated node was given, whether or not its application has read it."""
        for history in evidence.histories:
            for got in history.ordered:
                if got.inner or not self.bound.at(history.member.node, Position(*got.view, 1)):
                    continue
                for index, message in enumerate(got.messages, got.first):
                    sending = evidence.sent.get(message)
                    if sending is not None and sending.channel:
                        at = Position(*got.view, index)
                        self._note(history.member, sending.channel, at, (got.sender, message))

    def _segments(self, history: History) -> Iterator[_Segment]:
        node = history.member.node
        current: dict[str, _Segment] = {}
        for _, record in history.channels:
            name = record.channel
            if isinstance(record, Opened):
                if name in current:
                    yield current[name]
                current[name] = _Segment(history, name, record.position, [])
            elif self.bound.at(node, record.first):
                segment = current.setdefault(name, _Segment(history, name, None, []))
                segment.entries.extend(zip(_positions(record), _entries(record), strict=True))
        yield from current.values()

    def between(self, channel: str, after: Position, upto: Position) -> list[Position]:
        """Where the channel is known to have entries, past one position up to another."""
        places = self.places.get(channel, [])
        return places[bisect_right(places, after) : bisect_right(places, upto)]


def _positions(read: Read) -> Iterator[Position]:
    era, k, index = read.first.era, read.first.k, read.first.index
    return (Position(era, k, index + more) for more in range(len(read.messages)))


def _entries(read: Read) -> Iterator[_Entry]:
    return ((read.sender, message) for message in read.messages)


def channel_order(lives: Lives) -> Complaints:
    """6: an entry of a channel has one position, and who reads the channel reads all from where
    it was opened, in that order; where `publish` says that an entry is, it is.
    """
    evidence = evidence_of(lives)
    channels = _Channels(evidence)
    yield from channels.conflicts
    for segment in channels.segments:
        read = [position for position, _ in segment.entries]
        if not read:
            continue
        member, name = segment.history.member, segment.channel
        if any(one >= other for one, other in pairwise(read)):
            yield f"{member} read {name!r} out of order"
        if segment.opened is not None and read[0] <= segment.opened:
            yield f"{member} read {name!r} at {read[0]}, and opened it at {segment.opened}"
        first = segment.opened or read[0]
        lacking = sorted(set(channels.between(name, first, read[-1])) - set(read))
        if lacking:
            sender, message = channels.entries[name][lacking[0]]
            yield f"{member} never read {shown(message)} of {sender} at {lacking[0]} of {name!r}"
    where = {
        message: position
        for entries in channels.entries.values()
        for position, (_, message) in entries.items()
    }
    for history in evidence.histories:
        for placed in history.placed:
            position = where.get(placed.message, placed.position)
            if position != placed.position and channels.bound.at(
                history.member.node, placed.position
            ):
                yield (
                    f"{history.member} was told that {shown(placed.message)} is at "
                    f"{placed.position}; it is at {position}"
                )


def channel_entries(lives: Lives) -> Complaints:
    """1: who reads a channel reads what its sender published there, once; and, as 2 has it, what
    one sender published in the order in which it did.
    """
    evidence = evidence_of(lives)
    for segment in _Channels(evidence).segments:
        member, name = segment.history.member, segment.channel
        seen: set[bytes] = set()
        last: dict[Member, int] = {}
        for position, (sender, message) in segment.entries:
            what = f"{member} read {shown(message)} at {position} of {name!r}"
            sending = evidence.sent.get(message)
            if sending is None or sending.refused:
                yield f"{what}, which nobody published"
                continue
            if (sending.sender.node, sending.channel) != (sender, name):
                yield f"{what} as node {sender}'s; {sending.sender} sent it to {sending.channel!r}"
            if message in seen:
                yield f"{what}, and before"
            if sending.order < last.get(sending.sender, -1):
                yield f"{what} behind what {sending.sender} published later"
            seen.add(message)
            last[sending.sender] = sending.order


def channel_state(lives: Lives) -> Complaints:
    """6: applications whose states come from each other have the same at the same position, and
    nobody begins without state while there is a member that has it.
    """
    evidence = evidence_of(lives)
    bound = _Bound(evidence)
    digests: dict[tuple[str, bytes, Position], tuple[Member, bytes]] = {}
    for history in evidence.histories:
        for _, record in history.channels:
            if not isinstance(record, Read) or not record.digest:
                continue
            if not bound.at(history.member.node, record.first):
                continue
            key = record.channel, record.line, record.first
            other, digest = digests.setdefault(key, (history.member, record.digest))
            if digest != record.digest:
                yield (
                    f"{history.member} and {other} have different states of {record.channel!r} "
                    f"behind {record.first}"
                )
    for history in evidence.histories:
        for stay, record in history.channels:
            if isinstance(record, Opened) and record.alone and stay >= 0:
                yield from _ignored(evidence, history, history.stays[stay], record)


def _ignored(evidence: Evidence, history: History, stay: Stay, opened: Opened) -> Complaints:
    """Who had the state that somebody began without."""
    asked_in = ViewId(opened.position.era, opened.position.k)
    if asked_in not in history.stay_in:
        return  # It was opened in an earlier life, and read on in this one.
    for other in evidence.histories:
        if other is history or not {asked_in, stay.view} <= other.stay_in.keys():
            continue
        since = max((s.view for s in other.stays if s.installed.started_over), default=None)
        for _, record in other.channels:
            if isinstance(record, Opened) and record.channel == opened.channel and record.line:
                view = ViewId(record.position.era, record.position.k)
                if view not in other.stay_in:
                    continue  # What an earlier life had has ended with it, also if read only now.
                if record.position < opened.position and (since is None or view >= since):
                    yield (
                        f"{history.member} began {opened.channel!r} at {opened.position} without "
                        f"the state that {other.member} has from {record.position} on"
                    )
                    break


def safe_delivery(lives: Lives) -> Complaints:
    """7: what asked for it is delivered only when every member of the view holds it, so that
    whoever goes on from there has it.
    """
    evidence = evidence_of(lives)
    read: dict[bytes, tuple[Member, ViewId]] = {}
    for history in evidence.histories:
        for unheld in history.unheld:
            yield (
                f"{history.member} was given {shown(unheld.message)}, which "
                f"{', '.join(map(str, unheld.members))} did not hold"
            )
        for _, record in history.channels:
            if isinstance(record, Read):
                view = ViewId(record.first.era, record.first.k)
                read.update((message, (history.member, view)) for message in record.messages)
    for message, (reader, view) in read.items():
        sending = evidence.sent.get(message)
        if sending is None or not sending.safe:
            continue
        for history in evidence.histories:
            stay = history.stay_in.get(view)
            went_on = stay is not None and stay.next is not None
            if went_on and history.ordered and message not in history.delivered:
                following = history.stay_in[stay.next] if stay is not None and stay.next else None
                if following is not None and not following.installed.started_over:
                    yield f"{history.member} went on without {shown(message)}, safe for {reader}"


def all_read(lives: Lives) -> Complaints:
    """6, at the end of a quiet run: every channel that is open is read to its end."""
    evidence = evidence_of(lives)
    channels = _Channels(evidence)
    last = {(s.history.member, s.channel): s for s in channels.segments}
    for (member, name), segment in last.items():
        if not segment.history.alive:
            continue
        upto = segment.entries[-1][0] if segment.entries else segment.opened
        ours = segment.history.stay_in
        for place in channels.places.get(name, []):
            if upto is not None and place > upto and ViewId(place.era, place.k) in ours:
                _, message = channels.entries[name][place]
                yield f"{member} has not read {shown(message)} at {place} of {name!r}"
                break


CHANNELS: tuple[Checker, ...] = (channel_entries, channel_order, channel_state, safe_delivery)
"""What holds at every moment of every run in which ordered channels are used."""

CHANNELS_QUIET: tuple[Checker, ...] = (all_read,)
"""What holds as well once faults and traffic have stopped for long enough."""
