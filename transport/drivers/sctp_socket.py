"""One kernel SCTP socket, typed: the only place that knows pysctp.

pysctp opens, binds and connects the socket and sets what it has a call for. Everything else is
plain `setsockopt` on the same socket, for one of these reasons:

* pysctp has no call (RFC 7829 thresholds, RFC 6951, events of RFC 6458, stream scheduler).
* Its call leaks: the getters and setters of RTO, INIT and association parameters keep a
  reference to every integer they touch, which a node that redials a dead peer pays for ever.
* Its call is built without the `spp_flags` field (SCTP_PEER_ADDR_PARAMS).
* Its `bindx` and `connectx` copy every address through a 16-byte `struct sockaddr`, so that an
  IPv6 address writes past the end of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from ..config import RAILS_MAX, SctpTuning
from ..errors import DriverUnavailable
from . import sctp_wire as wire

Address = tuple[str, int]

LISTEN_BACKLOG = 128
_UDP_PORT_SYSCTL = Path("/proc/sys/net/sctp/udp_port")
_LINGER_ABORT = struct.pack("ii", 1, 0)
_EVENTS = (
    wire.SCTP_ASSOC_CHANGE,
    wire.SCTP_PEER_ADDR_CHANGE,
    wire.SCTP_PARTIAL_DELIVERY_EVENT,
)


class _Pysctp(Protocol):
    """What is used of pysctp's `sctpsocket_tcp`."""

    def sock(self) -> socket.socket: ...
    def bindx(self, addresses: Sequence[Address]) -> None: ...
    def connectx(self, addresses: Sequence[Address]) -> None: ...
    def getpaddrs(self) -> tuple[Address | None, ...]: ...
    def set_nodelay(self, value: bool) -> None: ...
    def set_primary(self, association: int, address: Address) -> None: ...


def _pysctp() -> Any:
    """The module `sctp`; its Python side has no types, and its C side may be missing."""
    try:
        return importlib.import_module("sctp")
    except ImportError as error:
        raise DriverUnavailable(
            f"pysctp cannot be imported ({error}); install it with: pip install pysctp"
        ) from error


_kept_addresses: dict[Address, Address] = {}


def _kept(address: Address) -> Address:
    """The one tuple for an address: pysctp never gives back the tuples that it is handed."""
    return _kept_addresses.setdefault(address, address)


_libc = ctypes.CDLL(None, use_errno=True)


