"""What the core wants done, and the one ordered stream of what happened.

The pump drains these after each turn. A `Command` is for drivers and the disk; `StreamItem`s go
to the attached layers and then to the application, in exactly this order. What is made for every
batch has an `__init__` of its own (`batches.py` says why).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..drivers.base import ALL_PIECES
from ..events import Event, Lane, ViewId
from ..wire_roll import Row


@dataclass(slots=True, init=False)
class Transmit:
    """Hand a frame to a driver; if it is refused, give it back by `Endpoint.refused`."""

    link: int
    stream: int
    frame: bytes
    rail: str | None

    def __init__(self, link: int, stream: int, frame: bytes, rail: str | None = None) -> None:
        self.link = link
        self.stream = stream
        self.frame = frame
        self.rail = rail


@dataclass(slots=True, init=False)
class Cast:
    """Hand a frame to the datagrams of one rail, for each of these nodes; it may be lost."""

    nodes: Sequence[int]
    """(GROUP,): all that listen to the rail's multicast group."""
    rail: str
    frame: bytes
    session: int
    """Of the number; 0: it has none."""
    number: int
    pieces: int
    """Of a numbered frame those whose bits are set."""

    def __init__(
        self,
        nodes: Sequence[int],
        rail: str,
        frame: bytes,
        session: int = 0,
        number: int = 0,
        pieces: int = ALL_PIECES,
    ) -> None:
        self.nodes = nodes
        self.rail = rail
        self.frame = frame
        self.session = session
        self.number = number
        self.pieces = pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Dial a peer; answer with `Endpoint.dialled`."""

    peer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """End an association."""

    link: int
    abort: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPrimary:
    """Make one rail the primary path of an association."""

    link: int
    rail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectLifeline:
    """Open the lifeline to a peer on one rail."""

    peer: int
    rail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropLifelines:
    """Reset the lifelines to a peer."""

    peer: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLifelines:
    """Close every lifeline in good order: this incarnation acts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Persist:
    """Make the record durable; answer with `Endpoint.persisted` or `persist_failed`."""

    token: int
    data: bytes


Command: TypeAlias = (
    Connect | Disconnect | SetPrimary | ConnectLifeline | DropLifelines | CloseLifelines | Persist
)


@dataclass(slots=True, init=False)
class Delivered:
    """Consecutive messages of one sender, in order: one batch."""

    sender: int
    lane: Lane
    channel: str
    directed: bool
    payloads: list[bytes]
    view_id: ViewId
    sequence: int
    """The last batch of the sender's stream on this lane that is delivered with this."""
    size: int
    """Bytes of payload."""

    def __init__(
        self,
        sender: int,
        lane: Lane,
        channel: str,
        directed: bool,
        payloads: list[bytes],
        view_id: ViewId,
        sequence: int,
        size: int,
    ) -> None:
        self.sender = sender
        self.lane = lane
        self.channel = channel
        self.directed = directed
        self.payloads = payloads
        self.view_id = view_id
        self.sequence = sequence
        self.size = size


@dataclass(slots=True, init=False)
class Ordered:
    """The next messages of the agreed order, all of one sender and channel."""

    sender: int
    incarnation: int
    channel: str
    payloads: list[bytes]
    view_id: ViewId
    first: int
    """Position of the first of them in the view, from 1."""
    mark_fifo: int
    """Batches that the sender had numbered on its FIFO lane before these."""
    mark_bulk: int
    size: int
    """Bytes of payload."""
    safe: bool
    """Their sender asks for safe delivery: `Stable` follows."""
    token: int
    """On the sender's own node: of the last of them (`Endpoint.submit`), else 0."""

    def __init__(
        self,
        sender: int,
        incarnation: int,
        channel: str,
        payloads: list[bytes],
        view_id: ViewId,
        first: int,
        mark_fifo: int,
        mark_bulk: int,
        size: int,
        safe: bool,
        token: int,
    ) -> None:
        self.sender = sender
        self.incarnation = incarnation
        self.channel = channel
        self.payloads = payloads
        self.view_id = view_id
        self.first = first
        self.mark_fifo = mark_fifo
        self.mark_bulk = mark_bulk
        self.size = size
        self.safe = safe
        self.token = token


