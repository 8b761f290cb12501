"""The contract between the core and whatever carries its frames.

A driver does I/O and decides nothing: it opens associations when told to, carries whole frames,
and reports what it sees. It owns no asyncio, no thread that calls Python and no timer of the
protocol. Its pump (`Cluster`, or a test) does three things: watch `fileno()` for readability,
call `poll()` when it is readable, and call the commands below.

One association (a `Link`) leads to one peer over all rails at once. A link is a positive
integer that is never used twice by one driver object. Who the peer *is* comes from the frames
(HELLO), never from an address; for an accepted link the driver does not know it.

Beside it there may be `Datagrams`: small frames that may arrive soon, or never. They promise
nothing, and have neither links nor notices.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeAlias

Link: TypeAlias = int
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Stream(enum.IntEnum):
    """SCTP streams of an association: one per lane and one for repair.

    Frames of one stream arrive in order; streams do not wait for each other.
    """

    CONTROL = 0
    ORDERED = 1
    FIFO = 2
    BULK = 3
    REPAIR = 4


STREAMS: Final = len(Stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a driver can do."""

    name: str
    frame_bytes_max: int
    """Largest frame that `transmit` takes; at least 65,536."""
    reliable: bool
    """Frames arrive, in order per stream, while the link lives."""
    rail_choice: bool
    """`transmit(..., rail=...)` sends on that rail only."""
    multicast: bool = False


class Group(NamedTuple):
    """A multicast group on one rail."""

    address: str
    port: int
    hops: int = 1
    """How many routers a packet to it may pass, plus one (TTL, or the hop limit of IPv6)."""
    interface: int = 0
    """Index of the interface of an IPv6 rail; an IPv4 one is known by this node's address."""
    looped: bool = False
    """Other nodes are on this machine: what this one sends has to come back to it for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEndpoint:
    """Where a driver listens."""

    node: int
    addresses: Mapping[str, str]
    """Rail name to local address; one address on each rail."""
    networks: Mapping[str, Network]
    """Rail name to network, for *all* rails: tells which rail a peer's address is on."""
    port: int
    udp_port: int
    datagram_port: int = 0
    """UDP port of `Datagrams`; 0 for none."""
    groups: Mapping[str, Group] = field(default_factory=dict[str, Group])
    """Rail name to the multicast group of all nodes there; empty if `Datagrams` have none."""
    beacons: Mapping[str, Group] = field(default_factory=dict[str, Group])
    """The same for beacons; empty if there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEndpoint:
    """Where a peer listens."""

    node: int
    addresses: Mapping[str, str]
    port: int
    udp_port: int
    datagram_port: int = 0
    """Where its `Datagrams` come from and go to; 0 for nowhere."""


# ------------------------------------------------------------------------- what poll() gives


class Received(NamedTuple):
    """One whole frame."""

    link: Link
    stream: int
    frame: bytes


class LossReason(enum.Enum):
    """Why a link is gone. All of them are suspicion, none is proof of a death.

    A process that is restarted and dials from the port of a link it had before takes that link's
    place in the peer's stack (SCTP_RESTART, RFC 9260 5.2.4). A link stands for one process, so
    that both sides lose it (RESTARTED here, ABORTED there) and dial again.
    """

    UNREACHABLE = enum.auto()  # a connect attempt got no answer, or no route
    REFUSED = enum.auto()  # a connect attempt was aborted by the other side
    SHUTDOWN = enum.auto()  # the peer closed it in good order
    ABORTED = enum.auto()  # the peer, or its kernel, aborted it
    TIMED_OUT = enum.auto()  # too many retransmissions
    RESTARTED = enum.auto()  # the peer set it up anew under our feet; it is to be dialled anew
    LOCAL = enum.auto()  # our own `disconnect`


class PathState(enum.Enum):
    """What the transport protocol itself reports of one path."""

    UP = enum.auto()
    DOWN = enum.auto()
    PRIMARY = enum.auto()  # now the primary path (and up)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUp:
    """An association is established; frames may be transmitted."""

    link: Link
    accepted: bool
    """True if the peer connected to us."""
    rails: tuple[str, ...]
    """Rails on which the peer gave an address, in the order of preference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkLost:
    """The association is gone and its number is not used again."""

    link: Link
    reason: LossReason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathNotice:
    """The transport protocol's view of one path has changed."""

    link: Link
    rail: str
    state: PathState


