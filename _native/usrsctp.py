"""The C side of the user_sctp driver with Python types; cffi's untyped values end here.

usrsctp is one stack per process, so this is a module of functions with one state behind it and
not a class. Importing it raises `ImportError` where the extension was not built.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ._usrsctp import ffi, lib

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

FRAME_BYTES_MAX = 256 << 10
RECORDS_MAX = 4096
BATCH_BYTES = 2 << 20
PATHS_MAX = 16

FRAME, UP, LOST, PATH, WRITABLE = 1, 2, 3, 4, 5
PATH_UP, PATH_DOWN, PATH_PRIMARY = 1, 2, 3
NO_RAIL = 255

STAGE_UDP_PORT, STAGE_SOCKET, STAGE_SCTP_PORT, STAGE_THREADS = 1, 2, 3, 4

_RECORD = struct.Struct("=qIIII")
_ADDRESS = struct.Struct("=B16sB")

Record: TypeAlias = tuple[int, int, int, int, int]
"""Link, kind, detail, offset and length of the payload: a `px_record`."""


class StackError(OSError):
    """The stack could not start; `stage` is one of the STAGE constants."""

    def __init__(self, errno: int, stage: int) -> None:
        super().__init__(errno, os.strerror(errno))
        self.stage = stage


@dataclass(frozen=True, slots=True)
class Path:
    """One path of an association as the stack sees it now; times in milliseconds."""

    rail: int
    address: Address
    state: int
    srtt_ms: int
    rto_ms: int
    cwnd_bytes: int
    mtu_bytes: int


@dataclass(frozen=True, slots=True)
class Rail:
    """A rail's network, and the number that its probes carry."""

    network: Network
    tag: int


class Batches:
    """The memory that `poll` fills, made once: records, and the payloads they point into."""

    def __init__(self) -> None:
        self._buffer: Any = ffi.new("uint8_t[]", BATCH_BYTES)
        self._records: Any = ffi.new("px_record[]", RECORDS_MAX)
        self._used: Any = ffi.new("size_t *")
        self.payloads: memoryview = memoryview(ffi.buffer(self._buffer))
        self._record_bytes = memoryview(ffi.buffer(self._records))

    def poll(self) -> list[Record]:
        """All that has happened since the last call, up to a bound; see `Record`."""
        count = lib.px_poll(self._buffer, BATCH_BYTES, self._records, RECORDS_MAX, self._used)
        if count <= 0:
            return []
        return list(_RECORD.iter_unpack(self._record_bytes[: count * _RECORD.size]))


def _fill(address: Any, value: Address) -> None:
    address.family = value.version
    packed = value.packed
    ffi.buffer(address.bytes)[: len(packed)] = packed
    address.rail = NO_RAIL


def _addresses(values: Sequence[Address]) -> Any:
    addresses = ffi.new("px_address[]", max(1, len(values)))
    for i, value in enumerate(values):
        _fill(addresses[i], value)
    return addresses


def _unpack_address(family: int, packed: bytes) -> Address:
    if family == 4:
        return ipaddress.IPv4Address(packed[:4])
    return ipaddress.IPv6Address(packed)


def addresses_of(payload: bytes) -> list[tuple[int, Address]]:
    """The payload of an UP record: rail (or NO_RAIL) and address, the primary path's first."""
    return [
        (rail, _unpack_address(family, packed))
        for family, packed, rail in _ADDRESS.iter_unpack(payload)
    ]


def open_stack(
    *,
    tuning: dict[str, int],
    rails: Sequence[Rail],
    addresses: Sequence[Address],
    port: int,
    udp_port: int,
) -> None:
    """Start the stack and listen on `addresses`; `tuning` has the fields of `px_tuning`.

    Raises:
        StackError: the stack could not start.
    """
    c_rails = ffi.new("px_rail[]", len(rails))
    for i, rail in enumerate(rails):
        c_rails[i].family = rail.network.version
        c_rails[i].prefix_bits = rail.network.prefixlen
        packed = rail.network.network_address.packed
        ffi.buffer(c_rails[i].bytes)[: len(packed)] = packed
        c_rails[i].tag = rail.tag
    stage = ffi.new("int *")
    failed = lib.px_open(
        ffi.new("px_tuning *", tuning),
        c_rails,
        len(rails),
        _addresses(addresses),
        len(addresses),
        port,
        udp_port,
        stage,
    )
    if failed:
        raise StackError(-failed, int(stage[0]))


def close_stack() -> bool:
    """Abort every link and stop; False if the stack keeps its UDP port."""
    return lib.px_close() == 0


def kept_port() -> int:
    """The UDP port that a stack of this process keeps because it would not stop, else 0."""
    return lib.px_kept_port()


def connect(addresses: Sequence[Address], *, port: int, udp_port: int) -> int:
    """Begin an association; the link's number.

    Raises:
        OSError: no socket could be made, or all link slots are taken.
    """
    link = lib.px_connect(_addresses(addresses), len(addresses), port, udp_port)
    if link < 0:
        raise OSError(-link, os.strerror(-link))
    return link


def transmit_many(link: int, stream: int, frames: Sequence[bytes]) -> int:
    """Hand over frames in one call; how many were taken."""
    lengths = array("I", [len(frame) for frame in frames])
    return lib.px_transmit_many(
        link, stream, b"".join(frames), ffi.from_buffer("uint32_t[]", lengths), len(lengths)
    )


def paths(link: int) -> list[Path]:
    """The paths of a link; empty if it is not up."""
    found = ffi.new("px_path[]", PATHS_MAX)
    count = lib.px_paths(link, found, PATHS_MAX)
    return [
        Path(
            rail=path.address.rail,
            address=_unpack_address(path.address.family, bytes(ffi.buffer(path.address.bytes))),
            state=path.state,
            srtt_ms=path.srtt_ms,
            rto_ms=path.rto_ms,
            cwnd_bytes=path.cwnd_bytes,
            mtu_bytes=path.mtu_bytes,
        )
        for path in (found[i] for i in range(count))
    ]


def stats() -> dict[str, int]:
    """The counters of `px_stats`."""
    counters: Any = ffi.new("px_stats *")
    lib.px_get_stats(counters)
    return {name: int(getattr(counters, name)) for name in STATS}


STATS = (
    "frames_sent",
    "bytes_sent",
    "frames_received",
    "bytes_received",
    "frames_refused",
    "frames_dropped_lost",
    "probes_sent",
    "probes_dropped",
    "probes_strayed",
    "nudges_sent",
    "frames_oversized",
    "links_refused",
    "links_up",
    "links_lost",
    "packets_sent",
    "packets_received",
    "retransmitted",
    "checksum_errors",
    "out_of_the_blue",
)

# The calls of the hot path as they are: every argument is a number or bytes.
transmit = lib.px_transmit
probe = lib.px_probe
set_primary = lib.px_set_primary
disconnect = lib.px_disconnect
fileno = lib.px_fileno
wake = lib.px_wake
forget = lib.px_forget
