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
from .wire_data import Data, decode_data

_COUNT: Final = struct.Struct("<B")
_ROW: Final = struct.Struct("<IQQQQ")
_ORIGIN: Final = struct.Struct("<I")
_NUMBERS: Final = struct.Struct("<QQQQ")
# Of a DATA body on the ordered lane (`wire_data.py`): what lies between is in the row.
_VIEW_END: Final = 8
_ORIGIN_END: Final = 12
_EPOCH_END: Final = 28
_DONE_END: Final = 60
_LANE: Final = 16
_MIDDLE_BYTES: Final = _EPOCH_END - _ORIGIN_END
ROWS_MAX: Final = 255

Row: TypeAlias = tuple[int, int, int, int, int]
"""Origin, sequence, the marks of fifo and bulk, and `done`."""


@dataclass(slots=True, init=False)
class Roll:
    """Batches of several members that differ in their numbers alone."""

    data: Data
    """Of the first of them."""
    body: bytes
    """The first of them."""
    rows: list[Row]

    def __init__(self, data: Data, body: bytes, rows: list[Row]) -> None:
        self.data = data
        self.body = body
        self.rows = rows

    def body_of(self, row: Row) -> bytes:
        """The DATA body of one of them."""
        first, origin, numbers = self.body, _ORIGIN.pack(row[0]), _NUMBERS.pack(*row[1:])
        middle, end = first[_ORIGIN_END:_EPOCH_END], first[_DONE_END:]
        return first[:_VIEW_END] + origin + middle + numbers + end

    def bodies(self) -> list[bytes]:
        """The DATA bodies of all."""
        return [self.body_of(row) for row in self.rows]


def encode_roll(bodies: Sequence[bytes]) -> bytes | None:
    """The body of a ROLL frame; None if the DATA bodies differ in more than a row."""
    first = bodies[0]
    if len(first) < _DONE_END or first[_LANE] != wire_data.ORDERED_LANE or len(bodies) > ROWS_MAX:
        return None
    view, middle, end = first[:_VIEW_END], first[_ORIGIN_END:_EPOCH_END], first[_DONE_END:]
    parts = [_COUNT.pack(len(bodies))]
    for body in bodies:
        if (
            body[_DONE_END:] != end
            or body[_ORIGIN_END:_EPOCH_END] != middle
            or body[:_VIEW_END] != view
        ):
            return None
        parts.append(body[_VIEW_END:_ORIGIN_END])
        parts.append(body[_EPOCH_END:_DONE_END])
    parts += (view, middle, end)
    return b"".join(parts)


def decode_roll(frame: bytes, offset: int) -> Roll | None:
    """The roll at `offset` of a frame; None if it is malformed."""
    if len(frame) <= offset:
        return None
    start = offset + 1
    end = start + frame[offset] * _ROW.size
    middle = end + _VIEW_END
    rest = middle + _MIDDLE_BYTES
    if start == end or len(frame) < rest:
        return None
    rows: list[Row] = list(_ROW.iter_unpack(frame[start:end]))
    numbers = start + _ORIGIN.size
    body = (
        frame[end:middle]
        + frame[start:numbers]
        + frame[middle:rest]
        + frame[numbers : start + _ROW.size]
        + frame[rest:]
    )
    data = decode_data(body, 0)
    if data is None or data.lane != wire_data.ORDERED_LANE:
        return None
    return Roll(data, body, rows)
