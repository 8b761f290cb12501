"""Batches of which those before are not here: carriers overtake each other, or something is lost.

This is a part of `delivery.py`, on whose streams it works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .batches import Arrived
from .streams import InStream
from .timers import Timer

if TYPE_CHECKING:
    from .delivery import Delivery


def too_early(
    delivery: Delivery, node: int, stream: InStream, arrived: Arrived, now_ns: int
) -> None:
    """What comes before is on its way, or it is lost."""
    delivery.outputs.counters["gaps"] += 1
    if stream.keep_early(arrived, now_ns):
        delivery.acks.note(stream.key, len(arrived.frame), now_ns)
    else:
        delivery.gaps.add(node)
    again_ns = now_ns + _overtaken_ns(delivery, node)
    delivery.timers.arm_earlier(Timer.RESYNC, node, again_ns)


def _overtaken_ns(delivery: Delivery, node: int) -> int:
    """How long what is missing may be on its way: longer if it is asked for by itself."""
    timing = delivery.timing
    return 3 * timing.recast_ns if delivery.fan_out.mends_for(node) else timing.ack_delay_ns


def resync(delivery: Delivery, node: int, now_ns: int) -> None:
    """Ask a member to go on from where we are, if what was missing has not come."""
    streams = [it for it in delivery.ins.values() if it.overtaken and it.key.origin == node]
    since_ns = min((it.early_since_ns for it in streams), default=now_ns)
    again_ns = since_ns + _overtaken_ns(delivery, node)
    if node in delivery.gaps or (streams and now_ns >= again_ns):
        delivery.gaps.discard(node)
        delivery.send_full_ack(node, resync=True)
    elif streams:
        delivery.timers.arm_earlier(Timer.RESYNC, node, again_ns)