@dataclass(frozen=True, slots=True, kw_only=True)
class Writable:
    """A link that refused a frame takes frames again."""

    link: Link


Notice: TypeAlias = LinkUp | LinkLost | PathNotice | Writable
Input: TypeAlias = Received | Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class PathInfo:
    """One path of a link, as the transport protocol sees it now."""

    rail: str
    address: str
    state: PathState
    srtt_us: int
    """Smoothed round trip time in microseconds; 0 while unknown."""
    cwnd_bytes: int = 0
    details: Mapping[str, int] = field(default_factory=dict[str, int])


class Driver(Protocol):
    """What every driver offers. All calls return at once and come from one thread.

    Raises only `errors.EnvironmentTrouble` and below, and only from `open`; `UsageError` for a
    call that breaks this contract (a frame of 0 bytes or over `frame_bytes_max`, use after
    close). Everything that happens to a link is reported by `poll`.
    """

    @property
    def capabilities(self) -> Capabilities: ...

    def open(self) -> None:
        """Bind and listen on the addresses that exist now.

        An address that is missing (a rail absent at start) is left out and named by
        `missing_rails`; it must not stop the others.

        Raises:
            PortTaken: another process has the port.
            AddressMissing: none of the addresses exists here.
            DriverUnavailable: this machine cannot run the driver.
        """
        ...

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails whose local address did not exist when the driver was opened."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable while `poll` has something to give."""
        ...

    def poll(self) -> list[Input]:
        """All frames and notices since the last call, in order per link; bounded in number.

        If the bound cuts the list, `fileno()` stays readable.
        """
        ...

    def connect(self, peer: PeerEndpoint) -> Link:
        """Begin an association over all rails; ends in `LinkUp` or `LinkLost`."""
        ...

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Hand over one frame; False if the link has no room (then `Writable` follows).

        With `rail`, the frame goes to the peer's address on that rail only, unordered, and is
        not retransmitted there or elsewhere (RFC 3758): a probe says something about its own
        rail or nothing. A probe that finds no room is dropped and True is returned. An unknown
        or lost link swallows the frame and returns True: its `LinkLost` is on its way.
        """
        ...

    def set_primary(self, link: Link, rail: str) -> None:
        """Make that rail's path the primary one."""
        ...

    def disconnect(self, link: Link, *, abort: bool) -> None:
        """End a link: by an ABORT, or in good order after all accepted frames were carried."""
        ...

    def paths(self, link: Link) -> list[PathInfo]:
        """The paths of a link now; empty if it is gone."""
        ...

    def stats(self) -> dict[str, int]:
        """Counters since `open`: frames and bytes each way, drops by reason."""
        ...

    def close(self) -> None:
        """Abort every link and free everything; idempotent."""
        ...


# ------------------------------------------------------------------------------- datagrams

DATAGRAM_BYTES_MAX: Final = 1400
"""Fits into one packet of 1,500 bytes over IPv6, and over a tunnel or two."""
PIECES_MAX: Final = 46
"""Packets of one frame: together they are as long as UDP allows one to be."""
PIECE_HEAD_BYTES: Final = 16
CAST_BYTES_MAX: Final = PIECES_MAX * (DATAGRAM_BYTES_MAX - PIECE_HEAD_BYTES)
"""Of a frame that is cut into pieces (docs/wire.md): 63,664, a batch of 60 KiB and its headers."""
DATAGRAMS_POLL_MAX: Final = 256
"""Most datagrams of one `poll`: what comes in must not keep what goes out waiting."""
DATAGRAMS_POLL_BYTES: Final = 1 << 20
"""The same for large ones: a poll ends at the datagram that reaches this."""


