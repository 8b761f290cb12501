"""Large frames in pieces of one packet each (docs/wire.md); `_native/pieces.c` is the same in C."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from typing import Final

from .base import (
    ALL_PIECES,
    CAST_BYTES_MAX,
    DATAGRAM_BYTES_MAX,
    NUMBERS,
    PARITIES,
    PARITY_SPAN,
    PIECE_HEAD_BYTES,
    Incomplete,
)

PUZZLES_MAX: Final = 64
"""Frames of which some pieces have come; the oldest makes room for another one."""
WHOLE_MAX: Final = 1024
"""Frames that are known to have become whole; a piece of one that comes once more is dropped."""
_MAGIC: Final = b"PP"
_VERSION: Final = 1
_COUNT_MAX: Final = 63
_FIRST_PARITY: Final = 64
"""Parities have places from here on."""
_HEAD: Final = struct.Struct("<2sBBIIHH")
"""Magic, version, index, number of the frame, its bytes, of each piece but the last, session."""
_BODY_BYTES: Final = DATAGRAM_BYTES_MAX - PIECE_HEAD_BYTES


def _parities_of(count: int) -> int:
    """How many parities a frame of so many pieces has.

    Each is of those whose place, divided by that, leaves its own.
    """
    return -(-count // PARITY_SPAN) if count > 1 else 0


def _sum_of(parts: Iterable[bytes], size: int) -> bytes:
    """Their exclusive or (RFC 5109 makes parities so), of this length."""
    total = 0
    for part in parts:
        total ^= int.from_bytes(part, "little")
    return total.to_bytes(size, "little")


def cut(
    frame: bytes, number: int, *, session: int = 0, pieces: int = ALL_PIECES
) -> tuple[bytes, ...]:
    """The packets of a frame, or those of them whose bits are set; its parities come last."""
    size = len(frame)
    bodies = [frame[at : at + _BODY_BYTES] for at in range(0, size, _BODY_BYTES)]
    chosen = [(index, body) for index, body in enumerate(bodies) if pieces >> index & 1]
    if pieces & PARITIES:
        step = _parities_of(len(bodies))
        chosen += [(_FIRST_PARITY + i, _sum_of(bodies[i::step], _BODY_BYTES)) for i in range(step)]
    return tuple(
        _HEAD.pack(_MAGIC, _VERSION, index, number % NUMBERS, size, _BODY_BYTES, session) + body
        for index, body in chosen
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
        self._parities: dict[int, bytes] = {}

    @property
    def missing(self) -> int:
        """A bit for each piece."""
        return sum(1 << index for index in range(self.count) if index not in self.parts)

    def body_bytes(self, index: int) -> int:
        """What a piece or a parity has; 0 if there is none at this place."""
        frame_bytes, piece_bytes = self.measures
        if index >= _FIRST_PARITY:
            return piece_bytes if index - _FIRST_PARITY < _parities_of(self.count) else 0
        return max(0, min(piece_bytes, frame_bytes - index * piece_bytes))

    def put(self, index: int, body: bytes) -> None:
        """Take one in, and make the piece that follows from it."""
        if index >= _FIRST_PARITY:
            index -= _FIRST_PARITY
            self._parities.setdefault(index, body)
        else:
            self.parts.setdefault(index, body)
        if not self._parities:
            return
        step = _parities_of(self.count)
        places = range(index % step, self.count, step)
        parity = self._parities.get(index % step)
        lost = [place for place in places if place not in self.parts]
        if parity is not None and len(lost) == 1:
            others = [self.parts[place] for place in places if place != lost[0]]
            whole = _sum_of([parity, *others], len(parity))
            self.parts[lost[0]] = whole[: self.body_bytes(lost[0])]


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
        fresh = _Puzzle(frame_bytes, piece_bytes)
        if fresh.count > _COUNT_MAX or not 0 < len(body) == fresh.body_bytes(index):
            self._drops["pieces_malformed"] += 1
            return None
        name = node, session, number
        if name in self._whole:
            return None
        puzzle = self._open.pop(name, None)
        if puzzle is None:
            if len(self._open) >= PUZZLES_MAX and fresh.count > 1:
                self._open.pop(next(iter(self._open)))
                self._drops["pieces_displaced"] += 1
            puzzle = fresh
        if puzzle.measures == fresh.measures:
            puzzle.put(index, body)
        else:
            self._drops["pieces_malformed"] += 1
        if len(puzzle.parts) < puzzle.count:
            self._open[name] = puzzle
            return None
        self._whole[name] = None
        if len(self._whole) > WHOLE_MAX:
            del self._whole[next(iter(self._whole))]
        whole = b"".join(puzzle.parts[place] for place in range(puzzle.count))
        return whole, session, number if session else 0

    def incomplete(self) -> list[Incomplete]:
        """Frames with a session that are not whole."""
        return [Incomplete(*name, puzzle.missing) for name, puzzle in self._open.items() if name[1]]
