"""The ordered lane of one view: epochs are closed, completed, and delivered in the agreed order.

A part of `delivery.py`, which numbers and receives batches like those of any lane. Here is what
only this lane has: ENDs, `done`, and what every member is known to hold (PROTOCOL 5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from .. import wire_data
from ..config import Limits
from ..events import View
from ..wire_data import Data, Meeting
from .epochs import Ending, Epochs, Slot
from .meetings import Meetings
from .outputs import Ordered, Outputs, Stable
from .streams import Arrived, InStream, OutStream, Stamp


class OrderedLane:
    """What this node has closed, delivered and told in the installed view."""

    def __init__(self, *, node: int, limits: Limits, outputs: Outputs) -> None:
        self._node = node
        self._limits = limits
        self._outputs = outputs
        self.epochs = Epochs(node=node, members=(node,))
        self.told = 0
        """The last complete epoch of which everybody was told."""
        self.told_ns = 0
        """When anything was last said to everybody that tells how far we are."""
        self.urgent = False
        """Somebody waits to know that we hold what has become complete."""
        self._ins: Mapping[int, InStream] = {}
        self._incarnations: dict[int, int] = {}
        self._meetings = Meetings(members=(node,), node=node)
        self._index = 0
        self._safe: deque[tuple[int, int]] = deque()
        """Epochs with something safe in them, and the position at which each ends."""

    def start(self, view: View, ins: Mapping[int, InStream]) -> None:
        """A view is installed; `ins` are the streams of this lane by member."""
        self.epochs = Epochs(node=self._node, members=view.members)
        self.told = 0
        self.urgent = False
        self._ins = ins
        self._incarnations = dict(view.incarnations)
        self._meetings = Meetings(members=view.members, node=self._node)
        self._index = 0
        self._safe.clear()

    # ------------------------------------------------------------------------------- sending

    def stamp(self, view: View, *, mark_fifo: int, mark_bulk: int, now_ns: int) -> Stamp:
        """What the next batch of ours says."""
        epochs = self.epochs
        self._tell(now_ns)
        return Stamp(
            view.id, mark_fifo, mark_bulk, epochs.current, epochs.complete, epochs.may_close()
        )

    def _tell(self, now_ns: int) -> None:
        self.told = self.epochs.complete
        self.told_ns = now_ns
        self.urgent = False

    def numbered(self, data: Data, frame: bytes, payloads: list[bytes] | bytes, token: int) -> None:
        """A batch of ours waits for its epoch like any other."""
        whole = None if isinstance(payloads, bytes) else payloads
        self._ins[self._node].waiting.append(Arrived(data, frame, whole, token))
        self.epochs.numbered(data.sequence, ends=bool(data.flags & wire_data.END))
        if data.meeting is not None:
            self._meetings.said(data.meeting)

    def said(self, now_ns: int) -> None:
        """ENDs of ours go to everybody, and say how far we are."""
        self._tell(now_ns)

    # ----------------------------------------------------------------------------- receiving

    def arrived(self, stream: InStream, data: Data, frame: bytes) -> list[Ending]:
        """A batch of another member is held; returns ENDs that it makes us say."""
        stream.waiting.append(Arrived(data, frame))
        ends = bool(data.flags & wire_data.END)
        slot = Slot(data.key.origin, data.sequence, data.epoch, ends)
        return self.epochs.held(slot, lazy=self._is_lazy(data.meeting))

    def _is_lazy(self, meeting: Meeting | None) -> bool:
        """Whether the same is about to come from this node, which will close the epoch."""
        return meeting is not None and self._meetings.expects(meeting)

    def advance(self) -> list[Ending]:
        """Deliver what has become complete; returns ENDs for which there is room now."""
        slots, endings = self.epochs.advance(self._held)
        for slot in slots:
            self.deliver(slot)
        return endings

    def _held(self, member: int) -> int:
        return self._ins[member].held

    def deliver(self, slot: Slot) -> None:
        """Deliver the next batch of the agreed order."""
        stream = self._ins[slot.origin]
        data, frame, payloads, token = stream.waiting.popleft()
        assert data.sequence == slot.sequence, "slots and batches are kept in the same order"
        stream.delivered = data.sequence
        if payloads is None:
            payloads = stream.assemble(data, frame, self._limits.message_bytes_max)
        if not payloads:
            self._outputs.counters["malformed_batch"] += payloads is None
            return
        self._outputs.stream.append(
            Ordered(
                slot.origin,
                self._incarnations[slot.origin],
                data.channel,
                payloads,
                data.view_id,
                self._index + 1,
                data.mark_fifo,
                data.mark_bulk,
                sum(map(len, payloads)),
                bool(data.flags & wire_data.SAFE),
                token,
            )
        )
        self._index += len(payloads)
        if data.flags & wire_data.SAFE:
            self.urgent = True
            self._safe.append((slot.epoch, self._index))

    # ----------------------------------------------------------------------------- stability

    def member_done(self, node: int, done: int, own: OutStream) -> bool:
        """A member holds all epochs up to `done`; True if more of ours is held by it."""
        if done <= self.epochs.done.get(node, done):
            return False
        self.epochs.member_done(node, done)
        held = self.epochs.own_last(done)
        if held is None:
            return False
        own.acknowledged(node, held, 0)
        return True

    def settle(self, view: View) -> dict[int, int]:
        """Which batches, by member, all members hold since the last call; say what is safe."""
        stable = self.epochs.settle()
        index = 0
        while self._safe and self._safe[0][0] <= self.epochs.stable:
            _, index = self._safe.popleft()
        if index:
            self._outputs.stream.append(Stable(view.id, index))
        return stable
