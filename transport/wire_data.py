"""The bodies of DATA frames: one numbered batch of a stream, and all that its delivery needs.

A batch of the ordered lane belongs to an epoch. It says how far its sender has got (`done`), it
may close its epoch at once (`END`), and it may be one of several that are about to be sent
(`Meeting`), so that nobody has to answer it at once. Layouts are in docs/wire.md. What is made for
every batch has an `__init__` of its own (`core/batches.py` says why).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from .events import Lane, ViewId

_DATA: Final = struct.Struct("<IIIIBBHQQQQ")
_DONE: Final = struct.Struct("<Q")
_DONE_AND_MEETING: Final = struct.Struct("<QIBQ")
_DATA_AND_MEETING: Final = struct.Struct(_DATA.format + _DONE_AND_MEETING.format[1:])
"""All three in one: of these there are most."""
DATA_HEADER_BYTES: Final = _DATA.size
_DONE_BYTES: Final = _DONE.size
_DONE_AND_MEETING_BYTES: Final = _DONE_AND_MEETING.size
ORDERED_LANE: Final = int(Lane.ORDERED)
"""As it stands in a header: numbers are compared faster than members of an enumeration."""

FRAGMENT: Final = 1
"""The body is a piece of one message, not a batch."""
FIRST: Final = 2
"""The first piece of a message."""
LAST: Final = 4
"""The last piece of a message."""
END: Final = 8
"""The last batch of its sender in this epoch: an END (PROTOCOL 5) that costs nothing."""
SAFE: Final = 16
"""Somebody waits until every member holds it: who has its epoch says so at once."""
MEETING: Final = 32
"""A `Meeting` follows."""

MEETING_RANKS_MAX: Final = 64


class StreamKey(NamedTuple):
    """One numbered stream of a view: sender, addressee (0 for everybody) and lane."""

    origin: int
    addressee: int
    lane: int


@dataclass(slots=True, init=False)
class Meeting:
    """Several members are about to say the same: what they say may travel together.

    A hint, which says nothing about what the entries mean: with a wrong one they come later.
    """

    key: int
    """The same at all that meet, another one each time; 32 bits."""
    wanted: int
    """How many meet; 1 to 64."""
    ranks: int
    """Bit r is set if the member of rank r (place by ascending id) may be one of them."""

    def __init__(self, key: int, wanted: int, ranks: int) -> None:
        self.key = key
        self.wanted = wanted
        self.ranks = ranks


@dataclass(slots=True, init=False)
class Data:
    """The header of a DATA body; the batch or piece begins at `offset` of the frame."""

    era: int
    k: int
    origin: int
    addressee: int
    lane: int
    flags: int
    epoch: int
    sequence: int
    mark_fifo: int
    """The last batch of the sender's FIFO multicasts that ended a message before this one."""
    mark_bulk: int
    channel: str
    offset: int
    done: int
    """The last epoch that the sender held completely; 0 on other lanes than the ordered one."""
    meeting: Meeting | None

    def __init__(
        self,
        era: int,
        k: int,
        origin: int,
        addressee: int,
        lane: int,
        flags: int,
        epoch: int,
        sequence: int,
        mark_fifo: int,
        mark_bulk: int,
        channel: str,
        offset: int,
        done: int = 0,
        meeting: Meeting | None = None,
    ) -> None:
        self.era = era
        self.k = k
        self.origin = origin
        self.addressee = addressee
        self.lane = lane
        self.flags = flags
        self.epoch = epoch
        self.sequence = sequence
        self.mark_fifo = mark_fifo
        self.mark_bulk = mark_bulk
        self.channel = channel
        self.offset = offset
        self.done = done
        self.meeting = meeting

    @property
    def view_id(self) -> ViewId:
        """In which it was numbered."""
        return ViewId(self.era, self.k)

    @property
    def key(self) -> StreamKey:
        """Of its stream."""
        return StreamKey(self.origin, self.addressee, self.lane)


def encode_data(
    view_id: ViewId,
    key: StreamKey,
    *,
    flags: int,
    epoch: int,
    sequence: int,
    mark_fifo: int,
    mark_bulk: int,
    channel: bytes,
    done: int = 0,
    meeting: Meeting | None = None,
) -> bytes:
    """The header of a DATA body with its channel; the batch follows it directly."""
    era, k = view_id
    origin, addressee, lane = key
    if meeting is not None:
        head = _DATA_AND_MEETING.pack(
            era,
            k,
            origin,
            addressee,
            lane,
            flags | MEETING,
            len(channel),
            epoch,
            sequence,
            mark_fifo,
            mark_bulk,
            done,
            meeting.key,
            meeting.wanted,
            meeting.ranks,
        )
        return head + channel
    head = _DATA.pack(
        era, k, origin, addressee, lane, flags, len(channel), epoch, sequence, mark_fifo, mark_bulk
    )
    if lane == ORDERED_LANE:
        head += _DONE.pack(done)
    return head + channel if channel else head


def channel_at(frame: bytes, start: int, size: int) -> str | None:
    """The channel that stands there, which may be empty; None if it is malformed."""
    if len(frame) < start + size:
        return None
    try:
        return frame[start : start + size].decode()
    except UnicodeDecodeError:
        return None


def decode_data(frame: bytes, offset: int) -> Data | None:
    """The header of a DATA body at `offset` of a frame; None if it is malformed."""
    end = offset + DATA_HEADER_BYTES
    if len(frame) < end:
        return None
    era, k, origin, addressee, lane, flags, size, epoch, sequence, fifo, bulk = _DATA.unpack_from(
        frame, offset
    )
    done, meeting = 0, None
    if lane == ORDERED_LANE and flags & MEETING:
        if len(frame) < end + _DONE_AND_MEETING_BYTES:
            return None
        done, key, wanted, ranks = _DONE_AND_MEETING.unpack_from(frame, end)
        meeting = Meeting(key, wanted, ranks)
        end += _DONE_AND_MEETING_BYTES
    elif lane == ORDERED_LANE:
        if len(frame) < end + _DONE_BYTES:
            return None
        (done,) = _DONE.unpack_from(frame, end)
        end += _DONE_BYTES
    channel = channel_at(frame, end, size)
    if channel is None:
        return None
    return Data(
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
        end + size,
        done,
        meeting,
    )