PARITIES: Final = 1 << 63
"""Among the bits of a frame's pieces: sums of them, from each of which one that is lost follows."""
ALL_PIECES: Final = PARITIES - 1
PARITY_SPAN: Final = 12
"""So many pieces have one parity at least."""
GROUP: Final = 0
"""In place of a node: all others that listen to the multicast group of a rail."""
SESSION_MAX: Final = (1 << 16) - 1
NUMBERS: Final = 1 << 32
"""Numbers of frames begin anew after so many."""

Datagram: TypeAlias = tuple[int, str, bytes, int, int]
"""One frame that came as a datagram, or a copy of one: the node whose address it came from (anybody
on the rail can claim that), the rail, and the frame; its session and number, 0 if it has none."""


class Incomplete(NamedTuple):
    """A numbered frame of which some pieces have come."""

    node: int
    session: int
    number: int
    missing: int
    """A bit for each piece."""


class Datagrams(Protocol):
    """Frames of one packet or a few, beside the driver, for what is sent again if it is lost.

    A frame may be lost, come twice, late, or never on any rail (a firewall): whoever casts one
    finds out otherwise whether it has arrived. One that is cast with a session and a number comes
    with them, so that its receiver can see what is missing, and single pieces of it can be sent
    again. All calls return at once, from one thread.

    Raises `UsageError` for a call that breaks this contract (a frame of 0 bytes or over
    `frame_bytes_max`, a rail that is not configured, use after close or in a forked child), and
    nothing else: trouble of the environment is counted.
    """

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that `cast` takes."""
        ...

    def open(self) -> None:
        """Take the address of each rail; one that cannot be had is left out."""
        ...

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails that could not be opened: nothing is cast or received there."""
        ...

    @property
    def group_rails(self) -> tuple[str, ...]:
        """Rails with a multicast group that this node has joined."""
        ...

    def learn(self, peer: PeerEndpoint) -> None:
        """Where a peer is from now on."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable while `poll` has something to give."""
        ...

    def poll(self, *, patient: bool = False) -> list[Datagram]:
        """What has come since the last call, but not too much.

        It ends at about `DATAGRAMS_POLL_MAX` or `DATAGRAMS_POLL_BYTES`; packets that the kernel
        gives as one count once. If a bound cuts the list, `fileno()` stays readable. `patient`
        lets other processes of this processor go first, where there are any: they may be about to
        send.
        """
        ...

    def cast(self, nodes: Sequence[int], rail: str, frame: bytes) -> None:
        """Send one frame to the addresses of several nodes on one rail, or lose it.

        To `(GROUP,)` it is sent once, to the rail's multicast group.
        """
        ...

    def cast_numbered(
        self,
        nodes: Sequence[int],
        rail: str,
        frame: bytes,
        session: int,
        number: int,
        pieces: int = ALL_PIECES,
    ) -> None:
        """The same for a frame with a number, or for those of its pieces whose bits are set.

        `PARITIES` is one of the bits, and is for a frame of several pieces. A session is 1 to
        `SESSION_MAX`, a number below `NUMBERS`.
        """
        ...

    def incomplete(self) -> list[Incomplete]:
        """Numbered frames of which something is missing, whatever rail the rest came by.

        Their number is bounded: the one that was touched least lately makes room for another.
        """
        ...

    @property
    def overruns(self) -> int:
        """How many datagrams the kernel has had no room for, as far as it has said so."""
        ...

    def stats(self) -> dict[str, int]:
        """Counters since `open`: datagrams and bytes each way, drops by reason."""
        ...

    def close(self) -> None:
        """Free everything; idempotent."""
        ...
