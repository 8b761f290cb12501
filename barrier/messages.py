"""The entries that barriers publish in the agreed order, and their msgpack form.

Structs travel as arrays: a later version may append fields with defaults, which older readers
skip. Every entry names the view in which it was made, because a transport that is in the middle
of a view change numbers what it has queued in the *next* view, where the core publishes what is
still open anew; without the stamp an arrival could count twice.
"""

from __future__ import annotations

import enum
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from phalanx.transport.config import NAME_BYTES_MAX, NODE_ID_MAX, NODES_MAX
from phalanx.transport.events import Member, Position, ViewId

CARRIED_MAX = 256
"""Most generations of one name that one entry carries over from earlier views."""

NodeId: TypeAlias = Annotated[int, Meta(ge=1, le=NODE_ID_MAX)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]


class Strength(enum.Enum):
    """What a party knows when its wait returns."""

    ARRIVED = "arrived"
    """All parties have arrived."""
    AGREED = "agreed"
    """And every message that they multicast before is delivered here."""


class Cause(enum.Enum):
    """Why a party takes its arrival back."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"


class AllParties(msgspec.Struct, frozen=True, array_like=True, tag="all"):
    """Every member of the view in which the first arrival is ordered."""


class Count(msgspec.Struct, frozen=True, array_like=True, tag="count"):
    """The first `n` distinct members to arrive."""

    n: Annotated[int, Meta(ge=1, le=NODES_MAX)]


class Named(msgspec.Struct, frozen=True, array_like=True, tag="named"):
    """These nodes, whether or not they are members yet; make one with `named`."""

    nodes: Annotated[tuple[NodeId, ...], Meta(min_length=1, max_length=NODES_MAX)]
    """In ascending order."""


Parties: TypeAlias = AllParties | Count | Named


class Carried(msgspec.Struct, frozen=True, array_like=True):
    """The whole state of a generation that is still open from an earlier view."""

    opened: Position
    parties: Parties
    strength: Strength
    members: Annotated[tuple[Member, ...], Meta(max_length=NODES_MAX)]
    """The fixed parties of an `AllParties` generation; empty for the others."""
    arrived: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=NODES_MAX)]
    """In the order of arrival."""


class Arrive(msgspec.Struct, frozen=True, array_like=True, tag="arrive"):
    """Its sender has arrived, or carries an arrival over from an earlier view."""

    view: ViewId
    name: Name
    serial: int
    """The sender's ticket; tells its arrivals apart."""
    parties: Parties
    strength: Strength
    counted: bool
    """The sender is among the arrived of a carried generation: only adopt, count nothing."""
    carried: Annotated[tuple[Carried, ...], Meta(max_length=CARRIED_MAX)]
    """Generations of this name from earlier views that may not be known to everybody yet."""


class Withdraw(msgspec.Struct, frozen=True, array_like=True, tag="withdraw"):
    """Its sender takes back its arrival, which breaks the generation unless it is released."""

    view: ViewId
    name: Name
    serial: int
    cause: Cause
    carried: Annotated[tuple[Carried, ...], Meta(max_length=CARRIED_MAX)]


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Arrive | Withdraw] = msgspec.msgpack.Decoder(Arrive | Withdraw)


def named(nodes: frozenset[int] | set[int]) -> Named:
    """The party set of these node ids in its one canonical form."""
    return Named(nodes=tuple(sorted(nodes)))


def settings_in_words(parties: Parties, strength: Strength) -> str:
    """For error messages: what one side of a disagreement asked for."""
    match parties:
        case AllParties():
            who = "all members"
        case Count(n=n):
            who = f"{n} parties"
        case Named(nodes=nodes):
            who = f"nodes {', '.join(map(str, nodes))}"
    return f"{who}, strength {strength.value}"


def encode(message: Arrive | Withdraw) -> bytes:
    """The msgpack form."""
    return _encoder.encode(message)


def decode(payload: bytes, *, sender: int) -> Arrive | Withdraw | None:
    """The message of a payload, or None if no honest core can have sent it."""
    try:
        message = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(message.name.encode()) > NAME_BYTES_MAX:
        return None
    if any(not _consistent(carried) for carried in message.carried):
        return None
    if isinstance(message, Arrive) and not _may_use(sender, message.parties):
        return None
    return message


def _may_use(sender: int, parties: Parties) -> bool:
    """Who is not in its own set can never be waited for."""
    return _canonical(parties) and (not isinstance(parties, Named) or sender in parties.nodes)


def _canonical(parties: Parties) -> bool:
    """A named set is ascending and without repeats, else equal sets would compare as unequal."""
    return not isinstance(parties, Named) or parties.nodes == tuple(sorted(set(parties.nodes)))


def _consistent(carried: Carried) -> bool:
    """The arrived are distinct nodes and parties; a whole set would have been released."""
    nodes = {member.node for member in carried.arrived}
    if len(nodes) != len(carried.arrived) or not _canonical(carried.parties):
        return False
    match carried.parties:
        case AllParties():
            return set(carried.arrived) < set(carried.members)
        case Count(n=n):
            return len(nodes) < n
        case Named(nodes=wanted):
            return nodes < set(wanted)
