"""The bodies of LINK frames: an association over datagrams, where SCTP does not reach a peer.

Each side numbers its opening of the association by a session, and names the other's in everything
that follows. Layouts are in docs/wire.md.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from .drivers.base import STREAMS
from .wire_group import Lack, decode_lacks, encode_lacks

_HEAD: Final = struct.Struct("<BBHH")
_PART: Final = struct.Struct("<BBI")
_ACK: Final = struct.Struct("<II")
_ASK: Final = struct.Struct("<I")
LINK_BYTES: Final = _HEAD.size + _PART.size
"""What stands before the bytes of a part."""


class LinkKind(enum.IntEnum):
    """What a LINK frame is."""

    OPEN = 1
    PART = 2
    ACK = 3
    CLOSE = 4
    LOOSE = 5
    ASK = 6


class LinkHead(NamedTuple):
    """Whose association it is."""

    session: int
    """Of the sender."""
    echo: int
    """Of the addressee; 0: the sender does not know it."""


class Open(NamedTuple):
    """The sender opens the association, or says that it still does."""

    head: LinkHead
    urgent: bool
    """There was another way to the addressee, and the sender has found it dead."""
    up: bool
    """The sender has heard that the addressee knows its session."""


class Part(NamedTuple):
    """A frame, or a piece of one that is too large for a datagram."""

    head: LinkHead
    stream: int
    last: bool
    """The frame ends with it."""
    place: int
    """Of the part in its stream, from 0; begins anew after 2^32."""
    offset: int
    """Where its bytes begin."""


class LinkAck(NamedTuple):
    """Which numbered frames of the addressee have come."""

    head: LinkHead
    floor: int
    """All below have."""
    top: int
    """None from here on has; between the two, all but those that lack."""
    lacks: Sequence[Lack]


class Close(NamedTuple):
    """There is no such association, or no more."""

    head: LinkHead
    orderly: bool


class Loose(NamedTuple):
    """A frame that is sent once, on the rail on which it came."""

    head: LinkHead
    offset: int


class Ask(NamedTuple):
    """What has come? Nothing was heard in time of what the sender has sent."""

    head: LinkHead
    following: int
    """The number of its next part."""


LinkMessage: TypeAlias = Open | Part | LinkAck | Close | Loose | Ask


def encode_open(message: Open) -> bytes:
    """The body of a LINK frame."""
    return _HEAD.pack(LinkKind.OPEN, message.urgent | message.up << 1, *message.head)


def encode_part(message: Part) -> bytes:
    """What stands before the bytes of a part."""
    head = _HEAD.pack(LinkKind.PART, 0, *message.head)
    return head + _PART.pack(message.stream, message.last, message.place & 0xFFFF_FFFF)


def encode_ack(message: LinkAck) -> bytes:
    """The body of a LINK frame; of at most `LACKS_MAX` lacks."""
    head = _HEAD.pack(LinkKind.ACK, 0, *message.head) + _ACK.pack(message.floor, message.top)
    return head + encode_lacks(message.lacks)


def encode_close(message: Close) -> bytes:
    """The body of a LINK frame."""
    return _HEAD.pack(LinkKind.CLOSE, message.orderly, *message.head)


def encode_ask(message: Ask) -> bytes:
    """The body of a LINK frame."""
    return _HEAD.pack(LinkKind.ASK, 0, *message.head) + _ASK.pack(message.following)


def encode_loose(head: LinkHead) -> bytes:
    """What stands before the frame."""
    return _HEAD.pack(LinkKind.LOOSE, 0, *head)


def decode_link(frame: bytes, offset: int) -> LinkMessage | None:
    """The body at `offset` of a frame; None if it is malformed."""
    rest = len(frame) - offset - _HEAD.size
    if rest < 0:
        return None
    kind, flags, session, echo = _HEAD.unpack_from(frame, offset)
    head, at = LinkHead(session, echo), offset + _HEAD.size
    if kind == LinkKind.OPEN:
        return Open(head, bool(flags & 1), bool(flags & 2)) if session and not rest else None
    if kind == LinkKind.CLOSE:
        return Close(head, bool(flags)) if echo and not rest else None
    if not (session and echo):
        return None
    if kind == LinkKind.PART and rest > _PART.size:
        stream, last, place = _PART.unpack_from(frame, at)
        part = Part(head, stream, bool(last), place, at + _PART.size)
        return part if stream < STREAMS else None
    if kind == LinkKind.LOOSE and rest:
        return Loose(head, at)
    if kind == LinkKind.ASK and rest == _ASK.size:
        return Ask(head, *_ASK.unpack_from(frame, at))
    if kind == LinkKind.ACK:
        return _decode_ack(head, frame, at)
    return None


def _decode_ack(head: LinkHead, frame: bytes, at: int) -> LinkAck | None:
    if len(frame) - at < _ACK.size:
        return None
    floor, top = _ACK.unpack_from(frame, at)
    lacks = decode_lacks(frame, at + _ACK.size)
    return LinkAck(head, floor, top, lacks) if lacks is not None else None
