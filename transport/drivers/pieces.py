"""Large frames in pieces of one packet each (docs/wire.md); `_native/pieces.c` is the same in C."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Final

from .base import (
    ALL_PIECES,
    CAST_BYTES_MAX,
    DATAGRAM_BYTES_MAX,
    NUMBERS,
    PIECE_HEAD_BYTES,
    Incomplete,
)

PUZZLES_MAX: Final = 64
"""Frames of which some pieces have come; the oldest makes room for another one."""
WHOLE_MAX: Final = 1024
"""Frames that are known to have become whole; a piece of one that comes once more is dropped."""
_MAGIC: Final = b"PP"
_VERSION: Final = 1
_COUNT_MAX: Final = 64
_HEAD: Final = struct.Struct("<2sBBIIHH")
"""Magic, version, index, number of the frame, its bytes, of each piece but the last, session."""
_BODY_BYTES: Final = DATAGRAM_BYTES_MAX - PIECE_HEAD_BYTES


def cut(
    frame: bytes, number: int, *, session: int = 0, pieces: int = ALL_PIECES
) -> tuple[bytes, ...]:
    """The packets of a frame, or those of them whose bits are set."""
    size = len(frame)
    return tuple(
        _HEAD.pack(_MAGIC, _VERSION, index, number % NUMBERS, size, _BODY_BYTES, session)
        + frame[at : at + _BODY_BYTES]
        for index, at in enumerate(range(0, size, _BODY_BYTES))
        if pieces >> index & 1
    )


def is_piece(packet: bytes) -> bool:
    """Whether a packet says that it is one."""
    return len(packet) >= PIECE_HEAD_BYTES and packet.startswith(_MAGIC)


class _Puzzle:
    """A frame of which pieces have come."""

    def __init__(self, frame_bytes: int, piece_bytes: int) -> None:
        self.measures = frame_bytes, piece_bytes
        self.count = -(-frame_bytes // piece_bytes)
        self.parts: dict[int, bytes] = {}

    @property
    def missing(self) -> int:
        """A bit for each piece."""
        return sum(1 << index for index in range(self.count) if index not in self.parts)


class Puzzles:
    """Puts frames together."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._open: dict[tuple[int, int, int], _Puzzle] = {}
        """By sender, session and number; the one that was touched last comes last."""
        self._whole: dict[tuple[int, int, int], None] = {}
        """Those that have become whole, the latest last."""

    def take(self, node: int, packet: bytes) -> tuple[bytes, int, int] | None:
        """Take a piece in; returns the frame that it completes, its session and its number."""
        _, version, index, number, frame_bytes, piece_bytes, session = _HEAD.unpack_from(packet)
        body = packet[PIECE_HEAD_BYTES:]
        if version != _VERSION or not (piece_bytes and 0 < frame_bytes <= CAST_BYTES_MAX):
            self._drops["pieces_malformed"] += 1
            return None
        count = -(-frame_bytes // piece_bytes)
        expected = min(piece_bytes, frame_bytes - index * piece_bytes)
        if count > _COUNT_MAX or index >= count or len(body) != expected:
            self._drops["pieces_malformed"] += 1
            return None
        name = node, session, number
        if name in self._whole:
            return None
        puzzle = self._open.pop(name, None)
        if puzzle is None:
            if len(self._open) >= PUZZLES_MAX and count > 1:
                self._open.pop(next(iter(self._open)))
                self._drops["pieces_displaced"] += 1
            puzzle = _Puzzle(frame_bytes, piece_bytes)
        if puzzle.measures == (frame_bytes, piece_bytes):
            puzzle.parts.setdefault(index, body)
        else:
            self._drops["pieces_malformed"] += 1
        if len(puzzle.parts) < count:
            self._open[name] = puzzle
            return None
        self._whole[name] = None
        if len(self._whole) > WHOLE_MAX:
            del self._whole[next(iter(self._whole))]
        whole = b"".join(puzzle.parts[place] for place in range(count))
        return whole, session, number if session else 0

    def incomplete(self) -> list[Incomplete]:
        """Frames with a session that are not whole."""
        return [Incomplete(*name, puzzle.missing) for name, puzzle in self._open.items() if name[1]]
