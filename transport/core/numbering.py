"""At the end of a turn: what is accepted becomes numbered batches, as far as the windows allow.

A part of `delivery.py`, on whose streams it works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..events import Lane, View
from ..wire_data import Data
from .batches import Stamp
from .outputs import Room, Settled
from .streams import OutStream

if TYPE_CHECKING:
    from .delivery import Delivery

_ORDERED: Final = Lane.ORDERED


def number_all(delivery: Delivery, view: View, now_ns: int) -> None:
    """Number what waits in every stream of this node."""
    for (_, lane), stream in delivery.out.items():
        addressee = stream.key.addressee
        if not stream.queue or lane is _ORDERED:
            continue
        if addressee and addressee not in view.members:
            _turn_away(delivery, stream, lane)
        # What this node's own application does not read stops it like any other's.
        elif addressee or lane not in delivery.acks.frozen:
            _number(delivery, view, stream, lane)
    _number_ordered(delivery, view, now_ns)


def _number(delivery: Delivery, view: View, stream: OutStream, lane: Lane) -> None:
    while stream.can_number:
        stamp = Stamp(view.id, delivery.fifo.last_whole, delivery.bulk.last_whole)
        delivery.carrying.to_push = True
        data, payloads = stream.number(delivery.framer, stamp)
        if not stream.key.addressee:
            _take_own(delivery, stream, data, payloads)
    _numbered(delivery, stream, lane)


def _number_ordered(delivery: Delivery, view: View, now_ns: int) -> None:
    stream, ordered, carrying = delivery.entries, delivery.ordered, delivery.carrying
    if not (stream.urgent or stream.queue):
        return
    # What this node's own application does not read stops it, but not entries of layers.
    while stream.urgent or (stream.can_number and _ORDERED not in delivery.acks.frozen):
        stamp = ordered.stamp(
            view, mark_fifo=delivery.fifo.last_whole, mark_bulk=delivery.bulk.last_whole
        )
        data, payloads = stream.number(delivery.framer, stamp)
        sent = stream.sent[data.sequence]
        bundles = ordered.numbered(data, sent.frame, payloads, sent.token)
        if bundles is None:
            carrying.to_push = True
        else:
            carrying.relayed(stream, bundles, now_ns)
            delivery.passed_on(bundles)
    _numbered(delivery, stream, _ORDERED)


def _numbered(delivery: Delivery, stream: OutStream, lane: Lane) -> None:
    if stream.full and stream.queue_bytes * 2 <= delivery.limits.queue_bytes:
        stream.full = False
        delivery.outputs.stream.append(Room(addressee=stream.key.addressee, lane=lane))
    if not stream.progress:
        delivery.settle(stream, lane)


def _turn_away(delivery: Delivery, stream: OutStream, lane: Lane) -> None:
    """What was accepted for a node that is no member (any more): its sender is told so."""
    addressee = stream.key.addressee
    delivery.outputs.stream.append(
        Settled(
            addressee=addressee,
            lane=lane,
            token=stream.token_accepted,
            missing={addressee: "not a member of the view"},
        )
    )
    abandon(delivery, stream, lane)


def abandon(delivery: Delivery, stream: OutStream, lane: Lane) -> None:
    """The addressee is gone, and what was meant for it is settled."""
    stream.abandon()
    if stream.full:
        stream.full = False
        delivery.outputs.stream.append(Room(addressee=stream.key.addressee, lane=lane))


def _take_own(
    delivery: Delivery, stream: OutStream, data: Data, payloads: list[bytes] | bytes
) -> None:
    own = delivery.ins[stream.key]
    own.held = own.delivered = data.sequence
    if isinstance(payloads, bytes):
        frame, most = stream.sent[data.sequence].frame, delivery.limits.message_bytes_max
        payloads = own.assemble(data, frame, most) or []
    if payloads:
        delivery.deliver(data, payloads)
