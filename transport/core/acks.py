"""What this node has to tell the others of what it holds, and what its applications do not read.

Acknowledgements are gathered for a moment (`Timing.ack_delay_ns`, on the bulk lane
`bulk_ack_delay_ns`), or until a good part of what a sender may have on its way has come, and go to
every member: everybody keeps a batch until all hold it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..config import Limits, Timing
from ..events import Lane, ViewId
from ..wire import Ack, AckEntry
from ..wire_data import StreamKey
from .framing import Framer
from .streams import InStream
from .timers import Timer, TimerTable


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

    def begin(self) -> None:
        """A new view, or everything has been told."""
        self.dirty.clear()
        self._unacked_bytes = self._unacked_bulk_bytes = 0

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
            entries.append(AckEntry(*stream.key, stream.held, stream.taken))
        return self._framer.message(
            Ack(
                view_id=view_id,
                entries=tuple(entries),
                done=done,
                resync=resync,
                frozen=tuple(sorted(int(lane) for lane in self.frozen)),
            )
        )
