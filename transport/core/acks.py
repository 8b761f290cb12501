"""What this node has to tell the others of what it holds, and what its applications do not read.

Acknowledgements are gathered for a moment (`Timing.ack_delay_ns`, on the bulk lane
`bulk_ack_delay_ns`), or until a good part of what a sender may have on its way has come, and go to
every member: everybody keeps a batch until all hold it. Those of the bulk lane go to its senders
first, by datagrams, which cost less and stand behind nothing that was lost; a little later
associations tell everybody, for datagrams may be lost themselves. Those of the ordered lane are
left to the ENDs while these follow each other: each says up to where its sender has everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Final

from ..config import Limits, Timing
from ..events import Lane, ViewId
from ..wire import Ack, AckEntry
from ..wire_data import StreamKey
from .framing import Framer
from .streams import InStream
from .timers import Timer, TimerTable

PUT_OFF_DELAYS: Final = 2
"""Associations tell after so many times the delay of the bulk lane what datagrams told before."""


class Acks:
    """The streams of one view that have moved since they were last acknowledged."""

    def __init__(
        self, *, limits: Limits, timing: Timing, framer: Framer, timers: TimerTable
    ) -> None:
        self._most_bytes = limits.window_bytes // 4
        self._bulk_most_bytes = limits.bulk_in_flight_bytes // 2
        self._delay_ns = timing.ack_delay_ns
        self._bulk_delay_ns = timing.bulk_ack_delay_ns
        self._framer = framer
        self._timers = timers
        self.dirty: set[StreamKey] = set()
        self.frozen: set[Lane] = set()
        """Lanes whose reader does not read: they are granted no window."""
        self._unacked_bytes = self._unacked_bulk_bytes = 0
        self._owed: set[StreamKey] = set()
        """What only datagrams have told, which may be lost."""
        self._owed_since_ns = 0
        self._lanes_changed = False
        """A reader has stopped, or reads again, and nobody was told so."""
        self._hurried = False
        """Somebody waits for it."""

    def begin(self) -> None:
        """A new view, or everything has been told."""
        self.dirty.clear()
        self._owed.clear()
        self._lanes_changed = self._hurried = False
        self._unacked_bytes = self._unacked_bulk_bytes = 0

    @property
    def due(self) -> bool:
        """Something is to be told over associations, soon or now."""
        return bool(self.dirty or self._owed)

    def hurry(self, now_ns: int) -> None:
        """A sender waits to be told."""
        self._hurried = True
        self._timers.arm_earlier(Timer.ACK, "", now_ns)

    def wait_for_ends(self, untold_since_ns: int, now_ns: int) -> bool:
        """Whether what has come is left to the next END, which tells it as well and goes anyway.

        So it is on the ordered lane while one epoch follows the other, and while senders have room.
        """
        due_ns = untold_since_ns + self._delay_ns
        if now_ns >= due_ns or self._hurried or self._lanes_changed or self._owed:
            return False
        if not self.dirty or self._unacked_bytes > self._most_bytes:
            return False
        if any(key.lane != Lane.ORDERED or key.addressee for key in self.dirty):
            return False
        self._timers.arm_earlier(Timer.ACK, "", due_ns)
        return True

    def take(self) -> tuple[list[StreamKey], dict[int, list[StreamKey]]]:
        """What is to be told now: of multicasts, and to each member of what it sent here alone."""
        dirty = sorted(self.dirty | self._owed)
        directed: dict[int, list[StreamKey]] = {}
        for key in dirty:
            if key.addressee:
                directed.setdefault(key.origin, []).append(key)
        self.begin()
        return [key for key in dirty if not key.addressee], directed

    def put_off(self, reached: Set[int], now_ns: int) -> list[StreamKey] | None:
        """What datagrams tell now and associations later; None if these are to tell all now.

        Only what came on the bulk lane can be put off, of members that datagrams reach, and not
        for long.
        """
        if self._lanes_changed:
            return None
        for key in self.dirty:
            if key.lane != Lane.BULK or key.origin not in reached:
                return None
        if not self._owed:
            if not self.dirty:
                return None
            self._owed_since_ns = now_ns
        due_ns = self._owed_since_ns + PUT_OFF_DELAYS * self._bulk_delay_ns
        self._owed |= self.dirty
        if now_ns >= due_ns:
            self.dirty |= self._owed
            return None
        keys = sorted(self.dirty)
        self.dirty.clear()
        self._hurried = False
        self._unacked_bulk_bytes = 0
        self._timers.arm_earlier(Timer.ACK, "", due_ns)
        return keys

    def note(self, key: StreamKey, size: int, now_ns: int) -> None:
        """So many bytes of a stream have come."""
        self.dirty.add(key)
        if key.lane == Lane.BULK:
            self._unacked_bulk_bytes += size
            much = self._unacked_bulk_bytes > self._bulk_most_bytes
            delay_ns = self._bulk_delay_ns
        else:
            self._unacked_bytes += size
            much = self._unacked_bytes > self._most_bytes
            delay_ns = self._delay_ns
        self._timers.arm_earlier(Timer.ACK, "", now_ns if much else now_ns + delay_ns)

    def freeze(
        self, lane: Lane, *, frozen: bool, streams: Iterable[StreamKey], now_ns: int
    ) -> None:
        """A reader has stopped, or reads again: its senders are told at once."""
        if frozen is (lane in self.frozen):
            return
        self._lanes_changed = True
        (self.frozen.add if frozen else self.frozen.discard)(lane)
        self.dirty.update(key for key in streams if key.lane == lane)
        self._timers.arm_earlier(Timer.ACK, "", now_ns)

    def frame(
        self, view_id: ViewId, streams: Iterable[InStream], done: int, *, resync: bool = False
    ) -> bytes:
        """An acknowledgement of these streams; `done` is the last epoch that is complete here."""
        entries: list[AckEntry] = []
        for stream in streams:
            if stream.key.lane not in self.frozen:
                stream.taken = stream.held
            entries.append(AckEntry(*stream.key, stream.held, stream.taken, len(stream.early)))
        return self._framer.message(
            Ack(
                view_id=view_id,
                entries=tuple(entries),
                done=done,
                resync=resync,
                frozen=tuple(sorted(int(lane) for lane in self.frozen)),
            )
        )
