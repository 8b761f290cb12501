"""What members tell each other about ordered channels, and its msgpack form."""

from __future__ import annotations

import enum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from phalanx.transport.config import NAME_BYTES_MAX, NODE_ID_MAX
from phalanx.transport.events import Position

CONTROL = "!channels"
"""The channel of the ordered lane on which openings are ordered."""
PART_BYTES = 48 << 10
"""A state is sent in parts of this size."""

Name: TypeAlias = Annotated[str, Meta(max_length=NAME_BYTES_MAX)]
NodeId: TypeAlias = Annotated[int, Meta(ge=0, le=NODE_ID_MAX)]


class Can(enum.IntEnum):
    """What a member can do for one that opens a channel."""

    NOTHING = 0
    GIVE = 1


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """Its sender's channel begins here."""

    name: Name
    takes: bool
    """It wants the state that another has here."""
    asked: int
    """Names this opening among those of its sender."""
    since: Position | None
    """Where it asked first, if it has to ask again; who asked earlier cannot be its donor."""


class Have(msgspec.Struct, frozen=True, array_like=True, tag="have"):
    """The answer to an `Open`."""

    name: Name
    at: Position
    opener: NodeId
    can: Can


class Take(msgspec.Struct, frozen=True, array_like=True, tag="take"):
    """The opener has chosen whose state it takes; 0: nobody's."""

    name: Name
    at: Position
    donor: NodeId


class Part(msgspec.Struct, frozen=True, array_like=True, tag="part"):
    """A part of a state, from its donor to the opener alone."""

    name: Name
    at: Position
    size: int
    """Of the whole; below 0 if there is none."""
    part: bytes


Message: TypeAlias = Open | Have | Take | Part

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The msgpack form."""
    return _encoder.encode(message)


def decode(payload: bytes) -> Message | None:
    """The message of a payload; None if no honest core can have sent it."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
