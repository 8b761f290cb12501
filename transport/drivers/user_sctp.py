"""SCTP in user space (usrsctp) over UDP encapsulation (RFC 6951): no kernel SCTP, no root.

The protocol runs on threads of the library; they never call Python. They accept newcomers and
mark links as ready behind one eventfd, and `poll` reads the sockets straight into one batch. A
reader that does not poll therefore closes SCTP's own receive window, and nothing is buffered
without bound.

Limits that come from the library: one stack per process, its UDP port bound to the wildcard
address, and no address that appears after `open`.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ..config import SctpTuning
from ..errors import AddressMissing, DriverUnavailable, PortTaken, UsageError
from .base import (
    STREAMS,
    Capabilities,
    Input,
    Link,
    LinkLost,
    LinkUp,
    LocalEndpoint,
    LossReason,
    PathInfo,
    PathNotice,
    PathState,
    PeerEndpoint,
    Received,
    Writable,
)
from .descriptors import hold, release
from .sctp_wire import probe_tag

if TYPE_CHECKING:
    from ..._native import usrsctp as native
else:
    try:
        from ..._native import usrsctp as native
    except ImportError:  # the extension is optional; `open` says what to do
        native = None

LINK_UNMADE_FROM = 1 << 62
"""Links that could not even be begun are numbered from here, out of the C side's way."""

_REASONS = {
    1: LossReason.UNREACHABLE,
    2: LossReason.REFUSED,
    3: LossReason.SHUTDOWN,
    4: LossReason.ABORTED,
    5: LossReason.TIMED_OUT,
    6: LossReason.RESTARTED,
    7: LossReason.LOCAL,
}
_STATES = {1: PathState.UP, 2: PathState.DOWN, 3: PathState.PRIMARY}


