"""The body of a BEACON frame: where a node listens, told to all who share a rail with it.

A MessagePack array (docs/wire.md). Beacons go to the multicast groups on a port of their own, and
on nothing else.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from .config import NAME_BYTES_MAX, PORT_MAX, RAILS_MAX
from .wire import Count

BEACON_BYTES_MAX: Final = 1280
"""Of the body, which so fits into one packet on every network (RFC 8200, 5)."""
_ADDRESS_BYTES_MAX: Final = 45
"""The longest spelling of an IPv6 address."""
_Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=PORT_MAX)]
_Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_BYTES_MAX)]
_Address: TypeAlias = Annotated[str, msgspec.Meta(max_length=_ADDRESS_BYTES_MAX)]
_Addresses: TypeAlias = Annotated[
    dict[_Name, _Address], msgspec.Meta(min_length=1, max_length=RAILS_MAX)
]


class Beacon(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """Where a node listens."""

    name: _Name
    nonce: Count
    """Tells this process from another one that calls itself the same node."""
    addresses: _Addresses
    """By rail, on all of its rails: one beacon is enough to find all of them."""
    port: _Port
    udp_port: _Port
    datagram_port: Annotated[int, msgspec.Meta(ge=0, le=PORT_MAX)]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Beacon)


def encode_beacon(beacon: Beacon) -> bytes:
    """The body of a BEACON frame."""
    return _encoder.encode(beacon)


def decode_beacon(frame: bytes, offset: int) -> Beacon | None:
    """The body at `offset` of a frame; None if it is malformed.

    What is in it is told to people: letters that steer a terminal make it malformed.
    """
    if len(frame) - offset > BEACON_BYTES_MAX:
        return None
    try:
        beacon = _decoder.decode(memoryview(frame)[offset:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    texts = (beacon.name, *beacon.addresses, *beacon.addresses.values())
    return beacon if all(text.isprintable() for text in texts) else None
