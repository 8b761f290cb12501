"""One association of the kernel driver: its socket, where it is in its life, its paths."""

from __future__ import annotations

import enum
import errno
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import AddressMissing
from . import sctp_wire as wire
from .base import STREAMS, Link, LocalEndpoint, LossReason, Network, PathInfo, PathState
from .sctp_socket import Address, SctpSocket

Ancillary = list[tuple[int, int, bytes]]
_IPPROTO = wire.IPPROTO_SCTP
PATH_STATES = {
    wire.SCTP_ADDR_AVAILABLE: PathState.UP,
    wire.SCTP_ADDR_CONFIRMED: PathState.UP,
    wire.SCTP_ADDR_UNREACHABLE: PathState.DOWN,
    wire.SCTP_ADDR_REMOVED: PathState.DOWN,
    wire.SCTP_ADDR_MADE_PRIM: PathState.PRIMARY,
}
"""What an SCTP_PEER_ADDR_CHANGE says to the core; potentially failed paths are none of these."""
_USABLE = (wire.SCTP_PATH_ACTIVE, wire.SCTP_PATH_POTENTIALLY_FAILED)


def _frame_ancillary(stream: int) -> Ancillary:
    """What goes with an ordinary frame."""
    return [(_IPPROTO, wire.CMSG_SNDINFO, wire.SNDINFO.pack(stream, 0, 0, 0, 0))]


def _probe_ancillary(rail: str, stream: int) -> Ancillary:
    """What goes with a probe: its own path, no order, no retransmission (RFC 3758, RFC 7496)."""
    flags = wire.SCTP_UNORDERED | wire.SCTP_ADDR_OVER
    # The kernel passes the identifier on as it is, so it must be in network order.
    tag = socket.htonl(wire.probe_tag(rail, stream))
    return [
        (_IPPROTO, wire.CMSG_SNDINFO, wire.SNDINFO.pack(stream, flags, tag, 0, 0)),
        (_IPPROTO, wire.CMSG_PRINFO, wire.PRINFO.pack(wire.SCTP_PR_SCTP_RTX, 0)),
    ]


FRAME_ANCILLARY = [_frame_ancillary(stream) for stream in range(STREAMS)]


class Phase(enum.Enum):
    """Where an association is in its life."""

    CONNECTING = enum.auto()
    UP = enum.auto()
    CLOSING = enum.auto()  # our `disconnect` waits for what is still to be carried
    PEER_CLOSING = enum.auto()  # the peer's SHUTDOWN is here; the notice of the end follows


class RailMap:
    """Which rail an address of a peer is on, and what marks the probes of each rail."""

    def __init__(self, networks: Mapping[str, Network]) -> None:
        self._networks = networks
        self._known: dict[str, str] = {}
        self._tags = {rail: wire.probe_tag(rail) for rail in networks}
        self.probe_ancillary = {
            rail: [_probe_ancillary(rail, stream) for stream in range(STREAMS)] for rail in networks
        }
        """What goes with a probe, by rail and stream."""

    def of(self, address: str) -> str | None:
        """The rail whose network holds the address; None if there is none."""
        if address not in self._known:
            parsed = ipaddress.ip_address(address)
            for rail, network in self._networks.items():
                if parsed in network:
                    self._known[address] = rail
                    break
        return self._known.get(address)

    def kept(self, tag: int, address: str) -> bool:
        """Whether a probe with this tag has come from an address on its own rail."""
        rail = self.of(wire.plain_address(address))
        return rail is not None and tag ^ self._tags[rail] <= wire.PROBE_STREAM_BITS


def bind_rails(listener: SctpSocket, local: LocalEndpoint) -> dict[str, str]:
    """Bind to each local address that exists; returns these by rail.

    Raises:
        AddressMissing: none of them exists.
        OSError: EADDRINUSE, ...
    """
    bound: dict[str, str] = {}
    for rail, address in local.addresses.items():
        try:
            listener.bind((address, local.port))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
        else:
            bound[rail] = address
    if not bound:
        listed = ", ".join(f"{item} ({rail})" for rail, item in local.addresses.items())
        raise AddressMissing(f"none of the addresses {listed} exists on this machine")
    return bound