class UserSctp:
    """The driver on usrsctp; see `base.Driver` for the contract.

    Only one object per process can be open at a time. After `fork` the child's copy refuses to
    work and holds none of the parent's descriptors.
    """

    def __init__(self, local: LocalEndpoint, tuning: SctpTuning) -> None:
        self._local = local
        self._tuning = tuning
        self._rails = tuple(local.networks)
        self._missing: tuple[str, ...] = ()
        self._closed_because = "it was not opened"
        self._open = False
        self._unmade: list[Input] = []
        self._unmade_count = 0

    # ------------------------------------------------------------------ opening and closing

    @property
    def capabilities(self) -> Capabilities:
        """Reliable, ordered per stream, one rail on request; frames to 256 KiB."""
        return Capabilities(
            name="user_sctp",
            frame_bytes_max=256 << 10,
            reliable=True,
            rail_choice=True,
        )

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails whose local address did not exist when the driver was opened."""
        return self._missing

    def open(self) -> None:
        """Start the stack and listen on the addresses that exist now.

        Raises:
            PortTaken: another process has the UDP port.
            AddressMissing: none of the addresses exists here.
            DriverUnavailable: the extension is not built, or the stack cannot start.
            UsageError: this process has the stack open already.
        """
        global _current  # noqa: PLW0603 - one stack per process: the state is the process's
        if native is None:
            raise DriverUnavailable(
                "the extension for user_sctp is not built: install the usrsctp development "
                "files (Debian: libusrsctp-dev) and build phalanx again"
            )
        if _current is not None:
            raise UsageError(
                "usrsctp is one stack per process and this process has it open already "
                "(or was forked from one that has): close the other driver first, or use a "
                "process for each node"
            )
        present, self._missing = _present(self._local)
        if native.kept_port() == 0:  # else it is this process's own, and `open_stack` judges
            _check_udp_port(self._local.udp_port)
        try:
            native.open_stack(
                tuning=_tuning_fields(self._tuning),
                rails=[
                    native.Rail(network, probe_tag(rail))
                    for rail, network in self._local.networks.items()
                ],
                addresses=list(present.values()),
                port=self._local.port,
                udp_port=self._local.udp_port,
            )
        except native.StackError as error:
            raise self._trouble(error) from error
        self._addresses = present
        self._batches = native.Batches()
        self._open = True
        _current = self
        hold(self)

    def _trouble(self, error: native.StackError) -> Exception:
        """What a failed start means to the caller."""
        if error.errno == errno.EADDRINUSE:
            if error.stage == native.STAGE_UDP_PORT:
                return _udp_port_taken(self._local.udp_port)
            return PortTaken(f"SCTP port {self._local.port} is taken in this process")
        if error.errno == errno.EBUSY:
            return DriverUnavailable(
                "usrsctp could not be stopped after its last use in this process and keeps its "
                "UDP port: use the same udp_port again, or a new process"
            )
        if error.errno == errno.EADDRNOTAVAIL:
            return AddressMissing("usrsctp does not know the addresses of this node")
        return DriverUnavailable(f"usrsctp cannot start (stage {error.stage}): {error.strerror}")

    def close(self) -> None:
        """Abort every link and free everything; idempotent; takes up to about a second."""
        global _current  # noqa: PLW0603 - see `open`
        if not self._open:
            return
        self._open = False
        self._closed_because = "it is closed"
        self._unmade.clear()
        native.close_stack()
        _current = None
        release(self)

    def forked(self) -> None:
        """This is a child process: the library's threads are not here."""
        self._open = False
        self._closed_because = "this process is a fork of the one that opened it"
        native.forget()

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError(f"the driver cannot be used: {self._closed_because}")

    # ------------------------------------------------------------------------------ inputs

    def fileno(self) -> int:
        """An eventfd that is readable while `poll` has something to give."""
        self._check_open()
        return native.fileno()

    def poll(self) -> list[Input]:
        """All frames and notices since the last call, in order per link; bounded in number."""
        self._check_open()
        inputs: list[Input] = []
        if self._unmade:
            inputs, self._unmade = self._unmade, inputs
        payloads = self._batches.payloads
        frame_kind = native.FRAME
        append = inputs.append
        for link, kind, detail, offset, length in self._batches.poll():
            payload = payloads[offset : offset + length].tobytes()
            if kind == frame_kind:
                append(Received(link, detail, payload))
            else:
                append(self._notice(link, kind, detail, payload))
        return inputs

    def _notice(self, link: Link, kind: int, detail: int, payload: bytes) -> Input:
        if kind == native.PATH:
            return PathNotice(link=link, rail=self._rails[payload[0]], state=_STATES[detail])
        if kind == native.UP:
            rails = (rail for rail, _ in native.addresses_of(payload) if rail != native.NO_RAIL)
            names = dict.fromkeys(self._rails[rail] for rail in rails)
            return LinkUp(link=link, accepted=bool(detail), rails=tuple(names))
        if kind == native.WRITABLE:
            return Writable(link=link)
        assert kind == native.LOST, "the C side knows no other kind of record"
        text = payload.decode("utf-8", "replace")
        return LinkLost(link=link, reason=_REASONS[detail], detail=text)

    # ---------------------------------------------------------------------------- commands

    def connect(self, peer: PeerEndpoint) -> Link:
        """Begin an association over the rails that both sides have; see `base.Driver`."""
        self._check_open()
        addresses = [
            ipaddress.ip_address(address)
            for rail, address in peer.addresses.items()
            if rail in self._addresses
        ]
        try:
            return native.connect(addresses, port=peer.port, udp_port=peer.udp_port)
        except OSError as error:
            self._unmade_count += 1
            link = LINK_UNMADE_FROM + self._unmade_count
            self._unmade.append(
                LinkLost(link=link, reason=LossReason.UNREACHABLE, detail=error.strerror or "")
            )
            native.wake()
            return link

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Hand over one frame; False if the link has no room; see `base.Driver`."""
        if not self._open:
            self._check_open()
        length = len(frame)
        if not (0 < length <= native.FRAME_BYTES_MAX and 0 <= stream < STREAMS):
            raise _bad_frame(length, stream)
        if link >= LINK_UNMADE_FROM:
            return True
        if rail is None:
            return native.transmit(link, stream, frame, length) == 1
        native.probe(link, stream, self._place(rail), frame, length)
        return True

    def transmit_many(self, link: Link, stream: int, frames: Sequence[bytes]) -> int:
        """Hand over several frames in one call; how many were taken, from the first on.

        Fewer than `len(frames)` means what False means from `transmit`. Pays from two small
        frames on; large ones are copied once more than by `transmit`.
        """
        self._check_open()
        for frame in frames:
            if not (0 < len(frame) <= native.FRAME_BYTES_MAX and 0 <= stream < STREAMS):
                raise _bad_frame(len(frame), stream)
        if not frames or link >= LINK_UNMADE_FROM:
            return len(frames)
        return native.transmit_many(link, stream, frames)

    def set_primary(self, link: Link, rail: str) -> None:
        """Make that rail's path the primary one; ignored while the path is not up."""
        self._check_open()
        place = self._place(rail)
        if link < LINK_UNMADE_FROM:
            native.set_primary(link, place)

    def _place(self, rail: str) -> int:
        """By which number the C side knows a rail."""
        if rail not in self._rails:
            raise UsageError(f"there is no rail {rail!r}; known are {', '.join(self._rails)}")
        return self._rails.index(rail)

    def disconnect(self, link: Link, *, abort: bool) -> None:
        """End a link; its `LinkLost` has the reason LOCAL; see `base.Driver`."""
        self._check_open()
        if link < LINK_UNMADE_FROM:
            native.disconnect(link, int(abort))

    def paths(self, link: Link) -> list[PathInfo]:
        """The paths of a link now; the library tells round trip times in whole milliseconds."""
        self._check_open()
        if link >= LINK_UNMADE_FROM:
            return []
        return [
            PathInfo(
                rail=self._rails[path.rail],
                address=str(path.address),
                state=_STATES[path.state],
                srtt_us=path.srtt_ms * 1000,
                cwnd_bytes=path.cwnd_bytes,
                details={"rto_ms": path.rto_ms, "mtu_bytes": path.mtu_bytes},
            )
            for path in native.paths(link)
            if path.rail != native.NO_RAIL
        ]

    def stats(self) -> dict[str, int]:
        """Counters since `open`: frames and bytes each way, drops by reason, packets."""
        self._check_open()
        return native.stats()


