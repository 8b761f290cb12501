"""The batch codec with its byte work in C: one call checks or sums a whole batch or frame.

The documentation of the functions is in `codec.Codec`. Only `bytes` may cross into C: cffi
passes their memory as it is, without the interpreter's lock, and nobody can change them
meanwhile. What C has checked, Python unpacks without checking it again.
"""

from __future__ import annotations

from typing import Final

from ._codec import lib
from .twin import (
    END,
    FIELDS,
    HEADER_BYTES,
    Frame,
    FrameError,
    cut,
    frame_start,
    pack_batch,
    u32_array,
)

__all__ = [
    "crc32c",
    "crc32c_is_hardware",
    "crc32c_table",
    "decode_frame",
    "encode_frame",
    "frame_start",
    "pack_batch",
    "seal_frame",
    "unpack_batch",
]

# A name of the module is found faster than an attribute of `lib`.
_crc32c: Final = lib.phx_crc32c
_frame_crc: Final = lib.phx_frame_crc
_frame_check: Final = lib.phx_frame_check
_batch_count: Final = lib.phx_batch_count
_end: Final = END.pack
_fields: Final = FIELDS.unpack_from

_ERRORS: Final = {error.value: error for error in FrameError}


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
    return seal_frame(frame_start(kind, flags, cluster, incarnation, sender, addressee), body)


def seal_frame(start: bytes, head: bytes, rest: bytes = b"") -> bytes:
    """See `codec.Codec`."""
    of_head, of_rest = len(head), len(rest)
    crc = _frame_crc(start, head, of_head, rest, of_rest)
    return b"".join((start, _end(of_head + of_rest, crc), head, rest))


def decode_frame(frame: bytes, cluster: int) -> Frame | FrameError:
    """See `codec.Codec`."""
    outcome = _frame_check(frame, len(frame))
    if outcome:
        return _ERRORS[outcome]
    kind, flags, other, incarnation, sender, addressee = _fields(frame)
    if other != cluster:
        return FrameError.OTHER_CLUSTER
    return Frame(kind, flags, incarnation, sender, addressee, HEADER_BYTES)
