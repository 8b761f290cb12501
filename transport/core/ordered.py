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
from ..wire_data import Data
from .epochs import Ending, Epochs, Slot
from .framing import HEADER_BYTES
from .meetings import Bundle, Meetings
from .outputs import Ordered, Outputs, Stable
from .streams import Arrived, InStream, OutStream, Stamp


class OrderedLane:
    """What this node has closed, delivered and told in the installed view."""

    def __init__(self, *, node: int, limits: Limits, outputs: Outputs) -> None:
        self._node = node
        self._limits = limits
        self._outputs = outputs
        self.epochs = Epochs(node=node, members=(node,))
        self._untold: deque[tuple[int, int]] = deque()
        """Epochs of which something is here that not everybody knows of, and since when."""
        self.urgent = False
        """Somebody waits to know that we hold what has become complete."""
        self._ins: Mapping[int, InStream] = {}
        self._incarnations: dict[int, int] = {}
        self.meetings = Meetings(members=(node,), node=node)
        self.stamped = 0
        """The last complete epoch that a batch of ours has named."""
        self._index = 0
        self._safe: deque[tuple[int, int]] = deque()
        """Epochs with something safe in them, and the position at which each ends."""

    def start(self, view: View, ins: Mapping[int, InStream]) -> None:
        """A view is installed; `ins` are the streams of this lane by member."""
        self.epochs = Epochs(node=self._node, members=view.members)
        self._untold.clear()
        self.urgent = False
        self._ins = ins
        self._incarnations = dict(view.incarnations)
        self.meetings = Meetings(members=view.members, node=self._node)
        self._index = 0
        self._safe.clear()

    # ------------------------------------------------------------------------------- sending

    def stamp(self, view: View, *, mark_fifo: int, mark_bulk: int) -> Stamp:
        """What the next batch of ours says."""
        epochs = self.epochs
        return Stamp(
            view.id, mark_fifo, mark_bulk, epochs.current, epochs.complete, epochs.may_close()
        )

    def numbered(
        self, data: Data, frame: bytes, payloads: list[bytes] | bytes, token: int
    ) -> list[Bundle] | None:
        """A batch of ours waits for its epoch like any other.

        Returns what goes where if it goes by a schedule; None if it goes to everybody.
        """
        whole = None if isinstance(payloads, bytes) else payloads
        arrived = Arrived(data, frame, HEADER_BYTES, whole, token)
        self._ins[self._node].waiting.append(arrived)
        self.stamped = data.done
        self.epochs.numbered(data.sequence, ends=bool(data.flags & wire_data.END))
        bundles = None
        if data.meeting is not None:
            bundles = self.meetings.said(data.meeting, data.epoch, frame[HEADER_BYTES:])
        if bundles is None:
            self.told(data.done)
        return bundles

    # --------------------------------------------------------------- what others know of us

    @property
    def untold_since_ns(self) -> int | None:
        """Since when there is something here of which not everybody knows that it is."""
        return self._untold[0][1] if self._untold else None

    def _note(self, epoch: int, now_ns: int) -> None:
        """Something of an epoch is here; telling that the epoch is complete tells it."""
        if not self._untold or self._untold[-1][0] < epoch:
            self._untold.append((epoch, now_ns))

    def told(self, done: int) -> None:
        """Something of ours has gone to everybody that says which epochs are complete here."""
        untold = self._untold
        while untold and untold[0][0] <= done:
            untold.popleft()
        if not untold:
            self.urgent = False

    def all_told(self) -> None:
        """An acknowledgement tells everybody everything."""
        self._untold.clear()
        self.urgent = False

    # ----------------------------------------------------------------------------- receiving

    def arrived(
        self, stream: InStream, arrived: Arrived, now_ns: int
    ) -> tuple[list[Ending], list[Bundle]]:
        """A batch of another member is held: ENDs that it makes us say, and what to pass on."""
        data = arrived.data
        stream.waiting.append(arrived)
        self._note(data.epoch, now_ns)
        slot = Slot(data.key.origin, data.sequence, data.epoch, bool(data.flags & wire_data.END))
        meeting = data.meeting
        if meeting is None:
            return self.epochs.held(slot), []
        body = arrived.frame[arrived.offset :]
        bundles = self.meetings.heard(meeting, data.key.origin, data.epoch, body)
        return self.epochs.held(slot, lazy=self.meetings.expects(meeting)), bundles

    def advance(self, now_ns: int) -> list[Ending]:
        """Deliver what has become complete; returns ENDs for which there is room now."""
        before = self.epochs.complete
        slots, endings = self.epochs.advance(self._held)
        if self.epochs.complete > before:
            self._note(self.epochs.complete, now_ns)
        for slot in slots:
            self.deliver(slot)
        return endings

    def _held(self, member: int) -> int:
        return self._ins[member].held

    def deliver(self, slot: Slot) -> None:
        """Deliver the next batch of the agreed order."""
        stream = self._ins[slot.origin]
        data, frame, _, payloads, token = stream.waiting.popleft()
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
