"""What the application of one incarnation sent and saw, as plain data: one record a line.

A history is a sequence of records in the order in which things happened to the application, each
with its time. The checkers of the guarantees read nothing else, whoever wrote it: the simulator,
a `Recorder` around a real cluster, or a program of your own. On disk it is a file of JSON lines
for each process; a process that comes back after an eviction goes on in its file with the next
`Began`. See `docs/testing.md`.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

import msgspec

from ..events import Lane, Member, Position, ViewId, ViewInstalled

SUFFIX = ".history.jsonl"
"""How the names of history files end."""
NAME_BYTES = 8
"""Bytes of a message's name: among a billion messages two have the same with a chance of 1:40."""


def name_of(payload: bytes) -> bytes:
    """What a history on disk calls a message by: a hash of its payload."""
    return hashlib.sha256(payload).digest()[:NAME_BYTES]


def digest_of(*parts: bytes) -> bytes:
    """A hash of 32 bytes over several things, each apart from the next."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


class Record(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="is", tag=str.lower
):
    """One thing that happened; times are nanoseconds of one clock for all nodes of a run."""

    at_ns: int


class Began(Record, frozen=True):
    """An incarnation begins; what follows belongs to it."""

    node: int
    incarnation: int
    clock: str = ""
    """Names what the times are measured on; times of two clocks are never compared."""
    lease_ns: int = 0
    rails: tuple[str, ...] = ()
    """Names of all rails of the cluster."""
    founding: int | None = None
    """The era that the operator had it found; 0 for none, None if that is not known."""


class Installed(Record, frozen=True):
    """The application was told of a view."""

    view: ViewId
    members: tuple[Member, ...]
    left: dict[int, str] = {}
    started_over: bool = False


class Sent(Record, frozen=True):
    """The application sends, multicasts or publishes; written before the call is made."""

    number: int
    """Names the call; grows within each stream (addressee and lane) of an incarnation."""
    lane: Lane
    to: int
    """The addressee, or 0 for all members."""
    messages: tuple[bytes, ...]
    """Their names, unique over the whole run."""
    deadline_ns: int | None = None
    accepted: bool = False
    """It was accepted at once, so that no `Accepted` follows."""
    incarnation: int = 0
    """Of the sender, if it is not the one that began last in this file."""
    channel: str = ""
    """The ordered channel that it publishes on."""
    safe: bool = False
    receipt: bool = True
    """Its sender is told who holds it; else there is only `Placed`."""


class Accepted(Record, frozen=True):
    """The call has returned: the messages are accepted."""

    number: int


class Refused(Record, frozen=True):
    """The call has raised."""

    number: int
    error: str
    perhaps: bool = False
    """Something may have been accepted: it was cancelled, or stopped half-way."""


class Told(Record, frozen=True):
    """All calls of a stream up to `number` have met their fate, and the sender was told which."""

    lane: Lane
    to: int
    number: int
    missing: dict[int, str] = {}
    """Who does not hold one of these messages, and why; the others hold them."""
    view: ViewId | None = None
    """What was installed when it was found out; None: in the last view of the history."""


class Got(Record, frozen=True):
    """Consecutive messages of one sender were delivered."""

    sender: int
    lane: Lane
    view: ViewId
    messages: tuple[bytes, ...]
    directed: bool = False
    first: int = 0
    """Position of the first in the agreed order of the view; 0 outside of the ordered lane."""
    inner: bool = False
    """Entries of a layer, that no application sent."""


class Opened(Record, frozen=True):
    """Whoever reads an ordered channel has come to where it begins."""

    channel: str
    position: Position
    line: bytes = b""
    """Whose state it began with: all that took it from each other have the same; empty for none."""
    alone: bool = False
    """It wanted another's state, and there was none."""


class Read(Record, frozen=True):
    """Consecutive entries of an ordered channel were read; positions grow one by one."""

    channel: str
    sender: int
    first: Position
    messages: tuple[bytes, ...]
    line: bytes = b""
    digest: bytes = b""
    """Of the state behind them: a chain over all that it was made of."""


