"""One table of deadlines for the whole core, in the form of quinn-proto's timer table.

Setting a timer replaces it; a timer fires once. `next_deadline` is free of side effects, and
waking early or twice is harmless.
"""

from __future__ import annotations

import enum
from typing import TypeAlias


class Timer(enum.IntEnum):
    """Every reason for which the core may ask to be woken."""

    PROBE = enum.auto()  # the heartbeat interval is over: probe every peer on every rail
    LIVENESS = enum.auto()  # a path or a peer may have been silent for too long
    RECONNECT = enum.auto()  # a peer without association: dial again
    HELLO = enum.auto()  # an association on which no HELLO has come
    LIFELINE = enum.auto()  # a rail without lifeline: connect again
    ACK = enum.auto()  # acknowledgements were held back for more batches
    ROW = enum.auto()  # say again what is known of the surroundings
    HOLD_DOWN = enum.auto()  # a set of reachable nodes has held long enough
    PHASE = enum.auto()  # a phase of a view change has made no progress
    GRANTS = enum.auto()  # the last grants to those left out have run out
    LEASE = enum.auto()  # the own lease may have run out
    VOTE = enum.auto()  # the first lease after a restart is over: may vote
    LEAVE = enum.auto()  # the deadline of leaving in good order
    STALL = enum.auto()  # something is outstanding: does it move?
    STATE = enum.auto()  # the state of the view is awaited, and nothing of it has come
    RECAST = enum.auto()  # a datagram may have been lost: send it over the association
    LAZY = enum.auto()  # an epoch is open only because something of ours was expected
    STABLE = enum.auto()  # an epoch is complete here, and nobody has said that it is elsewhere
    SLOW = enum.auto()  # a member may have held the others up for too long
    REPAIR = enum.auto()  # a multicast frame is missing, is asked for, or nothing has followed it
    LINK = enum.auto()  # an association over datagrams has something to say
    RESYNC = enum.auto()  # a gap was seen: ask again if it is still there

    __hash__ = int.__hash__  # see `Lane`


Key: TypeAlias = tuple[Timer, int | str]


class TimerTable:
    """Deadlines by reason and subject (a node id, a link, "" where there is only one)."""

    def __init__(self) -> None:
        self._deadlines: dict[Key, int] = {}
        self._earliest: int | None = None
        """The earliest of them; None if it has to be looked for."""

    def arm(self, timer: Timer, subject: int | str, at_ns: int) -> None:
        """Set or move a deadline."""
        key = (timer, subject)
        before = self._deadlines.get(key)
        if before == at_ns:
            return
        if self._earliest is not None:
            if at_ns <= self._earliest:
                self._earliest = at_ns
            elif before == self._earliest:
                self._earliest = None
        self._deadlines[key] = at_ns

    def arm_earlier(self, timer: Timer, subject: int | str, at_ns: int) -> None:
        """Set a deadline unless an earlier one is set already."""
        current = self._deadlines.get((timer, subject))
        if current is None or at_ns < current:
            self.arm(timer, subject, at_ns)

    def stop(self, timer: Timer, subject: int | str = "") -> None:
        """Forget a deadline; harmless if there is none."""
        if self._deadlines.pop((timer, subject), None) == self._earliest:
            self._earliest = None

    def armed(self, timer: Timer, subject: int | str = "") -> bool:
        """Whether a deadline is set."""
        return (timer, subject) in self._deadlines

    def next_deadline(self) -> int | None:
        """The earliest deadline, in monotonic nanoseconds."""
        if self._earliest is None:
            self._earliest = min(self._deadlines.values(), default=None)
        return self._earliest

    def expire(self, now_ns: int) -> list[Key]:
        """Take out everything that is due, in the order of the deadlines."""
        earliest = self.next_deadline()
        if earliest is None or earliest > now_ns:
            return []
        self._earliest = None
        due = [(at, key) for key, at in self._deadlines.items() if at <= now_ns]
        # Ties are broken by reason and subject so that a run can be repeated exactly.
        due.sort(key=lambda item: (item[0], item[1][0].value, str(item[1][1])))
        for _, key in due:
            del self._deadlines[key]
        return [key for _, key in due]
