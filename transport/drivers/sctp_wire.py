"""The SCTP sockets API of Linux in numbers: constants and structure layouts, nothing else.

Taken from `linux/sctp.h` (RFC 6458 with Linux's own values); a test compiles that header and
compares. pysctp names only part of this, and nothing of RFC 7829 or RFC 6951.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import zlib
from dataclasses import dataclass
from typing import Final

IPPROTO_SCTP: Final = 132
SOL_SCTP: Final = 132

# ------------------------------------------------------------------------- socket options

SCTP_RTOINFO: Final = 0
SCTP_ASSOCINFO: Final = 1
SCTP_INITMSG: Final = 2
SCTP_PRIMARY_ADDR: Final = 6
SCTP_PEER_ADDR_PARAMS: Final = 9
SCTP_GET_PEER_ADDR_INFO: Final = 15
SCTP_DELAYED_SACK: Final = 16
SCTP_PEER_ADDR_THLDS: Final = 31
SCTP_RECVRCVINFO: Final = 32
SCTP_PEER_ADDR_THLDS_V2: Final = 37
SCTP_SOCKOPT_BINDX_ADD: Final = 100
SCTP_SOCKOPT_CONNECTX: Final = 110
SCTP_PR_SUPPORTED: Final = 113
SCTP_STREAM_SCHEDULER: Final = 123
SCTP_STREAM_SCHEDULER_VALUE: Final = 124
SCTP_EVENT: Final = 127
SCTP_EXPOSE_POTENTIALLY_FAILED_STATE: Final = 131
SCTP_REMOTE_UDP_ENCAPS_PORT: Final = 132

SCTP_FUTURE_ASSOC: Final = 0
SCTP_PF_EXPOSE_ENABLE: Final = 2
"""Not in the public header: net/sctp/constants.h; the documentation of pf_expose has it."""
SCTP_SS_PRIO: Final = 1
SPP_HB_ENABLE: Final = 1

SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33

# ------------------------------------------------------------------------ ancillary data

CMSG_SNDINFO: Final = 2
CMSG_RCVINFO: Final = 3
CMSG_PRINFO: Final = 5

MSG_NOTIFICATION: Final = 0x8000
SCTP_UNORDERED: Final = 1 << 0
SCTP_ADDR_OVER: Final = 1 << 1
SCTP_PR_SCTP_RTX: Final = 0x0020

# ------------------------------------------------------------------------- notifications

SCTP_ASSOC_CHANGE: Final = 0x8001
SCTP_PEER_ADDR_CHANGE: Final = 0x8002
SCTP_SHUTDOWN_EVENT: Final = 0x8005
SCTP_PARTIAL_DELIVERY_EVENT: Final = 0x8006

SCTP_COMM_UP: Final = 0
SCTP_COMM_LOST: Final = 1
SCTP_RESTART: Final = 2
SCTP_SHUTDOWN_COMP: Final = 3
SCTP_CANT_STR_ASSOC: Final = 4

SCTP_ADDR_AVAILABLE: Final = 0
SCTP_ADDR_UNREACHABLE: Final = 1
SCTP_ADDR_REMOVED: Final = 2
SCTP_ADDR_MADE_PRIM: Final = 4
SCTP_ADDR_CONFIRMED: Final = 5
SCTP_ADDR_POTENTIALLY_FAILED: Final = 6

SCTP_PATH_INACTIVE: Final = 0
SCTP_PATH_POTENTIALLY_FAILED: Final = 1
SCTP_PATH_ACTIVE: Final = 2
SCTP_PATH_UNCONFIRMED: Final = 3

# ------------------------------------------------------------------------------ layouts

_POINTER = struct.calcsize("P")
_STORAGE = 128
"""Size of `struct sockaddr_storage`; it is aligned like a pointer unless its holder is packed."""
_PAD = _POINTER - 4


def _storage_second(tail: str) -> struct.Struct:
    """`struct { sctp_assoc_t id; struct sockaddr_storage address; tail }`, not packed."""
    plain = struct.Struct(f"=i{_PAD}x{_STORAGE}s{tail}")
    return struct.Struct(plain.format + f"{-plain.size % _POINTER}x")


RTOINFO: Final = struct.Struct("=iIII")  # id, initial, max, min
ASSOCPARAMS: Final = struct.Struct("=iHHIII")  # id, max rxt, destinations, rwnd, rwnd, cookie life
INITMSG: Final = struct.Struct("=HHHH")  # out streams, in streams, attempts, max timeout
SACK_INFO: Final = struct.Struct("=iII")  # id, delay, frequency
ASSOC_VALUE: Final = struct.Struct("=iI")
STREAM_VALUE: Final = struct.Struct("=iHH")
EVENT: Final = struct.Struct("=iHBx")  # id, type, on
PADDRPARAMS: Final = struct.Struct(f"=i{_STORAGE}sIHIIIIBx")
"""Packed: id, address, heartbeat, path max retrans, mtu, SACK delay, flags, flow label, dscp."""
PRIM: Final = struct.Struct(f"=i{_STORAGE}s")
PADDRINFO: Final = struct.Struct(f"=i{_STORAGE}siIIII")  # id, address, state, cwnd, srtt, rto, mtu
PADDRTHLDS: Final = _storage_second("HH")  # path max retrans, pf threshold
PADDRTHLDS_V2: Final = _storage_second("HHH")  # the same and the switch-over threshold
UDPENCAPS: Final = _storage_second("2s")  # port in network order
SNDINFO: Final = struct.Struct("=HHIIi")  # stream, flags, ppid, context, id
PRINFO: Final = struct.Struct("=H2xI")  # policy, value
RCVINFO_BYTES: Final = 28
_RCVINFO: Final = struct.Struct("=H2xH2x4s")  # stream, flags, ppid; more follows

_NOTIFICATION: Final = struct.Struct("=HHI")
_ASSOC_CHANGE: Final = struct.Struct("=8xHHHHi")  # state, error, out streams, in streams, id
_PADDR_CHANGE: Final = struct.Struct(f"=8x{_STORAGE}siii")  # address, state, error, id
_PDAPI: Final = struct.Struct("=8xIiII")  # indication, id, stream, sequence

ANY_ADDRESS: Final = struct.pack("=H", socket.AF_INET)
"""The wildcard: an option with it holds for every path of the association."""


@dataclass(frozen=True, slots=True)
class AssociationChange:
    """SCTP_ASSOC_CHANGE."""

    state: int
    error: int
    outbound_streams: int
    inbound_streams: int
    abort_received: bool
    """The peer's ABORT is enclosed."""


