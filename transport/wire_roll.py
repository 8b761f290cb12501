"""The bodies of ROLL frames: what several members say in the same words, written once.

The arrivals at a barrier differ in whose they are and in how far their senders have got. That is a
table of rows; below it stands what all of them say. Layouts are in docs/wire.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from . import wire_data
from .wire_data import Data, Meeting, channel_at

_COUNT: Final = struct.Struct("<B")
_ROW: Final = struct.Struct("<IQQQQ")
_ORIGIN: Final = struct.Struct("<I")
_NUMBERS: Final = struct.Struct("<QQQQ")
_WORDS: Final = struct.Struct("<IIIBBHQ")
_MEETING: Final = struct.Struct("<IBQ")
# Of a DATA body on the ordered lane (`wire_data.py`): what lies between is in the row.
_VIEW_END: Final = 8
_ORIGIN_END: Final = 12
_EPOCH_END: Final = 28
_DONE_END: Final = 60
_LANE: Final = 16
# What is `Final` is found faster than an attribute.
_ROW_BYTES: Final = 36
_WORDS_BYTES: Final = 24
_MEETING_BYTES: Final = 13
assert (_ROW.size, _WORDS.size, _MEETING.size) == (_ROW_BYTES, _WORDS_BYTES, _MEETING_BYTES)
_unpack_row: Final = _ROW.unpack
_unpack_rows: Final = _ROW.iter_unpack
_unpack_words: Final = _WORDS.unpack_from
_unpack_meeting: Final = _MEETING.unpack_from
ROWS_MAX: Final = 255

Row: TypeAlias = tuple[int, int, int, int, int]
"""Origin, sequence, the marks of fifo and bulk, and `done`."""


@dataclass(slots=True, init=False)
class Roll:
    """Batches of several members that differ in their numbers alone."""

    data: Data
    """Of the first of them; its offset is where the batch begins in `frame`."""
    rows: list[Row]
    frame: bytes
    words: int
    """Where that begins in the frame which is not in a row."""

    def __init__(self, data: Data, rows: list[Row], frame: bytes, words: int) -> None:
        self.data = data
        self.rows = rows
        self.frame = frame
        self.words = words

    def body_of(self, row: Row) -> bytes:
        """The DATA body of one of them."""
        frame, view = self.frame, self.words
        middle = view + _VIEW_END
        end = view + _WORDS_BYTES
        origin, numbers = _ORIGIN.pack(row[0]), _NUMBERS.pack(*row[1:])
        return frame[view:middle] + origin + frame[middle:end] + numbers + frame[end:]

    def bodies(self) -> list[bytes]:
        """The DATA bodies of all."""
        return [self.body_of(row) for row in self.rows]


class Words:
    """What one DATA body of a roll has in common with all others."""

    __slots__ = ("_end", "_middle", "_view")

    def __init__(self, frame: bytes, offset: int) -> None:
        """That of the body at `offset` of a frame, which is one of the ordered lane."""
        self._view = frame[offset : offset + _VIEW_END]
        self._middle = frame[offset + _ORIGIN_END : offset + _EPOCH_END]
        self._end = frame[offset + _DONE_END :]

    def part(self, frame: bytes, offset: int) -> bytes | None:
        """The row of the body at `offset` of a frame; None if it says anything else."""
        numbers, end = offset + _EPOCH_END, offset + _DONE_END
        origin = offset + _ORIGIN_END
        if frame[end:] != self._end or frame[origin:numbers] != self._middle:
            return None
        if frame[offset : offset + _VIEW_END] != self._view:
            return None
        return frame[offset + _VIEW_END : origin] + frame[numbers:end]

    @staticmethod
    def row(part: bytes) -> Row:
        """What `part` has given, as numbers."""
        row: Row = _unpack_row(part)
        return row

    def encode(self, parts: Sequence[bytes]) -> bytes:
        """The body of a ROLL frame with these rows."""
        return b"".join((_COUNT.pack(len(parts)), *parts, self._view, self._middle, self._end))


def encode_roll(bodies: Sequence[bytes]) -> bytes | None:
    """The body of a ROLL frame; None if the DATA bodies differ in more than a row."""
    first = bodies[0]
    if len(first) < _DONE_END or first[_LANE] != wire_data.ORDERED_LANE or len(bodies) > ROWS_MAX:
        return None
    words = Words(first, 0)
    parts: list[bytes] = []
    for body in bodies:
        part = words.part(body, 0)
        if part is None:
            return None
        parts.append(part)
    return words.encode(parts)


def roll_of(data: Data, rows: list[Row], body: bytes) -> Roll:
    """What `Words.encode` has made, without decoding it; `data` is that of one of them.

    It is of the roll from now on.
    """
    words = 1 + _ROW_BYTES * len(rows)
    first, tail = rows[0], words + _WORDS_BYTES
    data.origin, data.sequence, data.mark_fifo, data.mark_bulk, data.done = first
    if data.meeting is not None:
        tail += _MEETING_BYTES
    data.offset = tail + len(data.channel.encode())
    return Roll(data, rows, body, words)


def decode_roll(frame: bytes, offset: int) -> Roll | None:
    """The roll at `offset` of a frame; None if it is malformed."""
    size = len(frame)
    if size <= offset:
        return None
    start = offset + 1
    words = start + frame[offset] * _ROW_BYTES
    end = words + _WORDS_BYTES
    if start == words or size < end:
        return None
    era, k, addressee, lane, flags, of_channel, epoch = _unpack_words(frame, words)
    if lane != wire_data.ORDERED_LANE:
        return None
    meeting = None
    if flags & wire_data.MEETING:
        if size < end + _MEETING_BYTES:
            return None
        key, wanted, ranks = _unpack_meeting(frame, end)
        meeting = Meeting(key, wanted, ranks)
        end += _MEETING_BYTES
    channel = channel_at(frame, end, of_channel)
    if channel is None:
        return None
    end += of_channel
    rows: list[Row] = list(_unpack_rows(frame[start:words]))
    origin, sequence, fifo, bulk, done = rows[0]
    data = Data(
        era,
        k,
        origin,
        addressee,
        lane,
        flags,
        epoch,
        sequence,
        fifo,
        bulk,
        channel,
        end,
        done,
        meeting,
    )
    return Roll(data, rows, frame, words)
