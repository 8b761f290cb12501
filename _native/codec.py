"""Batches, checksums and frame headers, in C where the extension is built, else in Python.

Both implementations do the same to the byte; tests/native/test_codec.py holds them to it. The
environment variable `PHALANX_NATIVE` chooses when this module is imported:

* unset, empty or `auto`: C if the extension is there, else the twin;
* `require`: C, and a missing extension is an `ImportError`;
* `twin`: the pure-Python twin.

docs/wire.md has the layouts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from . import twin
from .twin import (
    HEADER_BYTES,
    WIRE_VERSION,
    WIRE_VERSION_OLDEST,
    Frame,
    FrameError,
    cluster_id,
)

__all__ = [
    "HEADER_BYTES",
    "IMPLEMENTATION",
    "WIRE_VERSION",
    "WIRE_VERSION_OLDEST",
    "Codec",
    "Frame",
    "FrameError",
    "cluster_id",
    "crc32c",
    "decode_frame",
    "encode_frame",
    "frame_start",
    "pack_batch",
    "seal_frame",
    "unpack_batch",
]


class Codec(Protocol):
    """What both implementations, which are modules, offer.

    Payloads, bodies and frames are `bytes`; another buffer is a `TypeError` wherever it is read.
    """

    def pack_batch(self, messages: Sequence[bytes]) -> bytes:
        """One batch of these messages, any number of any length, 0 included.

        Raises:
            OverflowError: a message has 4 GiB or more.
        """
        ...

    def unpack_batch(self, data: bytes, offset: int = 0) -> list[bytes] | None:
        """The messages of the batch that fills `data` from `offset` to its end.

        None if it is malformed: the table does not fit, the lengths do not add up to exactly
        what is there, or `offset` is outside `data`. Memory is bounded by the size of `data`.
        """
        ...

    def crc32c(self, data: bytes, value: int = 0) -> int:
        """CRC32C (Castagnoli, RFC 3720 B.4) of `data`, continued from `value`.

        Raises:
            OverflowError: `value` is not an unsigned number of 32 bits.
        """
        ...

    def encode_frame(
        self,
        kind: int,
        flags: int,
        cluster: int,
        incarnation: int,
        sender: int,
        addressee: int,
        body: bytes,
    ) -> bytes:
        """A whole frame: header with checksum, and body.

        `kind` and `flags` have 8 bits, `cluster` (see `cluster_id`) and `incarnation` 64, the
        node ids `sender` and `addressee` (0 for everybody) 32; all are unsigned.

        Raises:
            struct.error: a number does not fit its field, or the body has 4 GiB or more.
        """
        ...

    def frame_start(
        self, kind: int, flags: int, cluster: int, incarnation: int, sender: int, addressee: int
    ) -> bytes:
        """What the headers of all frames of one kind from one sender begin with, for `seal_frame`.

        Raises:
            struct.error: a number does not fit its field.
        """
        ...

    def seal_frame(self, start: bytes, head: bytes, rest: bytes = b"") -> bytes:
        """`encode_frame` of `head + rest`, which are copied once.

        Raises:
            struct.error: the body has 4 GiB or more.
        """
        ...

    def decode_frame(self, frame: bytes, cluster: int) -> Frame | FrameError:
        """The header of a frame, if it is intact and of this cluster; else why it is not."""
        ...


def _choose() -> tuple[str, Codec]:
    mode = os.environ.get("PHALANX_NATIVE") or "auto"
    if mode not in ("auto", "require", "twin"):
        raise ImportError(f"PHALANX_NATIVE is {mode!r}; set it to auto, require or twin")
    if mode == "twin":
        return "twin", twin
    try:
        from . import c_codec
    except ImportError as error:
        if mode == "require":
            raise ImportError(
                "phalanx._native._codec is not built and PHALANX_NATIVE=require forbids the twin; "
                "install phalanx again where there is a C compiler"
            ) from error
        return "twin", twin
    return "c", c_codec


IMPLEMENTATION, _codec = _choose()
"""Which one works here: "c" or "twin"."""

# The functions themselves, so that the choice costs nothing per call.
pack_batch = _codec.pack_batch
unpack_batch = _codec.unpack_batch
crc32c = _codec.crc32c
encode_frame = _codec.encode_frame
frame_start = _codec.frame_start
seal_frame = _codec.seal_frame
decode_frame = _codec.decode_frame
