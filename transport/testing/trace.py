"""A run as text: who sent what to whom, and what each node was told, in virtual time.

Traces are for reading: short scenarios of them document the protocol (`docs/protocol.md`), and
`phalanx sim --trace` writes one for any seed. Probes are left out, or nothing else would be seen,
and so are rows and acknowledgements if they are not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from ..._native import codec
from .. import wire
from ..config import MS
from ..core.outputs import Delivered, Ordered, Room, Settled
from ..events import Lane, Member, View, ViewId, ViewInstalled
from .simulated_node import SimulatedNode
from .simulation import Simulation

PAYLOADS_SHOWN = 3
PAYLOAD_SHOWN_BYTES = 24
CHATTER = (wire.Row, wire.Ack)
"""Messages that come all the time and say little."""


class Tracer:
    """Writes a line for each frame and event of a simulation from now on."""

    def __init__(
        self, simulation: Simulation, put: Callable[[str], None], *, chatter: bool = False
    ) -> None:
        self._simulation = simulation
        self._put = put
        self._chatter = chatter
        self._cluster = codec.cluster_id(simulation.config.name)
        self._told: dict[int, int] = {}
        """How much of each life's history is written, by its place among them."""
        simulation.network.watches.append(self._frame)
        simulation.after_turn.append(self._events)

    def _line(self, text: str) -> None:
        self._put(f"{self._simulation.network.now_ns / MS:10.3f}  {text}")

    def _frame(self, source: int, target: int, frame: bytes, rail: str | None) -> None:
        if rail is None:
            text = frame_text(frame, self._cluster, chatter=self._chatter)
            if text:
                self._line(f"{source} -> {target}  {text}")

    def _events(self, node: SimulatedNode) -> None:
        life = node.life
        told = self._told.get(id(life), 0)
        for _, item in life.history[told:]:
            text = item_text(item)
            if text:
                self._line(f"{node.id}         {text}")
        self._told[id(life)] = len(life.history)


def frame_text(frame: bytes, cluster: int, *, chatter: bool) -> str:
    """What a frame says, in a line; empty for what is left out."""
    head = codec.decode_frame(frame, cluster)
    if isinstance(head, codec.FrameError):
        return f"malformed frame of {len(frame)} bytes: {head.name}"
    kind, offset = head.kind, head.body_offset
    if kind == wire.Kind.DATA:
        data = wire.decode_data(frame, offset)
        return _data_text(data) if data is not None else "malformed DATA"
    body = memoryview(frame)[offset:]
    message = wire.decode_hello(body) if kind == wire.Kind.HELLO else wire.decode_control(body)
    if message is None or (isinstance(message, CHATTER) and not chatter):
        return ""
    return _message_text(message)


def _data_text(data: wire.Data) -> str:
    lane = Lane(data.key.lane).name.lower()
    to = f" to {data.key.addressee}" if data.key.addressee else ""
    epoch = f" epoch {data.epoch}" if data.key.lane == Lane.ORDERED else ""
    piece = " piece" if data.flags & wire.FRAGMENT else ""
    return f"DATA {lane} {data.key.origin}{to} #{data.sequence}{epoch}{piece}"


def _message_text(message: msgspec.Struct) -> str:
    fields = (
        f"{name}={_plain(value)}"
        for name, value in msgspec.structs.asdict(message).items()
        if name not in ("cluster", "config_hash", "nonce", "version", "version_oldest")
        and value not in ((), {}, None, "", wire.NO_BALLOT, wire.NO_VIEW)
    )
    return " ".join([type(message).__name__.upper(), *fields])


def _plain(value: object) -> str:
    """A value as people write it: 2.1 for the first incarnation of node 2, {1 2} for many."""
    match value:
        case bool():
            return "yes" if value else "no"
        case wire.ViewValue():
            return _view_value(value)
        case ViewId() | Member():
            return f"{value[0]}.{value[1]}"
        case wire.Held() | wire.Source() | wire.CutEntry() | wire.AckEntry():
            return ":".join(map(str, value))
        case tuple() | list() | frozenset():
            return _many(list(cast("Iterable[object]", value)), ordered=isinstance(value, tuple))
        case Mapping():
            pairs = cast("Mapping[Any, object]", value).items()
            return "{" + " ".join(f"{key}: {_plain(part)}" for key, part in sorted(pairs)) + "}"
        case _:
            return str(value)


def _many(values: list[object], *, ordered: bool) -> str:
    if ordered and len(values) == 2 and all(type(value) is int for value in values):
        return f"{values[0]}.{values[1]}"  # a ballot
    texts = [_plain(value) for value in values]
    return "{" + " ".join(texts if ordered else sorted(texts)) + "}"


def _view_value(value: wire.ViewValue) -> str:
    parts = [f"V{value.era}.{value.k} {_plain(value.members)}"]
    if value.cut:
        parts.append(f"cut {_plain(value.cut)}")
    if value.reasons:
        parts.append(f"out {_plain(value.reasons)}")
    return f"[{', '.join(parts)}]"


def item_text(item: object) -> str:
    """One item of a node's stream in a line; empty for what says little."""
    match item:
        case Room():
            return ""
        case ViewInstalled(view=view, left=left):
            out = f", out {_plain(left)}" if left else ""
            return f"ViewInstalled {_view_text(view)}{out}"
        case Delivered():
            lane = "directed" if item.directed else item.lane.name.lower()
            return f"delivers {lane} of {item.sender}: {_payloads(item.payloads)}"
        case Ordered():
            channel = f" {item.channel}" if item.channel else ""
            return f"delivers at {item.first}{channel} of {item.sender}: {_payloads(item.payloads)}"
        case Settled():
            lack = f", not at {_plain(item.missing)}" if item.missing else ""
            to = f"to {item.addressee}" if item.addressee else "to all"
            return f"settled {item.lane.name.lower()} {to} up to {item.token}{lack}"
        case _:
            return repr(item)


def _view_text(view: View) -> str:
    return f"{view.id.era}.{view.id.k} {_plain(view.incarnations)}"


def _payloads(payloads: list[bytes]) -> str:
    shown = [payload[:PAYLOAD_SHOWN_BYTES].decode(errors="replace") for payload in payloads]
    more = f" and {len(shown) - PAYLOADS_SHOWN} more" if len(shown) > PAYLOADS_SHOWN else ""
    return ", ".join(shown[:PAYLOADS_SHOWN]) + more