def _getsockopt_in(sock: socket.socket, option: int, request: bytes) -> bytes:
    """`getsockopt` that also reads its buffer, which Python's own cannot do.

    pysctp can, but leaks integers, and this is called for every probe.
    """
    buffer = ctypes.create_string_buffer(request, len(request))
    size = ctypes.c_uint32(len(request))
    if _libc.getsockopt(sock.fileno(), wire.SOL_SCTP, option, buffer, ctypes.byref(size)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return buffer.raw


def available() -> bool:
    """Whether this machine's kernel has SCTP and pysctp is there to use it."""
    try:
        SctpSocket.open(socket.AF_INET).close()
    except DriverUnavailable:
        return False
    return True


def check_encapsulation(udp_port: int) -> None:
    """Linux handles encapsulated packets only if its namespace says on which UDP port.

    Raises:
        DriverUnavailable: it does not; the message says what to set.
    """
    try:
        found = int(_UDP_PORT_SYSCTL.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise DriverUnavailable(
            "this kernel cannot carry SCTP in UDP (Linux 5.11 or later can)"
        ) from error
    if found != udp_port:
        raise DriverUnavailable(
            f"SCTP in UDP needs net.sctp.udp_port = {udp_port}, and it is {found}; as root run: "
            f"sysctl -w net.sctp.udp_port={udp_port}"
        )


@dataclass(frozen=True, slots=True)
class PeerAddressInfo:
    """SCTP_GET_PEER_ADDR_INFO: one path as the kernel sees it."""

    state: int
    cwnd_bytes: int
    srtt_ms: int
    """In whole clock ticks of the kernel, often 4 ms: 0 on a fast network."""
    rto_ms: int
    mtu_bytes: int


class SctpSocket:
    """A non-blocking one-to-one socket. Closing it aborts its association."""

    def __init__(self, handle: _Pysctp, family: int) -> None:
        self._handle = handle
        self._family = family
        self.sock = handle.sock()
        """The plain socket, for the data path."""
        self.sock.setblocking(False)
        # A process that dies without a word must not leave its kernel to finish in good order:
        # with this, closing and dying both send an ABORT at once and free the port.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ABORT)

    @classmethod
    def open(cls, family: int) -> SctpSocket:
        """A new socket in the network namespace of the calling thread.

        Raises:
            DriverUnavailable: the kernel has no SCTP, or pysctp is missing.
        """
        module = _pysctp()
        try:
            plain = socket.socket(family, socket.SOCK_STREAM, wire.IPPROTO_SCTP)
        except OSError as error:
            raise DriverUnavailable(
                f"this kernel has no SCTP ({error.strerror}); load it with `modprobe sctp`, "
                "or use the driver user_sctp"
            ) from error
        return cls(cast(_Pysctp, module.sctpsocket_tcp(family, plain)), family)

    def accept(self) -> SctpSocket | None:
        """The next association that a peer has set up, if there is one."""
        try:
            plain, _ = self.sock.accept()
        except OSError:
            # Nothing there, or the peer has aborted it in the meantime, or no descriptor left:
            # in the last case the association waits in the backlog.
            return None
        return SctpSocket(
            cast(_Pysctp, _pysctp().sctpsocket_tcp(self._family, plain)), self._family
        )

    # ------------------------------------------------------------------------ setting up

    def configure(self, tuning: SctpTuning, *, streams: int, encapsulation_port: int) -> None:
        """Set everything that an association takes over when it begins."""
        self._handle.set_nodelay(True)
        self._buffers(tuning.send_buffer_bytes, tuning.receive_buffer_bytes)
        future = wire.SCTP_FUTURE_ASSOC
        self._set(
            wire.SCTP_INITMSG,
            # A peer over usrsctp has further streams for its probes, one for each rail.
            wire.INITMSG.pack(
                streams, streams + RAILS_MAX, tuning.init_attempts, tuning.init_timeout_ms
            ),
        )
        self._set(
            wire.SCTP_RTOINFO,
            wire.RTOINFO.pack(future, tuning.rto_initial_ms, tuning.rto_max_ms, tuning.rto_min_ms),
        )
        self._set(
            wire.SCTP_ASSOCINFO,
            wire.ASSOCPARAMS.pack(future, tuning.association_max_retrans, 0, 0, 0, 0),
        )
        self._set(
            wire.SCTP_DELAYED_SACK,
            wire.SACK_INFO.pack(future, tuning.sack_delay_ms, tuning.sack_freq),
        )
        self._set(
            wire.SCTP_PEER_ADDR_PARAMS,
            wire.PADDRPARAMS.pack(
                future,
                wire.ANY_ADDRESS,
                tuning.heartbeat_ms,
                tuning.path_max_retrans,
                0,
                0,
                wire.SPP_HB_ENABLE,
                0,
                0,
            ),
        )
        self._quick_failover(tuning)
        for event in _EVENTS:
            self._set(wire.SCTP_EVENT, wire.EVENT.pack(future, event, 1))
        self._set(wire.SCTP_RECVRCVINFO, struct.pack("=i", 1))
        # Without partial reliability a probe would be retransmitted on the other rails.
        self._set(wire.SCTP_PR_SUPPORTED, wire.ASSOC_VALUE.pack(future, 1))
        if encapsulation_port:
            port = encapsulation_port.to_bytes(2, "big")
            self._set(
                wire.SCTP_REMOTE_UDP_ENCAPS_PORT,
                wire.UDPENCAPS.pack(future, wire.ANY_ADDRESS, port),
            )

    def _buffers(self, send_bytes: int, receive_bytes: int) -> None:
        """Ask for the sizes; with CAP_NET_ADMIN also beyond net.core.wmem_max and rmem_max."""
        for forced, ordinary, size in (
            (wire.SO_SNDBUFFORCE, socket.SO_SNDBUF, send_bytes),
            (wire.SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_bytes),
        ):
            # The kernel doubles what it is given, to allow for its own overhead.
            try:
                self.sock.setsockopt(socket.SOL_SOCKET, forced, size)
            except PermissionError:
                self.sock.setsockopt(socket.SOL_SOCKET, ordinary, size)

    def _quick_failover(self, tuning: SctpTuning) -> None:
        """RFC 7829: data leaves a path after `pf_threshold` timeouts, and we are told."""
        retrans, threshold = tuning.path_max_retrans, tuning.pf_threshold
        never_switch_primary = 0xFFFF
        future, anywhere = wire.SCTP_FUTURE_ASSOC, wire.ANY_ADDRESS
        try:
            self._set(
                wire.SCTP_PEER_ADDR_THLDS_V2,
                wire.PADDRTHLDS_V2.pack(future, anywhere, retrans, threshold, never_switch_primary),
            )
            exposed = wire.ASSOC_VALUE.pack(future, wire.SCTP_PF_EXPOSE_ENABLE)
            self._set(wire.SCTP_EXPOSE_POTENTIALLY_FAILED_STATE, exposed)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            # Kernels before 5.5 have only the first form, and tell nobody.
            self._set(
                wire.SCTP_PEER_ADDR_THLDS,
                wire.PADDRTHLDS.pack(future, anywhere, retrans, threshold),
            )

    def schedule_by_priority(self, streams: Iterable[int]) -> None:
        """Send waiting frames of earlier streams first; only once the association is up."""
        current = wire.SCTP_FUTURE_ASSOC
        # Kernels before 4.15 have no schedulers: then frames go in the order given.
        with contextlib.suppress(OSError):
            scheduler = wire.ASSOC_VALUE.pack(current, wire.SCTP_SS_PRIO)
            self._set(wire.SCTP_STREAM_SCHEDULER, scheduler)
            for priority, stream in enumerate(streams):
                value = wire.STREAM_VALUE.pack(current, stream, priority)
                self._set(wire.SCTP_STREAM_SCHEDULER_VALUE, value)

    def bind(self, address: Address) -> None:
        """Add one address; further ones take over the port of the first if theirs is 0.

        Raises:
            OSError: EADDRINUSE, EADDRNOTAVAIL, ...
        """
        if self._family == socket.AF_INET:
            self._handle.bindx([_kept(address)])
        else:
            self._set(wire.SCTP_SOCKOPT_BINDX_ADD, wire.pack_address(*address))

    def listen(self) -> None:
        self.sock.listen(LISTEN_BACKLOG)

    def connect(self, addresses: Sequence[Address]) -> None:
        """Begin an association with a peer that has all these addresses.

        Raises:
            OSError: the attempt failed at once (no route, ...).
        """
        try:
            if self._family == socket.AF_INET:
                self._handle.connectx([_kept(address) for address in addresses])
            else:
                packed = b"".join(wire.pack_address(*address) for address in addresses)
                self._set(wire.SCTP_SOCKOPT_CONNECTX, packed)
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                raise

    # ------------------------------------------------------------- looking and steering

    def peer_addresses(self) -> list[Address]:
        """All addresses of the peer; empty once the association is gone."""
        try:
            found = self._handle.getpaddrs()
        except OSError:
            return []
        return [(wire.plain_address(item[0]), item[1]) for item in found if item is not None]

    def primary_address(self) -> str:
        """The peer's primary address; empty once the association is gone."""
        try:
            data = self.sock.getsockopt(wire.SOL_SCTP, wire.SCTP_PRIMARY_ADDR, wire.PRIM.size)
        except OSError:
            return ""
        return wire.unpack_address(wire.PRIM.unpack(data)[1])

    def peer_address_info(self, address: Address) -> PeerAddressInfo | None:
        """The state of one path; None if the association or the path is gone."""
        request = wire.PADDRINFO.pack(0, wire.pack_address(*address), 0, 0, 0, 0, 0)
        try:
            data = _getsockopt_in(self.sock, wire.SCTP_GET_PEER_ADDR_INFO, request)
        except OSError:
            return None
        _, _, state, cwnd, srtt, rto, mtu = wire.PADDRINFO.unpack(data)
        return PeerAddressInfo(state, cwnd, srtt, rto, mtu)

    def set_primary(self, address: Address) -> None:
        """Make the path to that address of the peer the primary one.

        Raises:
            OSError: the association is gone or has no such path.
        """
        self._handle.set_primary(0, address)

    def destination(self, address: Address) -> Address:
        """How the plain socket wants a destination address spelt."""
        if self._family == socket.AF_INET6 and ":" not in address[0]:
            return (f"::ffff:{address[0]}", address[1])
        return address

    def error(self) -> int:
        """The pending error of the socket, and clear it."""
        return self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def shutdown(self) -> None:
        """Begin to end the association in good order; SHUTDOWN_COMP follows."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close; an association that is still there is aborted."""
        self.sock.close()

    def _set(self, option: int, value: bytes) -> None:
        self.sock.setsockopt(wire.SOL_SCTP, option, value)
