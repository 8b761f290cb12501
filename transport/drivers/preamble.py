"""The one thing said on a lifeline: who this is, once, by each side.

Layout, big endian: magic "PHLL", version (u16), length of the whole (u16), cluster id (u64),
node id (u32), incarnation (u64), nonce (u64), CRC32 of all before it (u32).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

_PREAMBLE = struct.Struct("!4sHHQIQQ")
_CHECKSUM = struct.Struct("!I")
_MAGIC = b"PHLL"
_VERSION = 1
PREAMBLE_BYTES = _PREAMBLE.size + _CHECKSUM.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Preamble:
    """Names one start of one node of one cluster."""

    cluster: int
    """u64."""
    node: int
    """u32."""
    incarnation: int
    """u64."""
    nonce: int
    """u64."""


def pack(preamble: Preamble) -> bytes:
    """The preamble as PREAMBLE_BYTES bytes, with a CRC32 at the end."""
    body = _PREAMBLE.pack(
        _MAGIC,
        _VERSION,
        PREAMBLE_BYTES,
        preamble.cluster,
        preamble.node,
        preamble.incarnation,
        preamble.nonce,
    )
    return body + _CHECKSUM.pack(zlib.crc32(body))


def unpack(data: bytes) -> Preamble | None:
    """What the bytes say; None if they are no preamble of this version."""
    if len(data) != PREAMBLE_BYTES:
        return None
    magic, version, length, cluster, node, incarnation, nonce = _PREAMBLE.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, _PREAMBLE.size)
    if (magic, version, length) != (_MAGIC, _VERSION, PREAMBLE_BYTES):
        return None
    if checksum != zlib.crc32(data[: _PREAMBLE.size]):
        return None
    return Preamble(cluster=cluster, node=node, incarnation=incarnation, nonce=nonce)
