"""Checks every message of the demo: nothing lost, nothing twice, nothing out of order.

Each sender numbers its messages from 1 in each of its incarnations. A receiver that stays in the
view with a sender must see exactly the next number each time; one that has just joined starts
wherever the sender is.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from .demo_reports import Stream

_HEADER = struct.Struct("<IQQ")
MESSAGE_BYTES_MIN = _HEADER.size
GAPS_KEPT = 100_000
"""Missing numbers that are remembered, to tell a late message from a second copy."""


def make_message(node: int, incarnation: int, number: int, size: int) -> bytes:
    """A message of `size` bytes that can be checked by `Audit.take`."""
    return _HEADER.pack(node, incarnation, number) + _filler(node, size)


def _filler(node: int, size: int) -> bytes:
    return bytes([node & 0xFF]) * (size - _HEADER.size)


@dataclass(slots=True)
class _Stream:
    """One start of one sender, as seen by this receiver."""

    first: int
    next: int
    count: int = 0
    missing: set[int] = field(default_factory=set[int])


class Audit:
    """The checks of one receiver."""

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
            node, incarnation, number = _HEADER.unpack_from(payload)
            if node != sender or payload[_HEADER.size :] != _filler(node, len(payload)):
                self._lost += 1
            elif incarnation != self._expected.get(sender):
                # It belongs to a life of the sender that is over, or has not begun in this view.
                self.reordered += 1
            else:
                self._check(sender, incarnation, number)
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

    def streams(self) -> list[Stream]:
        """What was received so far."""
        return [
            Stream(
                sender=sender,
                incarnation=incarnation,
                first=stream.first,
                last=stream.next - 1,
                count=stream.count,
            )
            for (sender, incarnation), stream in self._streams.items()
        ]