class Placed(Record, frozen=True):
    """`publish` has returned: this is where the message is."""

    message: bytes
    position: Position


class Unheld(Record, frozen=True):
    """A safe message was delivered before these members held it, as who sees all nodes knows."""

    message: bytes
    members: tuple[Member, ...]


class PathSeen(Record, frozen=True):
    """A peer is now reached differently over one rail."""

    peer: int
    rail: str
    state: str
    """`up`, `suspect` or `down`."""
    primary: bool = False


class LostPrimary(Record, frozen=True):
    """The node was told that it may not act: `PrimaryLost`."""

    view: ViewId


class RegainedPrimary(Record, frozen=True):
    """It may act again: `PrimaryRegained`."""

    view: ViewId


class Expelled(Record, frozen=True):
    """The cluster went on without this incarnation: `Evicted`."""

    view: ViewId


class Left(Record, frozen=True):
    """It has left in good order."""


class Remarked(Record, frozen=True):
    """Another event, in words."""

    text: str


class Missed(Record, frozen=True):
    """Events are missing here: nobody read for too long. Such a history proves nothing."""

    text: str


class Leased(Record, frozen=True):
    """From `since_ns` to `at_ns` the node might act in this view whenever it was looked; or not."""

    since_ns: int
    view: ViewId | None = None
    """None: it might not act."""


class Stood(Record, frozen=True):
    """From `since_ns` to `at_ns` the process stood still: stopped, or starved."""

    since_ns: int


class Arrived(Record, frozen=True):
    """The application waits at a barrier; written before it does."""

    ticket: int
    name: str
    deadline_ns: int | None = None
    directed: bool = False
    """The arrival waits until all that the party sent to single members is held."""
    cut: bool = True
    """False with a strength that promises the meeting alone."""
    incarnation: int = 0
    payload: bytes = b""
    """The name of what it brings along; empty if that is nothing."""


class Returned(Record, frozen=True):
    """The wait of that ticket is over."""

    ticket: int
    name: str
    verdict: str
    """`released`, or how it was broken, in words that all parties use; `unknown`."""
    generation: Position | None = None
    """Names the generation, the same at every party; None if it is not known."""
    position: Position | None = None
    """Of a release: where it was decided."""
    parties: tuple[Member, ...] = ()
    """Of a release: who arrived."""
    payloads: dict[int, bytes] = {}
    """Of a release: the names of what its parties brought along, by node id."""
    token: Position | None = None
    """Of a safe release: its fencing token."""


class Asked(Record, frozen=True):
    """Another call that waits, with its deadline; written before it is made."""

    call: int
    what: str
    deadline_ns: int


class Answered(Record, frozen=True):
    """The call has returned or raised."""

    call: int
    error: str = ""


class Ended(Record, frozen=True):
    """The process ended here, as whoever wrote this knows; a killed one says nothing itself."""


AnyRecord: TypeAlias = (
    Began
    | Installed
    | Sent
    | Accepted
    | Refused
    | Told
    | Got
    | Opened
    | Read
    | Placed
    | Unheld
    | PathSeen
    | LostPrimary
    | RegainedPrimary
    | Expelled
    | Left
    | Remarked
    | Missed
    | Leased
    | Stood
    | Arrived
    | Returned
    | Asked
    | Answered
    | Ended
)


def installed(at_ns: int, event: ViewInstalled) -> Installed:
    """What is written of a view that an application is told of."""
    view = event.view
    return Installed(at_ns, view.id, view.incarnations, dict(event.left), event.started_over)


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def encode(record: AnyRecord) -> bytes:
    """One line."""
    return _encoder.encode(record) + b"\n"


def decode(line: bytes) -> AnyRecord:
    """A line that `encode` made.

    Raises:
        msgspec.MsgspecError: it is none; the message says why.
    """
    return _decoder.decode(line)