_current: UserSctp | None = None
"""The driver that has this process's stack open."""


def _bad_frame(length: int, stream: int) -> UsageError:
    if not 0 <= stream < STREAMS:
        return UsageError(f"there is no stream {stream}; streams are 0 to {STREAMS - 1}")
    return UsageError(
        f"a frame has 1 to {native.FRAME_BYTES_MAX} bytes, this one {length}: split it"
    )


def _tuning_fields(tuning: SctpTuning) -> dict[str, int]:
    return {
        "rto_initial_ms": tuning.rto_initial_ms,
        "rto_min_ms": tuning.rto_min_ms,
        "rto_max_ms": tuning.rto_max_ms,
        "sack_delay_ms": tuning.sack_delay_ms,
        "sack_freq": tuning.sack_freq,
        "heartbeat_ms": tuning.heartbeat_ms,
        "path_max_retrans": tuning.path_max_retrans,
        "pf_threshold": tuning.pf_threshold,
        "association_max_retrans": tuning.association_max_retrans,
        "init_attempts": tuning.init_attempts,
        "init_timeout_ms": tuning.init_timeout_ms,
        "send_buffer_bytes": max(tuning.send_buffer_bytes, native.FRAME_BYTES_MAX),
        "receive_buffer_bytes": max(tuning.receive_buffer_bytes, native.FRAME_BYTES_MAX),
        "frame_bytes_max": native.FRAME_BYTES_MAX,
        "streams": STREAMS,
    }


def _present(
    local: LocalEndpoint,
) -> tuple[dict[str, ipaddress.IPv4Address | ipaddress.IPv6Address], tuple[str, ...]]:
    """The addresses that exist here, by rail, and the rails without one."""
    present: dict[str, ipaddress.IPv4Address | ipaddress.IPv6Address] = {}
    for rail, text in local.addresses.items():
        address = ipaddress.ip_address(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((text, 0))
            present[rail] = address
    missing = tuple(rail for rail in local.networks if rail not in present)
    if not present:
        known = ", ".join(local.addresses.values()) or "none is configured"
        raise AddressMissing(f"none of this node's addresses exists on this machine ({known})")
    return present, missing


def _udp_port_taken(port: int) -> PortTaken:
    return PortTaken(
        f"UDP port {port} is taken on this machine by another process; "
        "stop it, or set another udp_port"
    )


def _check_udp_port(port: int) -> None:
    """The library is silent about a taken port, so find out first, as it binds: wildcard."""
    for family, wildcard in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            probe = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            continue  # a machine without IPv6
        with probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((wildcard, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise _udp_port_taken(port) from error
                if family == socket.AF_INET:
                    raise DriverUnavailable(
                        f"UDP port {port} cannot be bound: {error.strerror}"
                    ) from error
