"""Histories of a simulation: what its incarnations were told, in the form that checkers read.

Messages are called by their payloads, which are unique in a simulation as they must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, TypeAlias

from ..core import outputs
from ..events import (
    Evicted,
    Lane,
    Member,
    PathChanged,
    Position,
    PrimaryLost,
    PrimaryRegained,
    ViewId,
    ViewInstalled,
)
from .evidence import FOR_EVER_NS, Evidence, History
from .history import (
    AnyRecord,
    Arrived,
    Began,
    Ended,
    Expelled,
    Got,
    Installed,
    Leased,
    Left,
    LostPrimary,
    Opened,
    PathSeen,
    Placed,
    Read,
    RegainedPrimary,
    Returned,
    Sent,
    Stood,
    Told,
    Unheld,
    installed,
)
from .simulated_node import Life
from .simulated_node import Sent as SimulatedSend

CLOCK = "simulation"

Lives: TypeAlias = Evidence | Sequence[Life]
"""What checkers take: histories, or the lives of a simulation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A party has called `wait`; noted in its life."""

    ticket: int
    name: str
    deadline_ns: int | None
    payload: bytes = b""
    """The name of what it brings along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The call of that ticket has returned; noted in the life of its party."""

    ticket: int
    name: str
    generation: Position | None
    """Names the generation, the same at every party; None if there was none."""
    verdict: str
    """`released`, or how it was broken, in words that every party uses; `unknown`."""
    parties: tuple[Member, ...] = ()
    """Of a release: who arrived."""
    position: Position | None = None
    """Of a release: its place in the agreed order."""
    payloads: Mapping[int, bytes] = field(default_factory=dict[int, bytes])
    """Of a release: the names of what its parties brought along."""
    token: Position | None = None
    """Of a safe release."""
    registered: Position | None = None
    """Of a registration: its place in the agreed order."""


def _as_it_is(_at_ns: int, item: AnyRecord) -> AnyRecord:
    return item


def _delivered(at_ns: int, item: outputs.Delivered) -> AnyRecord:
    messages = tuple(item.payloads)
    return Got(at_ns, item.sender, item.lane, item.view_id, messages, item.directed)


def _ordered(at_ns: int, item: outputs.Ordered) -> AnyRecord:
    inner = item.channel.startswith("!")
    messages = tuple(item.payloads)
    return Got(at_ns, item.sender, Lane.ORDERED, item.view_id, messages, False, item.first, inner)


def _path(at_ns: int, item: PathChanged) -> AnyRecord:
    return PathSeen(at_ns, item.peer, item.rail, item.state.value, item.primary)


def _outcome(at_ns: int, item: Outcome) -> AnyRecord:
    name, verdict, generation = item.name, item.verdict, item.generation
    payloads = dict(item.payloads)
    return Returned(
        at_ns,
        item.ticket,
        name,
        verdict,
        generation,
        item.position,
        item.parties,
        payloads,
        item.token,
    )


def _arrival(at_ns: int, item: Arrival) -> AnyRecord:
    return Arrived(at_ns, item.ticket, item.name, item.deadline_ns, payload=item.payload)


_KINDS: dict[type, Callable[[int, Any], AnyRecord]] = {
    outputs.Delivered: _delivered,
    outputs.Ordered: _ordered,
    ViewInstalled: installed,
    PathChanged: _path,
    PrimaryLost: lambda at_ns, item: LostPrimary(at_ns, item.view_id),
    PrimaryRegained: lambda at_ns, item: RegainedPrimary(at_ns, item.view_id),
    Evicted: lambda at_ns, item: Expelled(at_ns, item.view_id),
    outputs.Left: lambda at_ns, _: Left(at_ns),
    Arrival: _arrival,
    Outcome: _outcome,
    **dict.fromkeys((Opened, Read, Placed, Unheld), _as_it_is),
}


def records_of(life: Life) -> list[AnyRecord]:
    """A life as records."""
    began_ns, (node, incarnation) = life.started_ns, life.member
    began = Began(began_ns, node, incarnation, CLOCK, rails=life.rails, founding=life.founding)
    records: list[AnyRecord] = [began]
    sent = iter(life.sent)
    message = next(sent, None)
    view: ViewId | None = None
    for place, (at_ns, item) in enumerate(life.history):
        while message is not None and message.place <= place:
            records.append(_sent(message))
            message = next(sent, None)
        kind = type(item)
        make = _KINDS.get(kind)
        if make is not None:
            record = make(at_ns, item)
            if kind is ViewInstalled:
                assert isinstance(record, Installed), "made of a `ViewInstalled`"
                view = record.view
            records.append(record)
        elif isinstance(item, outputs.Settled):
            missing = dict(item.missing)
            records.append(Told(at_ns, item.lane, item.addressee, item.token, missing, view))
    while message is not None:
        records.append(_sent(message))
        message = next(sent, None)
    records += _leases(life)
    records += [Stood(until_ns, from_ns) for from_ns, until_ns in life.frozen]
    if life.ended_ns is not None:
        records.append(Ended(life.ended_ns))
    return records


def _leases(life: Life) -> Iterator[AnyRecord]:
    """When it might act, and when, between two such times and after the last, it might not."""
    for act, following in zip_longest(life.acts, life.acts[1:]):
        yield Leased(act.until_ns, act.from_ns, act.view_id)
        end_ns = life.ended_ns if life.ended_ns is not None else FOR_EVER_NS
        again_ns = following.from_ns if following else end_ns
        if again_ns > act.until_ns:
            yield Leased(again_ns, act.until_ns)


def _sent(message: SimulatedSend) -> AnyRecord:
    lane, to, payload = message.lane, message.addressee, message.payload
    return Sent(
        message.at_ns,
        message.token,
        lane,
        to,
        (payload,),
        accepted=True,
        channel=message.channel,
        safe=message.safe,
    )


def evidence_of(lives: Lives) -> Evidence:
    """What the lives of a simulation have to say; evidence stays what it is."""
    if isinstance(lives, Evidence):
        return lives
    return Evidence(History(records_of(life)) for life in lives)
