"""Bundles and rolls that arrive: batches of several members from one that passes them on.

An epoch of which one roll brings all that is missing is taken in one step. In any other case a roll
is the batches that it stands for. This is a part of `delivery.py`, on whose streams it works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._native import codec
from .. import wire_data
from ..wire_roll import Roll, decode_roll
from .framing import unbundle

if TYPE_CHECKING:
    from .delivery import Delivery


def receive_bundle(delivery: Delivery, node: int, frame: bytes, offset: int, now_ns: int) -> None:
    """Batches of several members, each as it is."""
    bodies = unbundle(frame, offset)
    if bodies is None:
        delivery.outputs.counters["malformed_bundle"] += 1
        return
    for body in bodies:
        delivery.receive(node, body, 0, now_ns)


def receive_roll(delivery: Delivery, node: int, frame: bytes, offset: int, now_ns: int) -> None:
    """Batches of several members that are alike, from one that passes them on."""
    roll = decode_roll(frame, offset)
    if roll is None:
        delivery.outputs.counters["malformed_roll"] += 1
    elif delivery.view is None or not take_roll(delivery, roll, now_ns):
        for body in roll.bodies():
            delivery.receive(node, body, 0, now_ns)


def take_roll(delivery: Delivery, roll: Roll, now_ns: int) -> bool:
    """Deliver an epoch of which a roll brings all that is missing; False if it is another one."""
    data, ordered = roll.data, delivery.ordered
    if (
        delivery.closed
        or not ordered.is_here(data)
        or data.addressee
        or data.flags & ~wire_data.SAFE != wire_data.END | wire_data.MEETING
        or data.channel[:1] != "!"
        or not ordered.lacks(roll)
    ):
        return False
    payloads = codec.unpack_batch(roll.body, data.offset)
    if not payloads:
        return False
    ordered.take_roll(roll, payloads, now_ns)
    return True
