"""Frames over the kernel's own SCTP: one one-to-one socket, and association, per peer.

The listener is bound to the local address of every rail. A dial binds an ephemeral port on all
rails and connects to all addresses of the peer, so that the kernel knows every path. All
sockets are in one epoll set, whose descriptor is the driver's. Data goes through our own
`recvmsg` and `sendmsg`; the socket itself is set up in `sctp_socket.py`.

What Linux does that one would not expect:

* A frame that is addressed to one path goes over *another* one while its own is inactive or
  potentially failed. A probe is therefore sent only while the kernel calls its path active, and
  carries a tag by which the receiver sees whether it kept to its rail.
* SRTT is given in clock ticks (mostly 4 ms), so it is 0 on a fast network.
* Which addresses an INIT lists depends on the scope of the first one: rails with private and
  rails with public addresses in one cluster need `net.sctp.addr_scope_policy = 0`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
from collections import Counter

from ..config import SctpTuning
from ..errors import DriverUnavailable, PortTaken, UsageError
from . import sctp_wire as wire
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
    PeerEndpoint,
    Received,
    Stream,
    Writable,
)
from .kernel_link import FRAME_ANCILLARY, PATH_STATES, KernelLink, Phase, RailMap, bind_rails
from .sctp_socket import SctpSocket, available, check_encapsulation

FRAME_BYTES_MAX = 256 << 10
POLL_INPUTS_MAX = 1024
"""`poll` returns about this many inputs at most; the rest waits for the next call."""
LINK_INPUTS_MAX = 128
"""So many from one link before the next one gets its turn."""
ACCEPTS_MAX = 64

_PRIORITY = (Stream.CONTROL, Stream.ORDERED, Stream.REPAIR, Stream.FIFO, Stream.BULK)
"""Which frames go first when several wait; heartbeats must not queue behind bulk."""
_SEND_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_ANCILLARY_BYTES = socket.CMSG_SPACE(wire.RCVINFO_BYTES)

_CAPABILITIES = Capabilities(
    name="kernel_sctp", frame_bytes_max=FRAME_BYTES_MAX, reliable=True, rail_choice=True
)


class KernelSctp:
    """The driver over the kernel's SCTP; the contract is `base.Driver`.

    `encapsulation_port`, when not 0, sends every packet in UDP to that port of the peer
    (RFC 6951), which is how a kernel node talks to a `user_sctp` node. Linux answers
    encapsulated packets only with `net.sctp.udp_port` set in its network namespace.
    """

    def __init__(
        self, local: LocalEndpoint, tuning: SctpTuning, *, encapsulation_port: int = 0
    ) -> None:
        self._local = local
        self._tuning = tuning
        self._encapsulation_port = encapsulation_port
        six = any(":" in address for address in local.addresses.values())
        self._family = socket.AF_INET6 if six else socket.AF_INET
        self._bound: dict[str, str] = {}
        self._missing: tuple[str, ...] = ()
        self._listener: SctpSocket | None = None
        self._epoll: select.epoll | None = None
        self._wakeup = -1
        self._links: dict[Link, KernelLink] = {}
        self._by_descriptor: dict[int, KernelLink] = {}
        self._next_link: Link = 1
        self._pending: list[Input] = []
        self._counts: Counter[str] = Counter()
        self._rails = RailMap(local.networks)
        self._buffer = memoryview(bytearray(FRAME_BYTES_MAX))

    @property
    def capabilities(self) -> Capabilities:
        """What this driver can do."""
        return _CAPABILITIES

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails whose local address did not exist when the driver was opened."""
        return self._missing

    # ------------------------------------------------------------------ opening, closing

    def open(self) -> None:
        """Bind and listen on the addresses that exist now; see `base.Driver.open`."""
        if self._listener is not None:
            raise UsageError("the driver is open already; close it first")
        listener = self._new_socket(self._encapsulation_port)
        try:
            if self._encapsulation_port:
                check_encapsulation(self._local.udp_port)
            self._bound = bind_rails(listener, self._local)
            listener.listen()
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    f"SCTP port {self._local.port} is taken by another process of this machine "
                    f"at one of {', '.join(self._local.addresses.values())}; stop it or give "
                    "this node another port"
                ) from error
            raise DriverUnavailable(f"the kernel refuses to listen for SCTP: {error}") from error
        except BaseException:
            listener.close()
            raise
        self._missing = tuple(rail for rail in self._local.addresses if rail not in self._bound)
        self._listener = listener
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._epoll.register(listener.sock.fileno(), select.EPOLLIN)

    def _new_socket(self, encapsulation_port: int) -> SctpSocket:
        sock = SctpSocket.open(self._family)
        try:
            sock.configure(self._tuning, streams=STREAMS, encapsulation_port=encapsulation_port)
        except OSError as error:
            sock.close()
            raise DriverUnavailable(f"the kernel refuses an SCTP setting: {error}") from error
        return sock

    def fileno(self) -> int:
        """The epoll descriptor."""
        return self._opened().fileno()

    def close(self) -> None:
        """Abort every link and free everything; idempotent."""
        for state in list(self._links.values()):
            self._forget(state)
        self._pending.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None
            os.close(self._wakeup)

    def _opened(self) -> select.epoll:
        if self._epoll is None:
            raise UsageError("the driver is not open; call open() first")
        return self._epoll

    # ------------------------------------------------------------------------- receiving

    def poll(self) -> list[Input]:
        """All frames and notices since the last call; see `base.Driver.poll`."""
        epoll = self._opened()
        inputs = self._take_pending()
        # Ready descriptors come round-robin, so that a busy link cannot starve the others.
        for descriptor, events in epoll.poll(0):
            if len(inputs) >= POLL_INPUTS_MAX:
                break
            state = self._by_descriptor.get(descriptor)
            if state is not None:
                self._serve(state, events, inputs)
            elif self._listener is not None and descriptor == self._listener.sock.fileno():
                self._accept(inputs)
        inputs.extend(self._take_pending())
        return inputs

    def _take_pending(self) -> list[Input]:
        """Inputs that did not come from a socket."""
        if not self._pending:
            return []
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wakeup)
        pending, self._pending = self._pending, []
        return pending

    def _later(self, item: Input) -> None:
        """Have the next `poll` return this, and `fileno` say so."""
        self._pending.append(item)
        os.eventfd_write(self._wakeup, 1)

    def _accept(self, inputs: list[Input]) -> None:
        for _ in range(ACCEPTS_MAX):
            assert self._listener is not None, "only an open driver polls"
            sock = self._listener.accept()
            if sock is None:
                return
            state = self._add(sock, Phase.UP)
            self._established(state, inputs, accepted=True)

    def _serve(self, state: KernelLink, events: int, inputs: list[Input]) -> None:
        """Read what one socket has, and give back the room it found."""
        if events & ~select.EPOLLOUT:
            for _ in range(LINK_INPUTS_MAX):
                if not self._receive(state, inputs) or state.link not in self._links:
                    break
        if events & select.EPOLLOUT and state.refused and state.link in self._links:
            self._writable(state, inputs)

    def _writable(self, state: KernelLink, inputs: list[Input]) -> None:
        state.refused = False
        self._opened().modify(state.descriptor, select.EPOLLIN)
        inputs.append(Writable(link=state.link))

    def _receive(self, state: KernelLink, inputs: list[Input]) -> bool:
        """Read one message, piece or notification; False if there is none left."""
        try:
            size, ancillary, flags, source = state.sock.sock.recvmsg_into(
                [self._buffer], _ANCILLARY_BYTES, socket.MSG_DONTWAIT
            )
        except BlockingIOError:
            return False
        except OSError as error:
            self._ended(state, state.loss_reason(error.errno or 0), str(error), inputs)
            return False
        if flags & wire.MSG_NOTIFICATION:
            self._notified(state, bytes(self._buffer[:size]), inputs)
            return True
        if size == 0:
            self._end_of_file(state, inputs)
            return False
        stream, tag = wire.received_info(ancillary[0][2]) if ancillary else (0, 0)
        frame: bytes | None
        if flags & socket.MSG_EOR and stream not in state.pieces:
            frame = bytes(self._buffer[:size])
        else:
            frame = self._piece(state, stream, size, bool(flags & socket.MSG_EOR), inputs)
        if frame is not None and (not tag or self._kept_rail(tag, source[0])):
            # A probe may be on a stream of its own; its tag says on which it counts.
            counted = tag & wire.PROBE_STREAM_BITS if tag else stream
            self._frame(state, counted, frame, inputs)
        return True

    def _kept_rail(self, tag: int, source: str) -> bool:
        """A stack may move a probe to another path, where it would say something false."""
        if self._rails.kept(tag, source):
            return True
        self._counts["probes_strayed"] += 1
        return False

    def _frame(self, state: KernelLink, stream: int, frame: bytes, inputs: list[Input]) -> None:
        if stream >= STREAMS:
            self._counts["dropped_stream"] += 1
            return
        self._counts["frames_received"] += 1
        self._counts["bytes_received"] += len(frame)
        inputs.append(Received(state.link, stream, frame))

    def _piece(
        self, state: KernelLink, stream: int, size: int, last: bool, inputs: list[Input]
    ) -> bytes | None:
        """Collect a frame that the kernel hands over in pieces (its receive buffer is full)."""
        whole = state.pieces.setdefault(stream, bytearray())
        whole += self._buffer[:size]
        if len(whole) > FRAME_BYTES_MAX:
            self._counts["dropped_oversized"] += 1
            detail = f"the peer sent a frame of more than {FRAME_BYTES_MAX} bytes"
            self._ended(state, LossReason.ABORTED, detail, inputs)
        elif last:
            return bytes(state.pieces.pop(stream))
        return None

    # --------------------------------------------------------------------- notifications

    def _notified(self, state: KernelLink, data: bytes, inputs: list[Input]) -> None:
        match wire.unpack_notification(data):
            case wire.AssociationChange() as change:
                self._association_changed(state, change, inputs)
            case wire.AddressChange() as change:
                self._address_changed(state, change, inputs)
            case wire.PartialDeliveryAborted(stream):
                state.pieces.pop(stream, None)
                self._counts["dropped_partial"] += 1
            case None:
                self._counts["notifications_ignored"] += 1

    def _association_changed(
        self, state: KernelLink, change: wire.AssociationChange, inputs: list[Input]
    ) -> None:
        if change.state == wire.SCTP_COMM_UP:
            if min(change.outbound_streams, change.inbound_streams) < STREAMS:
                detail = f"the peer has fewer than {STREAMS} streams"
                self._ended(state, state.loss_reason(errno.ECONNRESET), detail, inputs)
            elif state.phase is Phase.CONNECTING:
                self._established(state, inputs, accepted=False)
            return
        reason, detail = state.loss(change)
        self._ended(state, reason, detail, inputs)

    def _address_changed(
        self, state: KernelLink, change: wire.AddressChange, inputs: list[Input]
    ) -> None:
        rail = self._rails.of(change.address)
        if rail is None or state.phase is Phase.CONNECTING:
            return
        found = PATH_STATES.get(change.state)
        if found is None:
            # The core has its own probes for "suspect", the same for every driver.
            self._counts["paths_potentially_failed"] += 1
        else:
            inputs.append(PathNotice(link=state.link, rail=rail, state=found))

    def _established(self, state: KernelLink, inputs: list[Input], *, accepted: bool) -> None:
        state.phase = Phase.UP
        state.sock.schedule_by_priority(_PRIORITY)
        state.learn_rails(self._rails)
        inputs.append(LinkUp(link=state.link, accepted=accepted, rails=tuple(state.rails)))
        if state.refused:
            self._writable(state, inputs)

    def _end_of_file(self, state: KernelLink, inputs: list[Input]) -> None:
        """The peer's SHUTDOWN is here; closing now would abort what it still has to confirm."""
        if state.phase in (Phase.UP, Phase.CLOSING):
            if state.phase is Phase.UP:
                state.phase = Phase.PEER_CLOSING
            # The end of file is readable for ever: from now on only changes wake us.
            self._opened().modify(state.descriptor, select.EPOLLIN | select.EPOLLET)
        elif state.phase is Phase.CONNECTING:
            self._ended(state, LossReason.REFUSED, "closed while connecting", inputs)

    # ---------------------------------------------------------------------- links' lives

    def _add(self, sock: SctpSocket, phase: Phase) -> KernelLink:
        state = KernelLink(
            link=self._next_link, sock=sock, phase=phase, descriptor=sock.sock.fileno()
        )
        self._next_link += 1
        self._links[state.link] = state
        self._by_descriptor[state.descriptor] = state
        self._opened().register(state.descriptor, select.EPOLLIN)
        return state

    def _ended(
        self, state: KernelLink, reason: LossReason, detail: str, inputs: list[Input]
    ) -> None:
        if state.phase is Phase.CLOSING:
            reason = LossReason.LOCAL
        self._forget(state)
        self._counts[f"links_lost_{reason.name.lower()}"] += 1
        inputs.append(LinkLost(link=state.link, reason=reason, detail=detail))

    def _forget(self, state: KernelLink) -> None:
        """Close the socket, which aborts an association that is still there."""
        del self._links[state.link]
        del self._by_descriptor[state.descriptor]
        state.sock.close()

    def connect(self, peer: PeerEndpoint) -> Link:
        """Begin an association over all rails; ends in `LinkUp` or `LinkLost`."""
        self._opened()
        link = self._next_link
        try:
            sock = self._new_socket(peer.udp_port if self._encapsulation_port else 0)
        except DriverUnavailable as error:
            # No descriptor left, for example: that must not stop the other links.
            self._next_link += 1
            self._unreachable(link, error)
            return link
        state = self._add(sock, Phase.CONNECTING)
        # The first INIT goes to the first address: let that be one that we share a rail with.
        rails = sorted(peer.addresses, key=lambda rail: rail not in self._bound)
        try:
            if not rails:
                raise OSError(errno.EDESTADDRREQ, "the peer has no address")
            for address in self._bound.values():
                # A rail may have gone since `open`.
                with contextlib.suppress(OSError):
                    sock.bind((address, 0))
            sock.connect([(peer.addresses[rail], peer.port) for rail in rails])
        except OSError as error:
            self._forget(state)
            self._unreachable(link, error)
        return link

    def _unreachable(self, link: Link, why: Exception) -> None:
        self._counts["links_lost_unreachable"] += 1
        self._later(LinkLost(link=link, reason=LossReason.UNREACHABLE, detail=str(why)))

    def disconnect(self, link: Link, *, abort: bool) -> None:
        """End a link: by an ABORT, or in good order after all accepted frames were carried."""
        self._opened()
        state = self._links.get(link)
        if state is None or (state.phase is Phase.CLOSING and not abort):
            return
        if not abort and state.phase is Phase.UP:
            try:
                state.sock.shutdown()
            except OSError:
                # Already broken: its own notice is on the way, and says LOCAL.
                self._counts["shutdowns_refused"] += 1
            state.phase = Phase.CLOSING
            return
        self._forget(state)
        self._counts["links_lost_local"] += 1
        self._later(LinkLost(link=link, reason=LossReason.LOCAL))

    # --------------------------------------------------------------------------- sending

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Hand over one frame; see `base.Driver.transmit`."""
        if not 0 < len(frame) <= FRAME_BYTES_MAX:
            raise UsageError(f"a frame has 1 to {FRAME_BYTES_MAX} bytes, not {len(frame)}")
        if not 0 <= stream < STREAMS:
            raise UsageError(f"there are streams 0 to {STREAMS - 1}, and not {stream}")
        epoll = self._opened()
        state = self._links.get(link)
        self._check_rail(rail)
        if state is None or state.phase in (Phase.CLOSING, Phase.PEER_CLOSING):
            self._counts["dropped_link_gone"] += 1
            return True
        if rail is not None:
            self._probe(state, stream, frame, rail)
            return True
        if state.refused:
            return False
        if state.phase is Phase.CONNECTING:
            state.refused = True
            return False
        try:
            state.sock.sock.sendmsg([frame], FRAME_ANCILLARY[stream], _SEND_FLAGS)
        except BlockingIOError:
            self._counts["refused"] += 1
            state.refused = True
            epoll.modify(state.descriptor, select.EPOLLIN | select.EPOLLOUT)
            return False
        except OSError:
            # The association is ending; what there is to say about it comes through `poll`.
            self._counts["dropped_link_gone"] += 1
            return True
        self._counts["frames_sent"] += 1
        self._counts["bytes_sent"] += len(frame)
        return True

    def _check_rail(self, rail: str | None) -> None:
        """A rail's name comes from the configuration; a typo must not vanish."""
        if rail is not None and rail not in self._local.networks:
            raise UsageError(f"no rail {rail!r}; there are: {', '.join(self._local.networks)}")

    def _probe(self, state: KernelLink, stream: int, frame: bytes, rail: str) -> None:
        """Send a frame over one rail only, or not at all."""
        if not state.would_keep_rail(rail):
            self._counts["probes_dropped_path"] += 1
            return
        ancillary, where = self._rails.probe_ancillary[rail][stream], state.destinations[rail]
        try:
            state.sock.sock.sendmsg([frame], ancillary, _SEND_FLAGS, where)
        except BlockingIOError:
            self._counts["probes_dropped_full"] += 1
        except OSError:
            self._counts["dropped_link_gone"] += 1
        else:
            self._counts["probes_sent"] += 1

    # ------------------------------------------------------------------- paths, counters

    def set_primary(self, link: Link, rail: str) -> None:
        """Make that rail's path the primary one; without effect if the link has no such path."""
        self._opened()
        self._check_rail(rail)
        state = self._links.get(link)
        address = None if state is None else state.rails.get(rail)
        if state is None or address is None:
            return
        try:
            state.sock.set_primary(address)
        except OSError:
            self._counts["primary_refused"] += 1

    def paths(self, link: Link) -> list[PathInfo]:
        """The paths of a link now; empty if it is gone."""
        self._opened()
        state = self._links.get(link)
        return [] if state is None else state.paths()

    def stats(self) -> dict[str, int]:
        """Counters since `open`: frames and bytes each way, drops by reason."""
        return dict(self._counts)


__all__ = ["FRAME_BYTES_MAX", "KernelSctp", "available"]
