"""The bodies of STAND and REPORT frames: what was sent to a multicast group, and what is missing.

Layouts are in docs/wire.md. Numbers are those of frames within a session of their sender; on the
wire they have 32 bits and begin anew.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

_STAND: Final = struct.Struct("<HHIIQB")
_REPORT: Final = struct.Struct("<HHIIIQ")
_LACK: Final = struct.Struct("<IHQ")
LACKS_MAX: Final = 64
"""Of one report, which then still is a single packet."""
NO_RAIL: Final = 0xFFFF


class Stand(NamedTuple):
    """Where a sender stands in its session; goes to the group, or to one node."""

    session: int
    rail: int
    """Place of the rail to whose group it is sent, in order of name; `NO_RAIL` if to one node."""
    following: int
    """The number of the next frame."""
    oldest: int
    """The oldest one that can be sent again, to a node that it went to; `following` if none can."""
    sent_ns: int
    """The sender's own clock; only the sender reads it. 0: no answer is asked for."""
    shared: int = 0
    """1: what is lost is mostly lost by many, so that they should wait for each other."""


class Lack(NamedTuple):
    """Frames that have not come, or pieces of one."""

    first: int
    frames: int
    """How many in a row."""
    pieces: int
    """A bit for each piece that is missing."""


class Report(NamedTuple):
    """What a receiver has to say of a session; goes to its sender, or to the group."""

    origin: int
    """Whose session it is."""
    session: int
    rail: int
    """That of the STAND which is answered; `NO_RAIL` if none is."""
    overruns: int
    """How many datagrams the receiver's kernel has had no room for."""
    spared: int
    """How often it was spared to ask for a frame of this session, as another one had."""
    sent_ns: int
    """Of the STAND which is answered; 0 if none is."""
    lacks: Sequence[Lack] = ()


def encode_stand(stand: Stand) -> bytes:
    """The body of a STAND frame."""
    return _STAND.pack(*stand)


def decode_stand(frame: bytes, offset: int) -> Stand | None:
    """The body at `offset` of a frame; None if it is malformed."""
    if len(frame) - offset != _STAND.size:
        return None
    stand = Stand._make(_STAND.unpack_from(frame, offset))
    return stand if stand.session else None


def encode_report(report: Report) -> bytes:
    """The body of a REPORT frame; of at most `LACKS_MAX` lacks."""
    origin, session, rail, overruns, spared, sent_ns, _ = report
    head = _REPORT.pack(session, rail, origin, overruns, spared, sent_ns)
    return head + encode_lacks(report.lacks)


def decode_report(frame: bytes, offset: int) -> Report | None:
    """The body at `offset` of a frame; None if it is malformed."""
    if len(frame) - offset < _REPORT.size:
        return None
    session, rail, origin, overruns, spared, sent_ns = _REPORT.unpack_from(frame, offset)
    lacks = decode_lacks(frame, offset + _REPORT.size)
    if not session or lacks is None:
        return None
    return Report(origin, session, rail, overruns, spared, sent_ns, lacks)


def encode_lacks(lacks: Sequence[Lack]) -> bytes:
    """At most `LACKS_MAX` of them, at the end of a body."""
    return b"".join([_LACK.pack(*lack) for lack in lacks])


def decode_lacks(frame: bytes, offset: int) -> list[Lack] | None:
    """From `offset` to the end of a frame; None if that is malformed."""
    size = len(frame) - offset
    if size < 0 or size % _LACK.size or size > LACKS_MAX * _LACK.size:
        return None
    lacks = [Lack._make(it) for it in _LACK.iter_unpack(memoryview(frame)[offset:])]
    return lacks if all(lack.frames and lack.pieces for lack in lacks) else None
