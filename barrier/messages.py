"""The entries that barriers publish in the agreed order, and their msgpack form.

Structs travel as arrays: a later version may append fields with defaults, which older readers
skip. Every entry names the view in which it was made, because a transport that is in the middle
of a view change numbers what it has queued in the *next* view, where the core publishes what is
still open anew; without the stamp an arrival could count twice.

Nothing in an arrival says whose it is, or which: the order says the sender, and own entries come
back in the order in which they were published. So all arrivals at a barrier without payload are
the same bytes, in one round after the other, and are decoded once in a view.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from phalanx.transport.config import NAME_BYTES_MAX, NODES_MAX
from phalanx.transport.events import Member, Position, ViewId

from .settings import NodeId, Settings

PAYLOAD_BYTES_MAX: Final = 64 << 10
"""What one arrival may bring along."""
SPOILED_CHARS_MAX: Final = 200
"""How much of an exception is told to the others."""
CARRIED_MAX: Final = 64
"""Most generations of one name that one entry carries over from earlier views."""
WIRE_NAME_BYTES_MAX: Final = NAME_BYTES_MAX + 64
"""A user's name, and what is put before it where it names two barriers (`names.py`)."""

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=WIRE_NAME_BYTES_MAX)]
Payload: TypeAlias = Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX)]


class Cause(enum.Enum):
    """Why a party takes its arrival back."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"


class Leaving(enum.Enum):
    """What else it means that a party is registered no more."""

    DEREGISTER = "deregister"
    """Where it is waited for now, this is its arrival."""
    ARRIVE = "arrive"
    """It arrives, also where nobody has yet."""
    TAKE_BACK = "take back"
    """It never was registered: nobody waits for it."""


class Carried(msgspec.Struct, frozen=True, array_like=True):
    """The state of a generation that is still open from an earlier view."""

    opened: Position
    settings: Settings
    wanted: Annotated[tuple[NodeId, ...], Meta(max_length=NODES_MAX)]
    """The nodes that are its parties, in ascending order; empty for a `Count`."""
    size: Annotated[int, Meta(ge=1, le=NODES_MAX)]
    """How many parties it has now."""
    arrived: Annotated[tuple[Member, ...], Meta(max_length=NODES_MAX)]
    """In the order of arrival."""
    owing: Annotated[tuple[NodeId, ...], Meta(max_length=NODES_MAX)] = ()
    """Who has arrived with a payload, which each of them publishes again."""
    spoiled: Annotated[str, Meta(max_length=SPOILED_CHARS_MAX)] = ""
    """Why it is broken for everybody who has not been told yet."""


class CarriedRoster(msgspec.Struct, frozen=True, array_like=True):
    """Everybody who is registered at a name since an earlier view."""

    founded: Position
    settings: Settings
    members: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=NODES_MAX)]
    """In the order of registration."""


class Arrive(msgspec.Struct, frozen=True, array_like=True, tag="arrive"):
    """Its sender has arrived."""

    view: ViewId
    name: Name
    settings: Settings
    payload: Payload = b""
    spoiled: Annotated[str, Meta(max_length=SPOILED_CHARS_MAX)] = ""
    """It has, but the others must not go on: broken for all of them, for this reason."""
    bulk: bool = False
    """What it has multicast on the bulk lane before belongs to it as well."""


class Again(msgspec.Struct, frozen=True, array_like=True, tag="again"):
    """The payload of its sender's arrival, which counts in a generation of an earlier view."""

    view: ViewId
    name: Name
    opened: Position
    payload: Payload


class Withdraw(msgspec.Struct, frozen=True, array_like=True, tag="withdraw"):
    """Its sender takes back its arrival, which breaks the generation unless it is released."""

    view: ViewId
    name: Name
    cause: Cause


class Carry(msgspec.Struct, frozen=True, array_like=True, tag="carry"):
    """All that earlier views have left open of a name; stands before its sender's other entries
    of that name.
    """

    view: ViewId
    name: Name
    generations: Annotated[tuple[Carried, ...], Meta(max_length=CARRIED_MAX)]
    roster: CarriedRoster | None = None


class Register(msgspec.Struct, frozen=True, array_like=True, tag="register"):
    """Its sender is a party of all generations that begin from here on."""

    view: ViewId
    name: Name
    settings: Settings


class Vouch(msgspec.Struct, frozen=True, array_like=True, tag="vouch"):
    """Whatever its sender knows of this name from earlier views stands before this."""

    view: ViewId
    name: Name


class Quit(msgspec.Struct, frozen=True, array_like=True, tag="quit"):
    """Its sender is registered no more."""

    view: ViewId
    name: Name
    leaving: Leaving
    payload: Payload = b""


Message: TypeAlias = Arrive | Again | Withdraw | Carry | Register | Vouch | Quit

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """The msgpack form."""
    return _encoder.encode(message)


def decode(payload: bytes) -> Message | None:
    """The message of a payload, or None if no honest core can have sent it.

    Whether its sender may say so is left to the table.
    """
    try:
        message = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(message.name.encode()) > WIRE_NAME_BYTES_MAX:
        return None
    match message:
        case Arrive() | Register():
            sound = message.settings.canonical
        case Carry():
            sound = all(map(_consistent, message.generations)) and (
                message.roster is None or _distinct(message.roster.members)
            )
        case _:
            sound = True
    return message if sound else None


def _distinct(members: tuple[Member, ...]) -> bool:
    return len({member.node for member in members}) == len(members)


def _consistent(carried: Carried) -> bool:
    """The arrived are distinct nodes and parties; a whole set would have been released."""
    wanted, arrived, settings = carried.wanted, carried.arrived, carried.settings
    nodes = {member.node for member in arrived}
    if not (_distinct(arrived) and settings.canonical and nodes.issuperset(carried.owing)):
        return False
    if wanted and not (
        wanted == tuple(sorted(set(wanted)))
        and len(wanted) == carried.size
        and nodes.issubset(wanted)
    ):
        return False
    if not arrived:
        return bool(carried.spoiled)
    return len(arrived) < carried.size or bool(carried.owing)
