"""The batch codec with its byte work in C: one call checks or sums a whole batch or frame.

The documentation of the functions is in `codec.Codec`. Only `bytes` may cross into C: cffi
passes their memory as it is, without the interpreter's lock, and nobody can change them
meanwhile. What C has checked, Python unpacks without checking it again.
"""

from __future__ import annotations

from collections.abc import Sequence

from ._codec import lib
from .twin import (
    FIELDS,
    HEADER_BYTES,
    SUFFIX,
    Frame,
    FrameError,
    cut,
    pack_batch,
    pack_prefix,
    u32_array,
)

__all__ = [
    "crc32c",
    "crc32c_is_hardware",
    "crc32c_table",
    "decode_frame",
    "encode_frame",
    "encode_frame_parts",
    "pack_batch",
    "unpack_batch",
]

# A name of the module is found faster than an attribute of `lib`.
_crc32c = lib.phx_crc32c
_frame_crc = lib.phx_frame_crc
_frame_check = lib.phx_frame_check
_batch_count = lib.phx_batch_count

_ERRORS = {error.value: error for error in FrameError}


def unpack_batch(data: bytes, offset: int = 0) -> list[bytes] | None:
    """See `codec.Codec`."""
    size = len(data)
    if not 0 <= offset <= size:
        return None
    count = _batch_count(data, size, offset)
    if count == 1:
        return [data[offset + 8 :]]
    if count < 0:
        return None
    payloads = offset + 4 + 4 * count
    return cut(data, payloads, u32_array(data[offset + 4 : payloads]))


def crc32c(data: bytes, value: int = 0) -> int:
    """See `codec.Codec`."""
    return _crc32c(value, data, len(data))


def crc32c_table(data: bytes, value: int = 0) -> int:
    """`crc32c` as computed on a processor without an instruction for it."""
    return lib.phx_crc32c_table(value, data, len(data))


def crc32c_is_hardware() -> bool:
    """Whether `crc32c` uses the processor's instruction."""
    return bool(lib.phx_crc32c_is_hardware())


def encode_frame(
    kind: int,
    flags: int,
    cluster: int,
    incarnation: int,
    sender: int,
    addressee: int,
    body: bytes,
) -> bytes:
    """See `codec.Codec`."""
    size = len(body)
    prefix = pack_prefix(kind, flags, cluster, incarnation, sender, addressee, size)
    return prefix + SUFFIX.pack(_frame_crc(prefix, body, size)) + body


def encode_frame_parts(
    kind: int,
    flags: int,
    cluster: int,
    incarnation: int,
    sender: int,
    addressee: int,
    parts: Sequence[bytes],
) -> bytes:
    """See `codec.Codec`."""
    size = sum(map(len, parts))
    prefix = pack_prefix(kind, flags, cluster, incarnation, sender, addressee, size)
    rest = iter(parts)
    first = next(rest, b"")
    crc = _frame_crc(prefix, first, len(first))
    for part in rest:
        crc = _crc32c(crc, part, len(part))
    return b"".join((prefix, SUFFIX.pack(crc), *parts))


def decode_frame(frame: bytes, cluster: int) -> Frame | FrameError:
    """See `codec.Codec`."""
    outcome = _frame_check(frame, len(frame))
    if outcome:
        return _ERRORS[outcome]
    kind, flags, other, incarnation, sender, addressee = FIELDS.unpack_from(frame)
    if other != cluster:
        return FrameError.OTHER_CLUSTER
    return Frame(kind, flags, incarnation, sender, addressee, HEADER_BYTES)
