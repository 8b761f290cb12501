"""Leaving in good order: when everything that was sent is held, or there is no more time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import wire
from ..drivers.base import Stream
from .outputs import CloseLifelines, Disconnect, Left, Transmit

if TYPE_CHECKING:
    from .endpoint import Endpoint


def step_down_if_due(endpoint: Endpoint, now_ns: int) -> None:
    """Say farewell, unless others still lack something and the deadline has not come."""
    assert endpoint.leave_by_ns is not None, "leaving has a deadline"
    standing, delivery, outputs = endpoint.standing, endpoint.delivery, endpoint.outputs
    view = standing.view
    members = view.incarnations if view is not None else ()
    # Who died under an earlier incarnation excuses nobody.
    gone = {m.node for m in members if m in endpoint.peers.dead}
    acknowledged = delivery.all_held(gone)
    if now_ns < endpoint.leave_by_ns and (not acknowledged or endpoint.state.owed(gone)):
        return
    # What arrived here counts for its senders: they may be about to leave as well.
    delivery.send_acks(now_ns, at_once=True)
    standing.left = True
    delivery.closed = True
    outputs.stream.append(Left(acknowledged=acknowledged))
    frame = endpoint.framer.message(wire.Farewell(incarnation=endpoint.me.incarnation))
    for peer in endpoint.peers.peers.values():
        if peer.link:
            outputs.transmits.append(Transmit(peer.link, Stream.CONTROL, frame))
            outputs.commands.append(Disconnect(link=peer.link, abort=False))
    endpoint.peers.stopped = True
    part_if_alone(endpoint)


def part_if_alone(endpoint: Endpoint) -> None:
    """The farewell goes first; the end of the lifelines says the same without the reason."""
    if endpoint.standing.left and not endpoint.peers.links():
        endpoint.outputs.commands.append(CloseLifelines())
