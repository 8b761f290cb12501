"""Batches of a meeting that are kept until all members have spoken, and then are one roll.

The first member of a view passes on to all what the others say at a meeting. Where all are to meet
and say the same, each batch is a row of the roll that is to be passed on, and is not looked at by
itself: as soon as all rows are here, the roll goes out and the epoch is taken at once. Until then
a batch counts as still on its way. Whatever else happens first, be it that somebody asks, that
something else is said, or that the time is over, has the batches taken in as if they came now.

This is a part of `delivery.py`, on whose streams it works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import wire_data
from ..wire_data import Data, decode_data
from ..wire_roll import Row, Words, roll_of
from .framing import HEADER_BYTES
from .meetings import RELAYED_BYTES_MAX, Bundle
from .rolls import is_alike, take_roll
from .spread import Kind, choose
from .streams import InStream

if TYPE_CHECKING:
    from .delivery import Delivery


class Choir:
    """What is kept of one meeting in one view."""

    def __init__(self, *, members: Sequence[int], node: int) -> None:
        count = len(members)
        first = min(members) == node
        self.leads = first and choose(count, count) is Kind.COORDINATOR
        """This node passes on what is said at a meeting of all."""
        self.data: Data | None = None
        """Of the batch that came first; None while nothing is kept."""
        self.words: Words | None = None
        self.missing = count
        """How many are not kept; at the least 1, for what this node itself says is not."""
        self.rows: list[Row | None] = [None] * count
        """By rank; None of who has not spoken, and of this node."""
        self.parts: list[bytes] = [b""] * count
        """The same as bytes."""
        self.kept: list[tuple[int, bytes, int, int]] = []
        """Who sent it, the frame, where the body begins in it, and when it came."""

    @property
    def key(self) -> int | None:
        """Of the meeting of which something is kept; None if nothing is."""
        meeting = self.data.meeting if self.data is not None else None
        return meeting.key if meeting is not None else None

    def clear(self) -> None:
        """Nothing is kept any more."""
        count = len(self.rows)
        self.data = self.words = None
        self.missing = count
        self.rows = [None] * count
        self.parts = [b""] * count
        self.kept = []


def keep(delivery: Delivery, node: int, frame: bytes, offset: int, now_ns: int) -> bool:
    """Keep what a member says at a meeting; False if it is to be taken in as any other batch."""
    choir = delivery.ordered.choir
    data, words = choir.data, choir.words
    if words is None:
        data = _to_begin_with(delivery, node, frame, offset)
        if data is None:
            return False
        words = Words(frame, offset)
    part = words.part(frame, offset)
    if part is None:
        return False
    row = words.row(part)
    rank = delivery.ordered.rank_next(node, row[0], row[1])
    if rank is None or choir.rows[rank] is not None:
        return False
    choir.data, choir.words = data, words
    choir.rows[rank] = row
    choir.parts[rank] = part
    choir.missing -= 1
    choir.kept.append((node, frame, offset, now_ns))
    if choir.missing == 1:
        speak(delivery, now_ns)
    return True


def _to_begin_with(delivery: Delivery, node: int, frame: bytes, offset: int) -> Data | None:
    """The batch of one that speaks first, if all are expected to say the same in this epoch."""
    ordered = delivery.ordered
    epochs, choir = ordered.epochs, ordered.choir
    if delivery.closed or len(frame) > RELAYED_BYTES_MAX:
        return None
    data = decode_data(frame, offset)
    if data is None or data.lane != wire_data.ORDERED_LANE or not is_alike(ordered, data):
        return None
    meeting, epoch = data.meeting, data.epoch
    if meeting is None or meeting.wanted != len(choir.rows) or data.origin != node:
        return None
    if epoch != epochs.complete + 1 or epoch <= epochs.asked or epochs.current > epoch + 1:
        return None
    return data


def speak(delivery: Delivery, now_ns: int) -> None:
    """If all others have spoken, and this node has: all of it goes to all, and is taken."""
    ordered = delivery.ordered
    choir, epochs = ordered.choir, ordered.epochs
    data, words = choir.data, choir.words
    if data is None or words is None:
        return
    own, rank = ordered.own, epochs.rank
    if delivery.closed or data.epoch <= epochs.asked:
        release(delivery, now_ns)
    elif epochs.current > data.epoch:
        # This node has closed the epoch: by the same words, or there is nothing to wait for.
        part = _own_part(own, words)
        if part is None:
            release(delivery, now_ns)
        elif choir.missing == 1:
            choir.parts[rank] = part
            rows = [row for row in choir.rows if row is not None]
            rows.insert(rank, words.row(part))
            _pass_on(delivery, data, words, rows, now_ns)


def _own_part(own: InStream, words: Words) -> bytes | None:
    return words.part(own.waiting[0].frame, HEADER_BYTES) if len(own.waiting) == 1 else None


def _pass_on(delivery: Delivery, data: Data, words: Words, rows: list[Row], now_ns: int) -> None:
    ordered = delivery.ordered
    body = words.encode(ordered.choir.parts)
    roll = roll_of(data, rows, body)
    kept = ordered.choir.kept
    if not take_roll(delivery, roll, now_ns, [(node, at_ns) for node, _, _, at_ns in kept]):
        release(delivery, now_ns)
        return
    ordered.choir.clear()
    others = ordered.epochs.others
    delivery.carrying.bundle([Bundle(others, (), delivery.framer.roll(body))])


def release(delivery: Delivery, now_ns: int) -> None:
    """Take in by itself all that is kept."""
    kept = delivery.ordered.choir.kept
    if kept:
        delivery.ordered.choir.clear()
        for node, frame, offset, _ in kept:
            delivery.receive(node, frame, offset, now_ns, beside=True)
