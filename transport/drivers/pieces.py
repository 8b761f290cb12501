"""Large frames in pieces of one packet each (docs/wire.md); `_native/pieces.c` is the same in C."""

from __future__ import annotations

import struct
from collections import Counter
from typing import Final

from .base import CAST_BYTES_MAX, DATAGRAM_BYTES_MAX, PIECE_HEAD_BYTES

PUZZLES_MAX: Final = 32
"""Frames of one rail of which some pieces have come; the oldest makes room for another one."""
_MAGIC: Final = b"PP"
_VERSION: Final = 1
_COUNT_MAX: Final = 64
_HEAD: Final = struct.Struct("<2sBBIIHxx")
"""Magic, version, index, number of the frame, its bytes, bytes of each piece but the last."""
_BODY_BYTES: Final = DATAGRAM_BYTES_MAX - PIECE_HEAD_BYTES


def cut(frame: bytes, number: int) -> tuple[bytes, ...]:
    """The packets of a frame."""
    size = len(frame)
    return tuple(
        _HEAD.pack(_MAGIC, _VERSION, index, number & 0xFFFF_FFFF, size, _BODY_BYTES)
        + frame[at : at + _BODY_BYTES]
        for index, at in enumerate(range(0, size, _BODY_BYTES))
    )


def is_piece(packet: bytes) -> bool:
    """Whether a packet says that it is one."""
    return len(packet) >= PIECE_HEAD_BYTES and packet.startswith(_MAGIC)


class _Puzzle:
    """A frame of which pieces have come."""

    def __init__(self, frame_bytes: int, piece_bytes: int) -> None:
        self.measures = frame_bytes, piece_bytes
        self.parts: dict[int, bytes] = {}


class Puzzles:
    """Puts the frames of a rail together."""

    def __init__(self, drops: Counter[str]) -> None:
        self._drops = drops
        self._open: dict[tuple[int, int], _Puzzle] = {}
        """By sender and number; the one that was touched last comes last."""

    def take(self, node: int, packet: bytes) -> bytes | None:
        """Take a piece in; returns the frame that it completes."""
        _, version, index, number, frame_bytes, piece_bytes = _HEAD.unpack_from(packet)
        body = packet[PIECE_HEAD_BYTES:]
        if version != _VERSION or not (piece_bytes and 0 < frame_bytes <= CAST_BYTES_MAX):
            self._drops["pieces_malformed"] += 1
            return None
        count = -(-frame_bytes // piece_bytes)
        expected = min(piece_bytes, frame_bytes - index * piece_bytes)
        if count > _COUNT_MAX or index >= count or len(body) != expected:
            self._drops["pieces_malformed"] += 1
            return None
        puzzle = self._open.pop((node, number), None)
        if puzzle is None:
            if len(self._open) >= PUZZLES_MAX:
                self._open.pop(next(iter(self._open)))
                self._drops["pieces_displaced"] += 1
            puzzle = _Puzzle(frame_bytes, piece_bytes)
        if puzzle.measures == (frame_bytes, piece_bytes):
            puzzle.parts.setdefault(index, body)
        else:
            self._drops["pieces_malformed"] += 1
        if len(puzzle.parts) < count:
            self._open[node, number] = puzzle
            return None
        return b"".join(puzzle.parts[place] for place in range(count))