@dataclass(slots=True, init=False)
class Unison:
    """What every member of the view has said in one epoch, all in the same words."""

    channel: str
    payloads: list[bytes]
    """What each of them has said."""
    view_id: ViewId
    first: int
    """Position of the first of them in the view."""
    ranks: list[int]
    """The order of the members, each by its place among all by ascending id."""
    members: list[tuple[int, int]]
    """By rank, who it is and its incarnation."""
    rows: list[Row]
    """By rank, with the marks of each."""
    size: int
    """Bytes of payload of each."""
    safe: bool
    node: int
    token: int
    """On the sender's own node, which is this one, as in `Ordered`."""

    def __init__(
        self,
        channel: str,
        payloads: list[bytes],
        view_id: ViewId,
        first: int,
        ranks: list[int],
        members: list[tuple[int, int]],
        rows: list[Row],
        size: int,
        safe: bool,
        node: int,
        token: int,
    ) -> None:
        self.channel = channel
        self.payloads = payloads
        self.view_id = view_id
        self.first = first
        self.ranks = ranks
        self.members = members
        self.rows = rows
        self.size = size
        self.safe = safe
        self.node = node
        self.token = token

    def each(self) -> list[Ordered]:
        """What each of them has said, one after the other."""
        parts: list[Ordered] = []
        first = self.first
        for rank in self.ranks:
            (member, incarnation), row = self.members[rank], self.rows[rank]
            parts.append(
                Ordered(
                    member,
                    incarnation,
                    self.channel,
                    self.payloads,
                    self.view_id,
                    first,
                    row[2],
                    row[3],
                    self.size,
                    self.safe,
                    self.token if member == self.node else 0,
                )
            )
            first += len(self.payloads)
        return parts


class Stable(NamedTuple):
    """Every member of the view holds its ordered messages up to this position.

    Said when there is something safe among them; at a view change nobody says it, for whoever
    goes on holds all of them.
    """

    view_id: ViewId
    last: int


@dataclass(slots=True, init=False)
class Settled:
    """Every message of a local stream up to `token` has met its fate.

    `missing` is empty when all its addressees hold them; otherwise it names those that do not.
    Tokens are given in order, so a waiter for token t looks for the first `Settled` that
    covers t.
    """

    addressee: int
    lane: Lane
    token: int
    missing: Mapping[int, str]

    def __init__(self, addressee: int, lane: Lane, token: int, missing: Mapping[int, str]) -> None:
        self.addressee = addressee
        self.lane = lane
        self.token = token
        self.missing = missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A local stream that was full accepts messages again."""

    addressee: int
    lane: Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLost:
    """The peers know of a start of this node that its own record does not know of."""

    peer: int
    seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Leaving is complete: the farewell has been sent."""

    acknowledged: bool
    """False if the deadline came before everybody held all messages of this node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateWanted:
    """Others need the application's state as of here; answer with `Endpoint.give_state`.

    Stands directly before the `ViewInstalled` of this view.
    """

    view_id: ViewId


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAwaited:
    """What follows is of no use to the application before `StateArrived` for this view.

    Stands directly before the `ViewInstalled` of this view.
    """

    view_id: ViewId
    donor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StateArrived:
    """The donor's state is here; answer with `Endpoint.synced` when the application has it."""

    view_id: ViewId
    state: bytes | None
    """None: the donor's application has none to give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateVoid:
    """The state of this view is awaited no more, nor taken in: another view has come."""

    view_id: ViewId


@dataclass(frozen=True, slots=True, kw_only=True)
class StateTooLarge:
    """The donor's state is larger than this node takes."""

    donor: int
    size: int


StateItem: TypeAlias = StateWanted | StateAwaited | StateArrived | StateVoid
"""Marks in the stream that tell a face when to ask its application, or to wait."""
StreamItem: TypeAlias = (
    Delivered
    | Ordered
    | Unison
    | Stable
    | Event
    | Settled
    | Room
    | RecordLost
    | Left
    | StateItem
    | StateTooLarge
)


class Outputs:
    """Where the parts of the core put what they want done; the pump takes it all at once."""

    def __init__(self) -> None:
        self.transmits: list[Transmit] = []
        self.casts: list[Cast] = []
        self.commands: list[Command] = []
        self.stream: list[StreamItem] = []
        self.counters: Counter[str] = Counter()

    def take(self) -> tuple[list[Transmit], list[Command], list[StreamItem]]:
        """Everything since the last call."""
        taken = self.transmits, self.commands, self.stream
        self.transmits, self.commands, self.stream = [], [], []
        return taken

    def take_casts(self) -> list[Cast]:
        """Datagrams since the last call."""
        casts, self.casts = self.casts, []
        return casts

    @property
    def pending(self) -> bool:
        """Whether there is anything to take."""
        return bool(self.transmits or self.casts or self.commands or self.stream)