@dataclass(slots=True)
class KernelLink:
    """One association."""

    link: Link
    sock: SctpSocket
    phase: Phase
    descriptor: int
    rails: dict[str, Address] = field(default_factory=dict[str, Address])
    """The peer's address on each rail."""
    destinations: dict[str, Address] = field(default_factory=dict[str, Address])
    """The same, spelt for `sendmsg`."""
    refused: bool = False
    """A frame was refused, so `Writable` is owed."""
    pieces: dict[int, bytearray] = field(default_factory=dict[int, bytearray])
    """Frames of which only a part is here, by stream."""

    def learn_rails(self, rails: RailMap) -> None:
        """Note the peer's address on each rail, the primary one first."""
        primary = self.sock.primary_address()
        for address in sorted(self.sock.peer_addresses(), key=lambda item: item[0] != primary):
            rail = rails.of(address[0])
            if rail is not None and rail not in self.rails:
                self.rails[rail] = address
                self.destinations[rail] = self.sock.destination(address)

    def loss(self, change: wire.AssociationChange) -> tuple[LossReason, str]:
        """Why the association has ended, by its last notification and the socket's error."""
        code = self.sock.error()
        detail = os.strerror(code) if code else ""
        if change.state == wire.SCTP_SHUTDOWN_COMP:
            return LossReason.SHUTDOWN, detail
        if change.state == wire.SCTP_RESTART:
            # The same association in the kernel's eyes, a stranger in ours: begin anew.
            return LossReason.RESTARTED, "the peer set it up anew"
        if change.abort_received:
            return LossReason.ABORTED, detail
        return self.loss_reason(code), detail

    def loss_reason(self, code: int) -> LossReason:
        """What an errno of the socket says about the end of its association."""
        if self.phase is Phase.CONNECTING:
            refused = code in (errno.ECONNREFUSED, errno.ECONNRESET)
            return LossReason.REFUSED if refused else LossReason.UNREACHABLE
        if code in (errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED):
            return LossReason.ABORTED
        return LossReason.TIMED_OUT

    def would_keep_rail(self, rail: str) -> bool:
        """Whether the kernel would send a frame for this rail over this rail.

        A frame for a path that is not active goes over the best of all paths instead, which is
        the same one only if it is merely potentially failed and no other path is better.
        """
        found = {
            name: info.state
            for name, address in self.rails.items()
            if (info := self.sock.peer_address_info(address)) is not None
        }
        own = found.pop(rail, wire.SCTP_PATH_INACTIVE)
        if own != wire.SCTP_PATH_POTENTIALLY_FAILED:
            return own == wire.SCTP_PATH_ACTIVE
        return not any(other in _USABLE for other in found.values())

    def paths(self) -> list[PathInfo]:
        """All paths as the kernel sees them now; empty if the association is gone."""
        primary = self.sock.primary_address()
        found: list[PathInfo] = []
        for rail, address in self.rails.items():
            info = self.sock.peer_address_info(address)
            if info is None:
                continue
            up = PathState.PRIMARY if address[0] == primary else PathState.UP
            found.append(
                PathInfo(
                    rail=rail,
                    address=address[0],
                    state=up if info.state in _USABLE else PathState.DOWN,
                    srtt_us=info.srtt_ms * 1000,
                    cwnd_bytes=info.cwnd_bytes,
                    details={
                        "rto_ms": info.rto_ms,
                        "mtu_bytes": info.mtu_bytes,
                        "potentially_failed": int(info.state == wire.SCTP_PATH_POTENTIALLY_FAILED),
                    },
                )
            )
        return found
