"""What a frame or an event says, in a line that people read.

`2.1` is the first incarnation of node 2, `V1.4` a view, `3@1` ballot 3 of node 1, `fifo 2 #7`
batch 7 of node 2 on its fifo lane. Fields that say nothing (empty, or false) are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from ..._native import codec
from .. import wire, wire_data
from ..config import MS
from ..core.outputs import (
    Delivered,
    Left,
    Ordered,
    RecordLost,
    Room,
    Settled,
    Stable,
    StateArrived,
)
from ..events import (
    Evicted,
    Lane,
    Member,
    PathChanged,
    PeerRefused,
    PrimaryLost,
    PrimaryRegained,
    RailState,
    ViewId,
    ViewInstalled,
)
from ..wire_data import Data
from .barrier_checkers import Arrival, Outcome
from .history import Opened, Placed, Read

PAYLOADS_SHOWN = 3
PAYLOAD_SHOWN_BYTES = 24
NAMES: Mapping[type[msgspec.Struct], str] = {wire.HeldAll: "HELD"}
"""Where the protocol's word is not the name of the type."""
SILENT_AT_ZERO = ("addressee", "closed", "founding", "over", "votes_in_ns")
LANES = {int(lane): lane.name.lower() for lane in Lane}
_Streamed = wire.Held | wire.Source | wire.CutEntry | wire.AckEntry

EntryText = Callable[[str, bytes], str]
"""Of a layer's entry: its channel and payload in words; empty if it is none of theirs."""


def no_entry(channel: str, payload: bytes) -> str:
    """The words for entries where nobody knows their layers."""
    del channel, payload
    return ""


# ------------------------------------------------------------------------------------- frames


def data_text(data: Data, frame: bytes, entry: EntryText) -> str:
    """A batch, or a piece of a message, with the beginning of what is in it."""
    to = f" to {data.key.addressee}" if data.key.addressee else ""
    text = f"DATA {_lane(data.key.lane)} {data.key.origin}{to} #{data.sequence}"
    if data.key.lane == Lane.ORDERED:
        text += f" epoch={data.epoch}"
        text += " end" if data.flags & wire_data.END else ""
        text += f" done={data.done}" if data.done else ""
        text += f" after fifo #{data.mark_fifo}" if data.mark_fifo else ""
    if data.flags & wire_data.FRAGMENT:
        return f"{text} piece of a message"
    messages = codec.unpack_batch(frame, data.offset)
    return text if messages is None else f"{text}: {payloads_text(data.channel, messages, entry)}"


def message_text(message: msgspec.Struct) -> str:
    """A control message: the protocol's word for it, and its fields."""
    match message:
        case wire.Hello():
            seen = f" seen={message.seen[0]}" if message.seen[0] else ""
            return f"HELLO incarnation={message.incarnation}{seen}"
        case wire.Fetch():
            key = wire.Held(message.origin, message.addressee, message.lane, message.first)
            more = f" to #{message.last}" if message.last > message.first else ""
            return f"FETCH {_streamed(key)}{more}"
        case wire.Install():
            return f"INSTALL {plain(message.value.id)} {plain(message.value.members)}"
        case wire.Farewell():
            return "FAREWELL"
        case _:
            fields = msgspec.structs.asdict(message)
            fields.pop("incarnation", None)  # the header has it
            texts = (_field(name, value) for name, value in fields.items())
            word = NAMES.get(type(message), type(message).__name__.upper())
            return " ".join([word, *(text for text in texts if text)])


def _field(name: str, value: object) -> str:
    """One field of a message; empty for what is left out."""
    nothing = value is None or value in ((), {}, "", wire.NO_BALLOT, wire.NO_VIEW)
    if nothing or (value == 0 and name in SILENT_AT_ZERO):
        return ""
    match value:
        case bool():
            return name if value else ("no vote" if name == "vote" else "")
        case int() if name.endswith("_ns"):
            return f"{name.removesuffix('_ns')}={_duration(value)}"
        case tuple() if name.endswith("ballot") or name == "highest":
            return f"{name}={ballot_text(cast('wire.Ballot', value))}"
        case ViewId() if name == "view_id":
            return f"{plain(value)}"
        case wire.ViewValue() if name == "known":
            return f"known={plain(value.id)}"
        case Mapping() if name == "grants":
            left = {n: _duration(ns) for n, ns in cast("Mapping[int, int]", value).items()}
            return f"{name}={plain(left)}"
        case _:
            text = plain(value)
            return "" if text == "{}" else f"{name}={text}"


def _duration(ns: int) -> str:
    return "never" if ns < 0 else f"{ns / MS:g}ms"


def ballot_text(ballot: wire.Ballot) -> str:
    """A ballot by its number and its proposer."""
    return f"{ballot[0]}@{ballot[1]}"


def plain(value: object) -> str:
    """A value as people write it."""
    match value:
        case wire.ViewValue():
            return _view_value(value)
        case ViewId():
            return f"V{value}"
        case Member():
            return f"{value.node}.{value.incarnation}"
        case wire.Held() | wire.Source() | wire.CutEntry() | wire.AckEntry():
            return _streamed(value)
        case bytes():
            return f"{len(value)} bytes"
        case tuple() | list():
            return _many(map(plain, cast("Iterable[object]", value)))
        case set() | frozenset():
            return _many(sorted(map(plain, cast("Iterable[object]", value))))
        case Mapping():
            pairs = sorted(cast("Mapping[Any, object]", value).items())
            return "{" + ", ".join(f"{key}: {plain(part)}" for key, part in pairs) + "}"
        case _:
            return str(value)


def _many(texts: Iterable[str]) -> str:
    return "{" + ", ".join(text for text in texts if text) + "}"


