"""What stands in the frames: one place for every layout above the frame header.

The header of 64 bytes and the batch layout are `_native`'s (docs/wire.md), the bodies of DATA,
ROLL and PROBE frames are in `wire_data.py`, `wire_roll.py` and `wire_probe.py`; here are the
control messages, which are MessagePack arrays with a tag. Decoding never raises on what a peer
sent: it returns None and the caller counts.
"""

from __future__ import annotations

import enum
from typing import Annotated, NamedTuple, TypeAlias, TypeVar

import msgspec

from .events import Member, ViewId

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
NodeId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Era: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 2)]  # 32 bits in DATA and PROBE
Ballot: TypeAlias = tuple[Count, NodeId]
"""(number, proposer): compared in that order."""

NO_BALLOT: Ballot = (0, 0)
NO_VIEW = ViewId(0, 0)
ERA_FIRST = 1
"""The era of a first start; each founding by the operator's word begins a higher one."""
FIRST_VIEW = ViewId(ERA_FIRST, 1)


class Kind(enum.IntEnum):
    """What a frame carries."""

    HELLO = 1
    CONTROL = 2
    DATA = 3
    PROBE = 4
    BUNDLE = 5
    ROLL = 6
    STAND = 7
    REPORT = 8
    LINK = 9
    BEACON = 10


# ---------------------------------------------------------------------------- control messages


