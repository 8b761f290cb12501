"""Messages that are numbered, each unique over a run, and a receiver's running count of them.

Each sender numbers its multicasts from 1 in each of its incarnations. A receiver that stays in the
view with a sender must see exactly the next number each time; one that has just joined starts
wherever the sender is. This is what can be said while a run goes on; the checkers judge its
histories.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

_HEADER = struct.Struct("<IQIQ")
MESSAGE_BYTES_MIN = _HEADER.size
GAPS_KEPT = 100_000
"""Missing numbers that are remembered, to tell a late message from a second copy."""


class Number(NamedTuple):
    """What a message says of itself."""

    node: int
    incarnation: int
    to: int
    """The addressee, or 0: each has a stream of numbers of its own."""
    number: int


def make_message(node: int, incarnation: int, number: int, size: int, *, to: int = 0) -> bytes:
    """A message of `size` bytes that can be counted by `Tally.take`."""
    return _HEADER.pack(node, incarnation, to, number) + _filler(node, size)


def number_of(payload: bytes) -> Number | None:
    """What a message says of itself; None if it is damaged."""
    if len(payload) < _HEADER.size:
        return None
    found = Number(*_HEADER.unpack_from(payload))
    return found if payload[_HEADER.size :] == _filler(found.node, len(payload)) else None


def _filler(node: int, size: int) -> bytes:
    return bytes([node & 0xFF]) * (size - _HEADER.size)


@dataclass(slots=True)
class _Stream:
    """One start of one sender, as seen by this receiver."""

    first: int
    next: int
    count: int = 0
    missing: set[int] = field(default_factory=set[int])


class Received(msgspec.Struct, array_like=True, frozen=True):
    """What one receiver has of one start of one sender, so far."""

    sender: int
    incarnation: int
    first: int
    """The number of the first message; above 1 if the receiver joined later."""
    last: int
    count: int


class Tally:
    """The count of one receiver."""

    def __init__(self, node: int) -> None:
        self._node = node
        self._streams: dict[tuple[int, int], _Stream] = {}
        self._expected: dict[int, int] = {}
        """The incarnation of each member of the view."""
        self.duplicated = 0
        self.reordered = 0
        self._lost = 0

    @property
    def lost(self) -> int:
        """Numbers that were skipped and never came, and damaged messages."""
        return self._lost

    def installed(self, members: Mapping[int, int], joined: Collection[int]) -> None:
        """A view: incarnation by node id, and who was not in the view before."""
        anew = self._node in joined
        for node, incarnation in members.items():
            if anew:
                # Where a sender is by now is not known to one who has just come.
                self._streams.pop((node, incarnation), None)
            elif node in joined:
                self._streams[node, incarnation] = _Stream(first=1, next=1)
        self._expected = dict(members)

    def take(self, sender: int, payloads: Iterable[bytes]) -> int:
        """Check consecutive messages of one sender; returns how many there were."""
        count = 0
        for payload in payloads:
            count += 1
            said = number_of(payload)
            if said is None or said.node != sender:
                self._lost += 1
            elif said.incarnation != self._expected.get(sender):
                # It belongs to a life of the sender that is over, or has not begun in this view.
                self.reordered += 1
            else:
                self._check(sender, said.incarnation, said.number)
        return count

    def _check(self, sender: int, incarnation: int, number: int) -> None:
        stream = self._streams.get((sender, incarnation))
        if stream is None:
            stream = self._streams[sender, incarnation] = _Stream(first=number, next=number)
        stream.count += 1
        if number == stream.next:
            stream.next += 1
        elif number > stream.next:
            self._lost += number - stream.next
            if len(stream.missing) < GAPS_KEPT:
                stream.missing.update(range(stream.next, number))
            stream.next = number + 1
        elif number in stream.missing:
            stream.missing.discard(number)
            self._lost -= 1
            self.reordered += 1
        else:
            self.duplicated += 1

    def streams(self) -> list[Received]:
        """What was received so far."""
        return [
            Received(
                sender=sender,
                incarnation=incarnation,
                first=stream.first,
                last=stream.next - 1,
                count=stream.count,
            )
            for (sender, incarnation), stream in self._streams.items()
        ]