def _streamed(place: _Streamed) -> str:
    """How far a stream goes; empty if there is nothing on it."""
    if isinstance(place, wire.AckEntry):
        last, behind = place.held, place.taken != place.held
        more = f" taken #{place.taken}" if behind else ""
    else:
        last = place.sequence
        more = f" at {place.holder}" if isinstance(place, wire.Source) else ""
    addressee = 0 if isinstance(place, wire.CutEntry) else place.addressee
    to = f" to {addressee}" if addressee else ""
    return f"{_lane(place.lane)} {place.origin}{to} #{last}{more}" if last else ""


def _lane(lane: int) -> str:
    return LANES.get(lane, f"lane {lane}")


def _view_value(value: wire.ViewValue) -> str:
    parts = [f"{plain(value.id)} {plain(value.members)}"]
    new = [member.node for member in value.members if member.node not in value.continuing]
    if value.continuing and new:
        parts.append(f"new {plain(new)}")
    elif value.donor and new:
        parts.append(f"nobody continues, donor {value.donor}")
    cut = plain(value.cut)
    if cut != "{}":
        parts.append(f"cut {cut}")
    if value.reasons:
        parts.append(f"out {plain(value.reasons)}")
    return f"[{', '.join(parts)}]"


# ------------------------------------------------------------------------------------- events


def items_texts(items: Iterable[object], entry: EntryText = no_entry) -> Iterator[str]:
    """A line for each item of a node's stream, or for several paths of which the same is told."""
    for alike, group in itertools.groupby(items, key=_path_told):
        if alike is not None:
            yield _paths([item for item in group if isinstance(item, PathChanged)])
            continue
        for item in group:
            text = _item_text(item, entry)
            if text:
                yield text


def _path_told(item: object) -> tuple[int, RailState] | None:
    return (item.peer, item.state) if isinstance(item, PathChanged) else None


def _paths(changes: list[PathChanged]) -> str:
    rails = " and ".join(change.rail for change in changes)
    primary = "".join(f", primary {change.rail}" for change in changes if change.primary)
    return f"PathChanged to {changes[0].peer} over {rails}: {changes[0].state.value}{primary}"


def _item_text(item: object, entry: EntryText) -> str:
    """One item of a node's stream in a line; empty for what says little."""
    match item:
        case Room():
            return ""
        case ViewInstalled(view=view, left=left):
            out = f", out {plain(left)}" if left else ""
            over = ", started over" if item.started_over else ""
            return f"ViewInstalled {plain(view.id)} {plain(view.incarnations)}{out}{over}"
        case Delivered():
            lane = "directed" if item.directed else item.lane.name.lower()
            what = payloads_text(item.channel, item.payloads, entry)
            return f"delivers {lane} of {item.sender}: {what}"
        case Ordered():
            what = payloads_text(item.channel, item.payloads, entry)
            return f"delivers at position {item.first} of {item.sender}: {what}"
        case StateArrived(view_id=view_id, state=state):
            size = "none" if state is None else f"{len(state)} bytes"
            return f"state of {plain(view_id)} is here: {size}"
        case Settled():
            fate = f"not held by {plain(item.missing)}" if item.missing else "held by all"
            to = f"to {item.addressee}" if item.addressee else "to all"
            lane = item.lane.name.lower()
            return f"receipt: {lane} {to} up to message {item.token} {fate}"
        case Stable():
            return f"all hold what is up to position {item.last}"
        case Arrival() | Outcome():
            return _meeting(item)
        case Opened() | Read() | Placed():
            return _of_channel(item)
        case _:
            return _other(item)


def _other(item: object) -> str:
    match item:
        case PrimaryLost():
            return f"PrimaryLost {plain(item.view_id)}, reaches {plain(item.reachable)}"
        case PrimaryRegained():
            return f"PrimaryRegained {plain(item.view_id)}"
        case Evicted():
            return f"Evicted by {plain(item.view_id)}"
        case PeerRefused():
            return f"PeerRefused {item.peer}: {item.reason}"
        case RecordLost():
            return f"RecordLost: {item.peer} remembers incarnation {item.seen}"
        case Left():
            return "Left" if item.acknowledged else "Left, and not everything was acknowledged"
        case _:
            return repr(item)


def _meeting(item: Arrival | Outcome) -> str:
    if isinstance(item, Outcome):
        parties = f" {plain(item.parties)}" if item.parties else ""
        return f"wait({item.name}) returns: {item.verdict}{parties}"
    deadline = "" if item.deadline_ns is None else ", with a deadline"
    return f"wait({item.name}) is called{deadline}"


def _of_channel(item: Opened | Read | Placed) -> str:
    match item:
        case Opened(channel=channel, position=position):
            state = ", with another's state" if item.line and not item.alone else ""
            return f"reads {channel!r} from position {position.index} on{state}"
        case Read(channel=channel, first=first):
            what = payloads_text(channel, list(item.messages), no_entry)
            return f"reads {channel!r} at position {first.index}: {what}"
        case Placed(message=message, position=position):
            return f"is told that {_payload(message)} is at position {position.index}"


def payloads_text(channel: str, payloads: list[bytes], entry: EntryText) -> str:
    """The first of some messages, as far as they are text."""
    shown = [entry(channel, payload) or _payload(payload) for payload in payloads[:PAYLOADS_SHOWN]]
    more = f" and {len(payloads) - PAYLOADS_SHOWN} more" if len(payloads) > PAYLOADS_SHOWN else ""
    return ", ".join(shown) + more


def _payload(payload: bytes) -> str:
    text = payload[:PAYLOAD_SHOWN_BYTES].decode(errors="replace")
    return text if text.isprintable() and "\ufffd" not in text else f"{len(payload)} bytes"
