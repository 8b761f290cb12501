"""Bundles and rolls that arrive: batches of several members from one that passes them on.

An epoch of which one roll brings all that is missing is taken in one step. In any other case a roll
is the batches that it stands for. This is a part of `delivery.py`, on whose streams it works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ..._native import codec
from .. import wire_data
from ..wire_data import Data
from ..wire_roll import Roll, decode_roll
from .framing import unbundle

if TYPE_CHECKING:
    from .delivery import Delivery
    from .ordered import OrderedLane

_unpack_batch: Final[Callable[[bytes, int], list[bytes] | None]] = codec.unpack_batch


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


def is_alike(ordered: OrderedLane, data: Data) -> bool:
    """Whether a batch is one of those of which an epoch may be taken at once."""
    flags = data.flags & ~wire_data.SAFE
    if flags != wire_data.END | wire_data.MEETING or data.addressee:
        return False
    return data.channel[:1] == "!" and ordered.is_here(data)


def take_roll(
    delivery: Delivery, roll: Roll, now_ns: int, came: Sequence[tuple[int, int]] = ()
) -> bool:
    """Deliver an epoch of which a roll brings all that is missing; False if it is another one.

    `came` says when each member has spoken, where that is known apart.
    """
    data, ordered = roll.data, delivery.ordered
    if delivery.closed or not is_alike(ordered, data) or not ordered.lacks(roll):
        return False
    payloads = _unpack_batch(roll.frame, data.offset)
    if not payloads:
        return False
    ordered.take_roll(roll, payloads, now_ns, came)
    return True