class Hello(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """The first frame of each side on each association: who is there (PROTOCOL 3, Identity)."""

    cluster: str
    config_hash: str
    node: NodeId
    incarnation: Count
    nonce: Count
    version: Count
    version_oldest: Count
    seen: tuple[Count, Count] = (0, 0)
    """The highest incarnation of the addressee that the sender remembers, with its nonce."""


class CutEntry(NamedTuple):
    """How far one multicast stream of the old view is delivered by everybody."""

    origin: NodeId
    lane: NodeId
    sequence: Count


class ViewValue(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """What an instance decides: the next view and the cut of the one before (PROTOCOL 2)."""

    era: Era
    k: Count
    members: tuple[Member, ...]
    continuing: tuple[NodeId, ...]
    donor: NodeId
    """Who gives its state to those that do not continue; 0 if nobody has any."""
    cut: tuple[CutEntry, ...]
    reasons: dict[NodeId, str]
    """Why each member of the view before is not in this one, in words."""

    @property
    def id(self) -> ViewId:
        return ViewId(self.era, self.k)


class _Control(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag_field="type"):
    pass


class Row(_Control, tag=1, frozen=True):
    """What one node knows of its surroundings; sent on each change and now and then."""

    incarnation: Count
    reach: tuple[Member, ...]
    """Nodes that answered a heartbeat within the suspicion time, the sender included."""
    dead: tuple[Member, ...]
    """Incarnations proven dead or stepped down."""
    left: tuple[Member, ...]
    """Those among them that said farewell."""
    decided: ViewId
    installed: bool
    """The sender is a member of `decided` and has installed it."""
    synced: bool
    """Its application has the state of `decided`, or needs none."""
    leaving: bool
    votes_in_ns: int
    """0: may vote now; above: after so long; -1: not before it was admitted."""
    closed: Count
    """The instance for which the sender has closed its view; 0 if it is open."""
    ballot: Ballot
    grants: dict[NodeId, Count]
    """Members that are granted no more, with the time until the last grant runs out."""
    founding: Era = 0
    """The era that the sender is to found by the operator's word; 0 for none."""
    held_back: dict[NodeId, Count] = {}
    """Joiners that have to be reachable for so long first, for their links come and go."""


class Prepare(_Control, tag=2, frozen=True):
    """Phase 1a: the proposer asks for promises for instance `k`."""

    k: Count
    ballot: Ballot
    members: tuple[Member, ...]
    """L, the members of the next view."""
    known: ViewValue | None
    """The view before, for those who lack it."""
    founding: Era = 0
    """The era that is founded by the operator's word; 0 if `known` or a first start has it."""

    @property
    def id(self) -> ViewId:
        """The view that is to be decided."""
        era = self.known.era if self.known is not None else max(self.founding, ERA_FIRST)
        return ViewId(era, self.k)


class Held(NamedTuple):
    """How far one stream is held without a gap."""

    origin: NodeId
    addressee: NodeId
    lane: NodeId
    sequence: Count


class Promise(_Control, tag=3, frozen=True):
    """Phase 1b, and the report that goes with it."""

    k: Count
    ballot: Ballot
    vote: bool
    accepted_ballot: Ballot
    accepted: ViewValue | None
    installed: ViewId
    """The last view installed by this incarnation; (0, 0) for a newcomer."""
    synced: ViewId
    """The last view of which the application has the state, maybe from a former incarnation."""
    held: tuple[Held, ...]
    """Multicast streams, and directed ones to this node."""
    sent: tuple[Held, ...]
    """Directed streams of this node: how many batches it numbered for each addressee."""


class Nack(_Control, tag=4, frozen=True):
    """A refusal of a PREPARE or ACCEPT, with the highest ballot seen and the reason in words."""

    k: Count
    ballot: Ballot
    highest: Ballot
    reason: str


class Source(NamedTuple):
    """Where what is lacking of one stream can be had."""

    origin: NodeId
    addressee: NodeId
    lane: NodeId
    sequence: Count
    holder: NodeId


class Hold(_Control, tag=5, frozen=True):
    """The members fetch what they lack up to the cut before anything is accepted."""

    k: Count
    ballot: Ballot
    sources: tuple[Source, ...]


class HeldAll(_Control, tag=6, frozen=True):
    """The answer to HOLD: nothing is lacking any more."""

    k: Count
    ballot: Ballot


class Accept(_Control, tag=7, frozen=True):
    """Phase 2a."""

    ballot: Ballot
    value: ViewValue
    dead: tuple[Member, ...]


class Accepted(_Control, tag=8, frozen=True):
    """Phase 2b: durable, and the grants to those left out have run out."""

    k: Count
    ballot: Ballot


class Install(_Control, tag=9, frozen=True):
    """A decided view, to members and to those it leaves out."""

    value: ViewValue


class Farewell(_Control, tag=10, frozen=True):
    """This incarnation has stepped down and acts no more."""

    incarnation: Count


class AckEntry(NamedTuple):
    """How far one stream is held, and how far it was taken (the window moves with that)."""

    origin: NodeId
    addressee: NodeId
    lane: NodeId
    held: Count
    taken: Count
    beyond: Count = 0
    """So many batches have come of those behind a gap: their sender may send as many more."""


class Ack(_Control, tag=11, frozen=True):
    """What the sender holds of the streams of its view.

    `resync` asks to send everything above again: the receiver has a gap.
    """

    view_id: ViewId
    entries: tuple[AckEntry, ...]
    done: Count
    """The highest epoch of which the sender holds everything."""
    resync: bool = False
    frozen: tuple[NodeId, ...] = ()
    """Lanes that the sender's application does not read: nothing more may be numbered for it."""


class End(_Control, tag=12, frozen=True):
    """Closes one epoch of the ordered lane (PROTOCOL 5)."""

    view_id: ViewId
    epoch: Count
    sequence: Count
    """The last batch of the sender's ordered lane that belongs to this epoch or one before."""
    done: Count


class Fetch(_Control, tag=13, frozen=True):
    """Asks a holder for batches of a stream."""

    view_id: ViewId
    origin: NodeId
    addressee: NodeId
    lane: NodeId
    first: Count
    last: Count


class Refuse(_Control, tag=14, frozen=True):
    """Why the sender closes this association; for a configuration, the hash of each key."""

    reason: str
    key_hashes: dict[str, str]
    over: Count = 0
    """The addressee's incarnation, if the sender took it for dead: it must not act again."""


class StateAsk(_Control, tag=15, frozen=True):
    """A newcomer asks the donor of a view for a part of its application's state."""

    view_id: ViewId
    offset: Count
    size: Count
    """How many bytes at most."""
    again: bool
    """The bulk stream seems to stand still: answer on the repair stream."""


class StatePart(_Control, tag=16, frozen=True):
    """A part of the state that the donor's application had when it came to a view."""

    view_id: ViewId
    offset: Count
    size: Count
    """Of the whole state."""
    given: bool
    """False: the donor's application has no state to give."""
    part: bytes


Control: TypeAlias = (
    Row
    | Prepare
    | Promise
    | Nack
    | Hold
    | HeldAll
    | Accept
    | Accepted
    | Install
    | Farewell
    | Ack
    | End
    | Fetch
    | Refuse
    | StateAsk
    | StatePart
)

# --------------------------------------------------------------------------- durable record


class Record(msgspec.Struct, array_like=True, kw_only=True, frozen=True):
    """What a node remembers across restarts (PROTOCOL 1)."""

    cluster: str
    node: NodeId
    incarnation: Count
    decided: ViewValue | None = None
    promised: Ballot = NO_BALLOT
    """For the instance after `decided` only, like `accepted`."""
    accepted_ballot: Ballot = NO_BALLOT
    accepted: ViewValue | None = None
    seen: dict[NodeId, tuple[Count, Count]] = {}
    """The highest incarnation seen of each node, with its nonce: two starts may claim it."""
    voter: bool = True
    """False after the record was lost, until a view has admitted this node."""
    era: Era = 0
    """The highest era that this node was to found by the operator's word; 0 for none."""
    founding: bool = False
    """It is to found that era, and knows no view of it or of a later one."""


_Bytes: TypeAlias = bytes | memoryview
_Decoded = TypeVar("_Decoded")
_encoder = msgspec.msgpack.Encoder()
_control_decoder: msgspec.msgpack.Decoder[Control] = msgspec.msgpack.Decoder(Control)
_hello_decoder = msgspec.msgpack.Decoder(Hello)
_record_decoder = msgspec.msgpack.Decoder(Record)


def encode_message(message: Control | Hello) -> bytes:
    """The body of a CONTROL or HELLO frame."""
    return _encoder.encode(message)


def decode_control(body: _Bytes) -> Control | None:
    """A control message; None if it is malformed."""
    return _decode(_control_decoder, body)


def decode_hello(body: _Bytes) -> Hello | None:
    """A HELLO; None if it is malformed."""
    return _decode(_hello_decoder, body)


def _decode(decoder: msgspec.msgpack.Decoder[_Decoded], body: _Bytes) -> _Decoded | None:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode_record(record: Record) -> bytes:
    """The content of the record file."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record | None:
    """A record; None if it is malformed."""
    return _decode(_record_decoder, data)
