"""All that an application ever sees: views, messages and what happened to paths and peers.

Events leave the core as one ordered stream: a message is delivered in the view in which it was
numbered, and each `ViewInstalled` stands behind the last message of the view before.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import msgspec


class ViewId(NamedTuple):
    """Names a view: views form one sequence, ordered by (era, k)."""

    era: int
    k: int

    def __str__(self) -> str:
        return f"{self.era}.{self.k}"


class Member(NamedTuple):
    """A node as a member of a view: its id and which of its starts it is."""

    node: int
    incarnation: int


class Lane(enum.IntEnum):
    """Numbering, FIFO order and flow control are per sender and lane."""

    CONTROL = 0
    ORDERED = 1
    FIFO = 2
    BULK = 3

    # A key of tables that are read in each turn; the hash of an enumeration is made in Python.
    __hash__ = int.__hash__


MULTICAST = (Lane.ORDERED, Lane.FIFO, Lane.BULK)
"""The lanes on which messages go to all members."""


class Position(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in the agreed order; grows for ever across views."""

    era: int
    k: int
    index: int
    """From 1 in each view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """An agreed membership."""

    id: ViewId
    incarnations: tuple[Member, ...]
    """Members with their incarnations, in ascending order of node id."""
    continuing: tuple[int, ...] = ()
    """Members that carry the state of the view before; the others are newcomers."""

    @property
    def members(self) -> tuple[int, ...]:
        """Node ids in ascending order."""
        return tuple(member.node for member in self.incarnations)


class RailState(enum.Enum):
    """How a peer is reached over one rail."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStatus:
    """How one peer is reached over one rail."""

    carrier: str
    state: RailState
    rtt_us: int
    """Smoothed round trip of our own heartbeats, in microseconds; 0 while unknown."""
    primary: bool
    failovers: int
    """How often the traffic moved to this rail."""
    reason: str = ""
    """Of the primary rail: why this carrier, and by what way multicasts go, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lateness:
    """How late a member closes the epochs of the agreed order, as this node learnt of it."""

    epochs: int
    """In so many."""
    mean_ns: int
    """How much later than the first member."""
    worst_ns: int
    waited_ns: int
    """How long it is waited for at this moment; 0: it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a member, unchanged, at most once, in the order its sender sent it."""

    sender: int
    payload: bytes
    channel: str = ""
    lane: Lane = Lane.FIFO
    view_id: ViewId
    directed: bool = False
    """True if it was sent to this node alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Consecutive messages of one sender on one channel, in the order sent."""

    sender: int
    payloads: list[bytes]
    channel: str = ""
    lane: Lane = Lane.FIFO
    view_id: ViewId
    directed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewInstalled:
    """No message sent in an older view is delivered after this event."""

    view: View
    joined: tuple[int, ...]
    """Members that were not in the view before, or are there with a new incarnation."""
    left: Mapping[int, str]
    """Former members by node id, with the reason in words."""
    started_over: bool = False
    """Nobody carries the state of the view before: `View.continuing` is empty."""
    donor: int = 0
    """Whose state the members get that do not continue; 0 if nobody needs state, or has any."""
    synced: bool = True
    """Whether this node's application has the state of this view now. If not, a newer view came
    before the state did: its multicasts are left out here, and the state of a newer view follows.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChanged:
    """A peer is now reached differently over one rail."""

    peer: int
    rail: str
    state: RailState
    primary: bool
    """True if this rail now carries the traffic to the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierChanged:
    """A peer is now reached by SCTP, or by datagrams alone; nothing was lost, no view changes."""

    peer: int
    multicast: bool
    """True: by datagrams alone, the multicast carrier."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticastChanged:
    """What this node sends to a rail's multicast group begins to arrive at a peer, or does not.

    Where it does not, the peer is sent its own copies. A switch may not pass multicasts on (IGMP
    snooping without a querier), or the peer's host may not have joined the group.
    """

    peer: int
    rail: str
    arrives: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageUndelivered:
    """A message that was accepted did not reach everybody, and nobody waits on its receipt."""

    missing: Mapping[int, str]
    """Why, by node id."""
    channel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryLost:
    """No contact to a majority for a lease: sends and barriers raise `NoQuorum` from here on,
    until the majority is back in this view or a next one is installed.
    """

    view_id: ViewId
    reachable: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryRegained:
    """This node acts again after `PrimaryLost`: in the same view, or in one installed since."""

    view_id: ViewId


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """The cluster goes on without this node; nothing follows in this incarnation.

    `view_id` is the view that was decided without it, or the last that it knows of.
    """

    view_id: ViewId


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoined:
    """The node is back, as a newcomer with a new incarnation."""

    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordUnwritable:
    """The durable record cannot be written: this node has no vote until it can be again."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRefused:
    """A peer that may not join was turned away; said once per reason and peer."""

    peer: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StateOverdue:
    """This newcomer still waits for the state of its view: messages of that view are held back."""

    view_id: ViewId
    donor: int
    """Who is to give its state: its application must read, or nothing comes."""
    received_bytes: int
    size_bytes: int | None
    """None: not even the size is known, for the donor has not come to that view."""


Event: TypeAlias = (
    Message
    | ViewInstalled
    | PathChanged
    | MulticastChanged
    | CarrierChanged
    | MessageUndelivered
    | PrimaryLost
    | PrimaryRegained
    | Evicted
    | Rejoined
    | PeerRefused
    | RecordUnwritable
    | StateOverdue
)