@dataclass(frozen=True, slots=True)
class AddressChange:
    """SCTP_PEER_ADDR_CHANGE."""

    address: str
    state: int


@dataclass(frozen=True, slots=True)
class PartialDeliveryAborted:
    """SCTP_PARTIAL_DELIVERY_EVENT: the rest of a message that had begun will not come."""

    stream: int


def pack_address(address: str, port: int) -> bytes:
    """A `sockaddr_in` or `sockaddr_in6`."""
    parsed = ipaddress.ip_address(address)
    network_port = port.to_bytes(2, "big")
    if parsed.version == 4:
        return struct.pack("=H2s4s8x", socket.AF_INET, network_port, parsed.packed)
    return struct.pack("=H2s4x16s4x", socket.AF_INET6, network_port, parsed.packed)


def unpack_address(data: bytes) -> str:
    """The address in a `sockaddr_storage`, IPv4-mapped ones as plain IPv4; empty if unknown."""
    (family,) = struct.unpack_from("=H", data)
    if family == socket.AF_INET:
        return str(ipaddress.IPv4Address(data[4:8]))
    if family == socket.AF_INET6:
        return plain_address(str(ipaddress.IPv6Address(data[8:24])))
    return ""


def plain_address(address: str) -> str:
    """The usual spelling of an address, IPv4-mapped ones as plain IPv4."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def unpack_notification(
    data: bytes,
) -> AssociationChange | AddressChange | PartialDeliveryAborted | None:
    """What a notification says; None for kinds that nobody here acts on, or a short one."""
    if len(data) < _NOTIFICATION.size:
        return None
    kind = _NOTIFICATION.unpack_from(data)[0]
    if kind == SCTP_ASSOC_CHANGE and len(data) >= _ASSOC_CHANGE.size:
        state, error, out_streams, in_streams, _ = _ASSOC_CHANGE.unpack_from(data)
        abort = state == SCTP_COMM_LOST and len(data) > _ASSOC_CHANGE.size
        return AssociationChange(state, error, out_streams, in_streams, abort)
    if kind == SCTP_PEER_ADDR_CHANGE and len(data) >= _PADDR_CHANGE.size:
        address, state, _, _ = _PADDR_CHANGE.unpack_from(data)
        return AddressChange(unpack_address(address), state)
    if kind == SCTP_PARTIAL_DELIVERY_EVENT and len(data) >= _PDAPI.size:
        return PartialDeliveryAborted(_PDAPI.unpack_from(data)[2])
    return None


PROBE_STREAM_BITS: Final = 7
"""The bits of a probe's tag that say on which stream it counts."""


def probe_tag(rail: str, stream: int = 0) -> int:
    """What stands in the payload protocol identifier of a probe: its rail and its stream.

    Equal in every driver. Never 0, which is the identifier of all other frames.
    """
    return (zlib.crc32(rail.encode()) | 8) & ~PROBE_STREAM_BITS | stream


def received_info(data: bytes) -> tuple[int, int]:
    """The stream and, if it is a probe, the tag (else 0) in a `struct sctp_rcvinfo`."""
    stream, flags, identifier = _RCVINFO.unpack_from(data)
    if flags & SCTP_UNORDERED:
        return stream, int.from_bytes(identifier, "big")
    return stream, 0
