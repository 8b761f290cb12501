"""What a test and its worker processes say to each other: one JSON object a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

MESSAGE_BYTES = 200


class Stream(msgspec.Struct, tag=True, kw_only=True):
    """Send numbered messages at a steady rate until `Halt`; to one member, or multicast (0)."""

    rate: float
    to: int = 0
    size: int = MESSAGE_BYTES
    wait: bool = True
    lane: str = "fifo"
    """Of multicasts."""


class Halt(msgspec.Struct, tag=True, kw_only=True):
    """End the streams; answered with `sent`."""


class Burst(msgspec.Struct, tag=True, kw_only=True):
    """Send so many messages in one go; answered with `sent` once all are accepted."""

    count: int
    to: int = 0
    size: int = MESSAGE_BYTES
    lane: str = "fifo"
    """Of multicasts."""
    timeout_s: float = 5.0
    held: bool = False
    """Wait until every addressee holds them, too."""


class Reach(msgspec.Struct, tag=True, kw_only=True):
    """Answered when message `number` of the sender's current incarnation is delivered."""

    sender: int
    number: int
    directed: bool = False


class PathWanted(msgspec.Struct, tag=True, kw_only=True):
    """Answered when the path to a peer is in this state."""

    peer: int
    rail: str
    state: str = "up"
    primary: bool


class Meet(msgspec.Struct, tag=True, kw_only=True):
    """Multicast `before` messages, then wait at a barrier."""

    name: str
    before: int = 0
    parties: int | None = None
    nodes: list[int] = []
    """The parties by name, instead of a number."""
    timeout_s: float = 5.0
    strength: Literal["arrived", "agreed", "safe"] = "agreed"
    policy: Literal["break", "shrink", "wait_for_rejoin"] = "break"
    payload: str = ""
    at_ns: int = 0
    """Arrive at this time of the monotonic clock."""
    take_back_after_s: float = 0
    """Ask for the arrival back after this time; the order says what becomes of it."""
    cancel_after_s: float = 0
    """Give the arrival up after this time, and wait for no outcome."""


class MeetAtAll(msgspec.Struct, tag=True, kw_only=True):
    """Wait at many barriers at once, `NAME-0` and so on; answered with all their outcomes."""

    name: str
    count: int
    backwards: bool = False
    timeout_s: float = 5.0


class Arrived(msgspec.Struct, tag=True, kw_only=True):
    """Answered when these nodes have arrived at all these barriers, as this node knows it."""

    names: list[str]
    nodes: list[int]


class Cman(msgspec.Struct, tag=True, kw_only=True):
    """Make calls of cman's face, one after another: name of the method, arguments."""

    calls: list[tuple[str, Sequence[int | str]]]


class Meetings(msgspec.Struct, tag=True, kw_only=True):
    """Meet everybody at a barrier again and again, until `Halt`."""

    name: str
    timeout_s: float = 5.0
    pause_s: float = 0.02


class Open(msgspec.Struct, tag=True, kw_only=True):
    """Open an ordered channel, with hooks for its state, and read it; answered with `position`."""

    channel: str


class Publish(msgspec.Struct, tag=True, kw_only=True):
    """Publish one entry; answered with its `position` and the number of entries read (`sent`)."""

    channel: str
    safe: bool = False
    timeout_s: float = 5.0


class PublishOn(msgspec.Struct, tag=True, kw_only=True):
    """Publish at most so many entries a second, each when the one before has its place, until
    `Halt`. Every other one is safe.
    """

    channel: str
    rate: float


class ReadTo(msgspec.Struct, tag=True, kw_only=True):
    """Answered when everything up to a position is read, with the number of entries (`sent`)."""

    channel: str
    position: tuple[int, int, int]


class Close(msgspec.Struct, tag=True, kw_only=True):
    """Close an ordered channel."""

    channel: str


class Still(msgspec.Struct, tag=True, kw_only=True):
    """Answered when every receipt is known."""


class TurnPage(msgspec.Struct, tag=True, kw_only=True):
    """Go on with the history in another file; nothing is under way."""

    path: str


class DieAt(msgspec.Struct, tag=True, kw_only=True):
    """Be killed instead of sending the next frame of one of these kinds: `Accept`, ..."""

    kinds: list[str]


class Look(msgspec.Struct, tag=True, kw_only=True):
    """Say what has happened so far, and what the process uses."""


class Leave(msgspec.Struct, tag=True, kw_only=True):
    """Leave the cluster in good order and end."""


Order: TypeAlias = (
    Stream
    | Halt
    | Burst
    | Reach
    | PathWanted
    | Meet
    | MeetAtAll
    | Arrived
    | Cman
    | Meetings
    | Open
    | Publish
    | PublishOn
    | ReadTo
    | Close
    | Still
    | TurnPage
    | DieAt
    | Look
    | Leave
)


class Command(msgspec.Struct, kw_only=True):
    """An order with the number that its answer will carry."""

    number: int
    order: Order


class Seen(msgspec.Struct, tag=True, kw_only=True, omit_defaults=True):
    """An event of the cluster's stream, or `Failed` if there is no cluster."""

    kind: str
    """Name of the event's class."""
    at_ns: int
    """On the monotonic clock, which all hosts of a lab share."""
    view: tuple[int, int] = (0, 0)
    members: dict[int, int] = {}
    """Incarnations by node id."""
    joined: list[int] = []
    left: dict[int, str] = {}
    marks: dict[str, int] = {}
    """Of each multicast stream ("node.incarnation") the last number delivered before."""
    peer: int = 0
    rail: str = ""
    state: str = ""
    primary: bool = False
    text: str = ""
    """What else the event, or the error, says."""


class Received(msgspec.Struct, kw_only=True):
    """What was delivered of one stream of numbers."""

    first: int
    last: int
    count: int


class Refusals(msgspec.Struct, kw_only=True):
    """Sends that raised one kind of error."""

    count: int
    first_ns: int
    last_ns: int


class Answer(msgspec.Struct, tag=True, kw_only=True, omit_defaults=True):
    """What became of one command; `error` is the name of the exception."""

    number: int
    at_ns: int
    error: str = ""
    text: str = ""
    reason: str = ""
    """Why a barrier was broken, the same at every party."""
    missing: dict[int, str] = {}
    outcome: str = ""
    due_ns: int = 0
    """The deadline of a wait."""
    sent: int = 0
    marks: dict[str, int] = {}
    generation: tuple[int, int, int] = (0, 0, 0)
    position: tuple[int, int, int] = (0, 0, 0)
    parties: list[int] = []
    incarnations: list[int] = []
    """Of the parties."""
    payloads: dict[int, str] = {}
    outcomes: dict[str, str] = {}
    """Of many barriers: for each in words what became of it."""
    codes: list[int] = []
    """What cman's calls returned."""
    received: dict[str, Received] = {}
    refusals: dict[str, Refusals] = {}
    accept_ns_max: int = 0
    primary: bool = False
    incarnation: int = 0
    stats: dict[str, dict[str, int]] = {}
    rss_bytes: int = 0
    descriptors: int = 0


Line: TypeAlias = Seen | Answer
