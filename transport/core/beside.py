"""What comes beside an association: as a datagram, from the address of a node on a rail.

Anybody on the rail can send that. It counts only while the node has an association, and if it
names the incarnation that said HELLO there; what belongs to an association of its own, over
datagrams, is that association's. Whatever is in it, nothing is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..._native import codec
from .. import wire
from ..drivers.base import Datagram
from . import kinds
from .choir import keep
from .rolls import receive_bundle, receive_roll

if TYPE_CHECKING:
    from .endpoint import Endpoint

_decode_frame: Final[Callable[[bytes, int], codec.Frame | codec.FrameError]] = codec.decode_frame


def receive_beside(endpoint: Endpoint, datagram: Datagram, now_ns: int) -> None:
    """Give it to the part that it is for."""
    node, rail, frame, session, number = datagram
    counters = endpoint.outputs.counters
    header = _decode_frame(frame, endpoint.framer.cluster)
    if isinstance(header, codec.FrameError):
        counters[f"frame_{header.name.lower()}"] += 1
        return
    kind, offset = header.kind, header.body_offset
    if kind == kinds.LINK:
        if header.sender == node and header.addressee in (0, endpoint.node):
            endpoint.links.receive(node, frame, offset, number, now_ns)
        else:
            counters["datagram_of_other_node"] += 1
        return
    if endpoint.standing.evicted or endpoint.standing.left:
        return  # nothing follows in this incarnation, save that a link brings its farewell
    peer = endpoint.peers.peers.get(node)
    known = peer is not None and peer.link and header.incarnation == peer.incarnation
    if header.sender != node or not known or header.addressee not in (0, endpoint.node):
        counters["datagram_of_other_node"] += 1
        return
    fan_out = endpoint.casting.fan_out
    if session and not fan_out.arrived(node, session, number, now_ns):
        counters["datagram_duplicates"] += 1
        return
    if kind == kinds.DATA:
        delivery = endpoint.delivery
        if not (delivery.ordered.choir.leads and keep(delivery, node, frame, offset, now_ns)):
            delivery.receive(node, frame, offset, now_ns, beside=True)
    elif kind == kinds.BUNDLE:
        receive_bundle(endpoint.delivery, node, frame, offset, now_ns)
    elif kind == kinds.ROLL:
        receive_roll(endpoint.delivery, node, frame, offset, now_ns)
    elif kind == kinds.PROBE:
        endpoint.changed |= endpoint.heartbeats.receive(node, rail, frame, offset, now_ns)
    elif kind == kinds.CONTROL:
        _receive_control(endpoint, node, frame, offset, now_ns)
    elif kind == kinds.STAND:
        fan_out.receive_stand(node, rail, frame, offset, now_ns)
    elif kind == kinds.REPORT:
        fan_out.receive_report(node, frame, offset, now_ns)
    else:
        counters["datagram_of_other_kind"] += 1
    endpoint.changed |= endpoint.delivery.closed


def _receive_control(endpoint: Endpoint, node: int, frame: bytes, offset: int, now_ns: int) -> None:
    message = wire.decode_control(memoryview(frame)[offset:])
    if isinstance(message, wire.End):
        endpoint.delivery.end(node, message, now_ns)
    elif not isinstance(message, wire.Ack) or message.resync:
        endpoint.outputs.counters["datagram_of_other_kind"] += 1
    elif node in endpoint.delivery.carrying.synced:
        endpoint.delivery.acknowledged(node, message, now_ns, datagram=True)
