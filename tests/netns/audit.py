"""Checks every message that one worker receives: nothing lost, twice, out of order or stale.

Senders number their messages from 1 in each incarnation, apart for multicasts and for what is
directed to each member. A receiver that stays in the view with a sender must see exactly the next
number each time; one that has just joined starts wherever the sender is.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

_HEADER = struct.Struct("<IQQ")
TIMES_KEPT = 1 << 14
"""Deliveries of each sender whose times are remembered; older ones make room."""


class Times:
    """A ring of the last points of time; all its memory is taken at the start."""

    def __init__(self) -> None:
        self._ring = array("q", bytes(8 * TIMES_KEPT))
        self._count = 0

    def add(self, at_ns: int) -> None:
        """The next one."""
        self._ring[self._count % TIMES_KEPT] = at_ns
        self._count += 1

    def clear(self) -> None:
        """Forget all."""
        self._count = 0

    def __iter__(self) -> Iterator[int]:
        """Oldest first."""
        for place in range(max(0, self._count - TIMES_KEPT), self._count):
            yield self._ring[place % TIMES_KEPT]

    @property
    def last(self) -> int:
        """The latest, or 0."""
        return self._ring[(self._count - 1) % TIMES_KEPT] if self._count else 0


def make_message(node: int, incarnation: int, number: int, size: int) -> bytes:
    """A message of `size` bytes that `Audit.take` can check."""
    header = _HEADER.pack(node, incarnation, number)
    return header + bytes([number & 0xFF]) * (size - len(header))


def stream_key(sender: int, incarnation: int, *, directed: bool) -> str:
    """The name of one stream of numbers in reports."""
    return f"{sender}.{incarnation}{'>' if directed else ''}"


@dataclass(slots=True)
class _Numbers:
    first: int
    last: int
    count: int = 0
    missing: set[int] = field(default_factory=set[int])


class Audit:
    """The checks of one receiver."""

    def __init__(self, node: int) -> None:
        self._node = node
        self._numbers: dict[tuple[int, int, bool], _Numbers] = {}
        self._members: Mapping[int, int] = {}
        self._times: dict[tuple[int, bool], Times] = {}
        self.lost = 0
        self.duplicated = 0
        self.reordered = 0
        self.stale = 0
        """Messages of an incarnation of their sender that is not in the view."""

    def installed(self, members: Mapping[int, int], joined: Iterable[int]) -> None:
        """A view: incarnation by node id, and who was not in the view before."""
        came = set(joined)
        for node in members if self._node in came else came:
            for key in [key for key in self._numbers if key[0] == node]:
                del self._numbers[key]
            # Silence before somebody was a member is no gap.
            for directed in (False, True):
                if (node, directed) in self._times:
                    self._times[node, directed].clear()
        if self._node not in came:
            # Whoever was here first sees a newcomer's very first message.
            for node in came:
                for directed in (False, True):
                    self._numbers[node, members[node], directed] = _Numbers(1, 0)
        self._members = dict(members)

    def take(self, sender: int, payloads: Iterable[bytes], *, directed: bool, at_ns: int) -> None:
        """Check consecutive messages of one sender."""
        times = self._times.get((sender, directed))
        if times is None:
            times = self._times[sender, directed] = Times()
        times.add(at_ns)
        for payload in payloads:
            node, incarnation, number = _HEADER.unpack_from(payload)
            if node != sender or payload != make_message(node, incarnation, number, len(payload)):
                self.lost += 1
            elif self._members.get(sender) != incarnation:
                self.stale += 1
            else:
                self._check((sender, incarnation, directed), number)

    def _check(self, key: tuple[int, int, bool], number: int) -> None:
        numbers = self._numbers.get(key)
        if numbers is None:
            numbers = self._numbers[key] = _Numbers(number, number - 1)
        numbers.count += 1
        if number == numbers.last + 1:
            numbers.last = number
        elif number > numbers.last:
            self.lost += number - numbers.last - 1
            numbers.missing.update(range(numbers.last + 1, number))
            numbers.last = number
        elif number in numbers.missing:
            numbers.missing.discard(number)
            self.lost -= 1
            self.reordered += 1
        else:
            self.duplicated += 1

    # ------------------------------------------------------------------------------- queries

    def last(self, sender: int, *, directed: bool) -> int:
        """Number of the last message delivered of the sender's current incarnation."""
        numbers = self._numbers.get((sender, self._members.get(sender, 0), directed))
        return numbers.last if numbers else 0

    def marks(self) -> dict[str, int]:
        """The last number of each multicast stream."""
        return {
            stream_key(sender, incarnation, directed=False): numbers.last
            for (sender, incarnation, directed), numbers in self._numbers.items()
            if not directed
        }

    def streams(self) -> dict[str, tuple[int, int, int]]:
        """First number, last number and count of each stream of numbers."""
        return {
            stream_key(sender, incarnation, directed=directed): (n.first, n.last, n.count)
            for (sender, incarnation, directed), n in self._numbers.items()
        }

    def gap_ns(self, sender: int, *, directed: bool, from_ns: int, to_ns: int) -> int:
        """The longest time between two deliveries of a sender that touches the span.

        A silence that has not ended at `to_ns` counts as far as it goes.
        """
        longest, before = 0, from_ns
        for at_ns in self._times.get((sender, directed), ()):
            if at_ns > to_ns:
                break
            if at_ns > from_ns:
                longest = max(longest, at_ns - before)
            before = at_ns
        return max(longest, to_ns - max(before, from_ns))

    def last_ns(self, sender: int) -> int:
        """When something was last delivered of a sender's multicasts."""
        times = self._times.get((sender, False))
        return times.last if times else 0
