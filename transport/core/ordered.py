"""The ordered lane of one view: epochs are closed, completed, and delivered in the agreed order.

A part of `delivery.py`, which numbers and receives batches like those of any lane. Here is what
only this lane has: ENDs, `done`, and what every member is known to hold (PROTOCOL 5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .. import wire_data
from ..config import Limits
from ..events import View, ViewId
from ..wire_data import ORDERED_LANE, Data, StreamKey
from ..wire_roll import Roll
from .batches import Arrived, Stamp, size_of
from .choir import Choir
from .epochs import Ending, Epochs
from .framing import HEADER_BYTES
from .meetings import Bundle, Meetings
from .outputs import Ordered, Outputs, Stable, Unison
from .slowness import Slowness
from .streams import InStream, OutStream

ROLLS_KEPT: Final = 16
"""Epochs that came in rolls and may be kept although every member holds them."""


def _is_next(stream: InStream, sequence: int) -> bool:
    """Whether a batch is all that follows what is here of a stream."""
    if stream.held != sequence - 1 or stream.waiting or stream.early:
        return False
    return not stream.entry_pieces.size


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
        self._view_id = ViewId(0, 0)
        self._era = self._k = 0
        self._ins: Mapping[int, InStream] = {}
        self._by_rank: list[tuple[int, int, InStream]] = []
        """By ascending id each member, its incarnation and its stream."""
        self._members: list[tuple[int, int]] = []
        """The same without the streams."""
        self.own = InStream(StreamKey(node, 0, ORDERED_LANE))
        self._rolls: deque[tuple[int, Roll]] = deque()
        """By epoch what was taken at once; another member may lack it one day."""
        self.meetings = Meetings(members=(node,), node=node)
        self.choir = Choir(members=(node,), node=node)
        self.slowness = Slowness()
        self._closed = 0
        """The last epoch whose closing here was timed."""
        self._lazy_epoch = 0
        self._lazy_key: int | None = None
        self._lazy_since_ns: int | None = None
        """Which epoch and which meeting wait for something, and since when."""
        self.stamped = 0
        """The last complete epoch that a batch of ours has named."""
        self._index = 0
        self._safe: deque[tuple[int, int]] = deque()
        """Epochs with something safe in them, and the position at which each ends."""

    @property
    def position(self) -> int:
        """The last position of the view's agreed order that is delivered here."""
        return self._index

    def start(self, view: View, ins: Mapping[int, InStream]) -> None:
        """A view is installed; `ins` are the streams of this lane by member."""
        self.epochs = Epochs(node=self._node, members=view.members)
        self._untold.clear()
        self.urgent = False
        self._view_id = view.id
        self._era, self._k = view.id
        self._ins = ins
        self._by_rank = [(member, started, ins[member]) for member, started in view.incarnations]
        self._members = list(view.incarnations)
        self.own = ins[self._node]
        self._rolls.clear()
        self.meetings = Meetings(members=view.members, node=self._node)
        self.choir = Choir(members=view.members, node=self._node)
        self.slowness.begin()
        self._closed = 0
        self._lazy_epoch, self._lazy_key, self._lazy_since_ns = 0, None, None
        self.stamped = 0
        self._index = 0
        self._safe.clear()

    def is_here(self, data: Data) -> bool:
        """Whether a batch was numbered in this view."""
        return data.k == self._k and data.era == self._era

    # ------------------------------------------------------------------------------- sending

    def stamp(self, view: View, *, mark_fifo: int, mark_bulk: int) -> Stamp:
        """What the next batch of ours says."""
        epochs = self.epochs
        return Stamp(
            view.id, mark_fifo, mark_bulk, epochs.current, epochs.complete, epochs.may_close()
        )

    def numbered(
        self, data: Data, frame: bytes, payloads: list[bytes] | bytes, token: int
    ) -> Sequence[Bundle] | None:
        """A batch of ours waits for its epoch like any other.

        Returns what goes where if it goes by a schedule; None if it goes to everybody.
        """
        whole = None if isinstance(payloads, bytes) else payloads
        arrived = Arrived(data, frame, HEADER_BYTES, whole, token)
        own = self.own
        own.held = data.sequence
        own.waiting.append(arrived)
        self.stamped = data.done
        self.epochs.numbered(data.sequence, ends=bool(data.flags & wire_data.END))
        bundles = None
        if data.meeting is not None:
            bundles = self.meetings.said(data.meeting, data.epoch, arrived)
        if bundles is None:
            self.told(data.done)
        return bundles

    # --------------------------------------------------------------- what others know of us

    @property
    def gathering(self) -> bool:
        """Whether others are about to say what is kept here until they have."""
        return self.meetings.relaying or self.choir.data is not None

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

    def arrived(self, stream: InStream, arrived: Arrived, now_ns: int) -> Sequence[Bundle]:
        """A batch of another member is held; returns what is to be passed on."""
        data = arrived.data
        epochs, epoch, origin = self.epochs, data.epoch, data.origin
        stream.waiting.append(arrived)
        self._note(epoch, now_ns)
        if data.flags & wire_data.END and epochs.ended(origin, epoch, data.sequence):
            self.slowness.ended(origin, epoch, now_ns)
        epochs.member_done(origin, data.done)
        meeting = data.meeting
        if meeting is None:
            epochs.see(epoch)
            return ()
        if self.meetings.expects(meeting):
            epochs.see_lazily(epoch)
        elif epoch >= epochs.current:
            epochs.see(epoch)  # Nothing of ours will come that closes it.
        return self.meetings.heard(meeting, origin, epoch, arrived)

    def ended(self, node: int, end: Ending, now_ns: int) -> None:
        """An END that comes by itself."""
        epochs, (epoch, sequence, done) = self.epochs, end
        if epochs.is_member(node):
            if epochs.ended(node, epoch, sequence):
                self.slowness.ended(node, epoch, now_ns)
            epochs.member_done(node, done)
            epochs.see(epoch)

    def lazy_since_ns(self, now_ns: int) -> int | None:
        """Since when the same is waited for that need not come; None if nothing is."""
        epoch, key = self.epochs.lazy, self.choir.key
        if key is None:
            key = self.meetings.oldest
        if not epoch and key is None:
            self._lazy_since_ns = None
        elif self._lazy_since_ns is None or epoch != self._lazy_epoch or key != self._lazy_key:
            self._lazy_since_ns = now_ns
        self._lazy_epoch, self._lazy_key = epoch, key
        return self._lazy_since_ns

    def turn(self, now_ns: int) -> list[Ending]:
        """Close and deliver what is due at the end of a turn; returns ENDs to say."""
        epochs = self.epochs
        endings = epochs.catch_up()
        self._time_own(now_ns)
        while (ends := epochs.step(self._ins)) is not None:
            for rank in epochs.order(epochs.complete):
                member, incarnation, stream = self._by_rank[rank]
                waiting, last = stream.waiting, ends[rank]
                while waiting and waiting[0].data.sequence <= last:
                    self._deliver(member, incarnation, stream, waiting.popleft())
            self._note(epochs.complete, now_ns)
            self.slowness.completed(epochs.complete)
            endings += epochs.catch_up()
            self._time_own(now_ns)
        return endings

    def _time_own(self, now_ns: int) -> None:
        """What this node has closed in this turn is timed like what it hears."""
        while self._closed < self.epochs.current - 1:
            self._closed += 1
            self.slowness.ended(self._node, self._closed, now_ns)

    def waited_for(self) -> Mapping[int, int]:
        """Since when each member that holds up the order does so."""
        epochs = self.epochs
        owing = epochs.owing(self._ins) if epochs.current > epochs.complete + 1 else ()
        return self.slowness.waited_for(epochs.complete + 1, owing)

    def _deliver(self, member: int, incarnation: int, stream: InStream, arrived: Arrived) -> None:
        """Deliver the next batch of the agreed order."""
        data, payloads = arrived.data, arrived.payloads
        stream.delivered = data.sequence
        if payloads is None:
            payloads = stream.assemble(data, arrived.frame, self._limits.message_bytes_max)
        if not payloads:
            self._outputs.counters["malformed_batch"] += payloads is None
            return
        size, marks = size_of(payloads), (data.mark_fifo, data.mark_bulk)
        view_id = self._view_id if self.is_here(data) else data.view_id
        self._put(member, incarnation, view_id, data, payloads, size, marks, arrived.token)

    def _put(
        self,
        member: int,
        incarnation: int,
        view_id: ViewId,
        data: Data,
        payloads: list[bytes],
        size: int,
        marks: tuple[int, int],
        token: int,
    ) -> None:
        """The next entries of the agreed order; `data` is theirs, but for whose they are."""
        safe = bool(data.flags & wire_data.SAFE)
        first = self._index + 1
        self._index += len(payloads)
        self._outputs.stream.append(
            Ordered(
                member,
                incarnation,
                data.channel,
                payloads,
                view_id,
                first,
                marks[0],
                marks[1],
                size,
                safe,
                token,
            )
        )
        if safe:
            self.urgent = True
            self._safe.append((data.epoch, self._index))

    def finish(self, cut: Callable[[int], int]) -> None:
        """At the end of a view: everything up to the cut, by (epoch, rotated rank, sequence)."""
        place = self.epochs.place
        rest = [
            (arrived.data.epoch, place(rank, arrived.data.epoch), arrived.data.sequence, rank)
            for rank, (member, _, stream) in enumerate(self._by_rank)
            for arrived in stream.waiting
            if arrived.data.sequence <= cut(member)
        ]
        for _, _, _, rank in sorted(rest):
            member, incarnation, stream = self._by_rank[rank]
            self._deliver(member, incarnation, stream, stream.waiting.popleft())

    # ------------------------------------------------------------------------ an epoch at once

    def lacks(self, roll: Roll) -> bool:
        """Whether the next epoch is that of a roll, and of each other member just that is missing.

        What somebody has not said in it, or what stands in it twice, makes it another one.
        """
        rows, streams = roll.rows, self._by_rank
        if len(rows) != len(streams) or not self.epochs.lacks(roll.data.epoch):
            return False
        for rank, (member, _, stream) in enumerate(streams):
            row = rows[rank]
            if row[0] != member:
                return False
            if member == self._node:
                if stream.held != row[1] or len(stream.waiting) != 1:
                    return False
            elif not _is_next(stream, row[1]):
                return False
        return True

    def rank_next(self, node: int, origin: int, sequence: int) -> int | None:
        """The rank of another member of whom just this batch of its own is next, else None."""
        rank = self.epochs.rank_of(origin)
        if rank is None or origin != node or node == self._node:
            return None
        stream = self._by_rank[rank][2]
        return rank if _is_next(stream, sequence) else None

    def take_roll(
        self,
        roll: Roll,
        payloads: list[bytes],
        now_ns: int,
        came: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Take in and deliver an epoch that `lacks` says is missing; all bring these `payloads`.

        They have come now, or when `came` says for each member.
        """
        data, rows, node, epochs = roll.data, roll.rows, self._node, self.epochs
        epoch, first, token, rank = data.epoch, self._index + 1, 0, 0
        lasts: list[int] = []
        self._note(epoch, now_ns)
        for member, _, stream in self._by_rank:
            row = rows[rank]
            sequence, done = row[1], row[4]
            if member == node:
                token = stream.waiting.popleft().token
                self.told(done)
            else:
                stream.held = sequence
                epochs.rank_done(rank, done)
            stream.delivered = sequence
            lasts.append(sequence)
            rank += 1
        self._index += len(payloads) * rank
        safe = bool(data.flags & wire_data.SAFE)
        self._outputs.stream.append(
            Unison(
                data.channel,
                payloads,
                self._view_id,
                first,
                epochs.order(epoch),
                self._members,
                rows,
                size_of(payloads),
                safe,
                node,
                token,
            )
        )
        if safe:
            self.urgent = True
            self._safe.append((epoch, self._index))
        if data.meeting is not None:
            self.meetings.over(data.meeting)
        if len(rows) > 2:
            # In a view of two there is nobody else who may lack it.
            self._rolls.append((epoch, roll))
        epochs.take(epoch, lasts)
        if came:
            for node, at_ns in came:
                self.slowness.ended(node, epoch, at_ns)
            self.slowness.completed(epoch)
        else:
            self.slowness.brought(epochs.others, epoch, now_ns)

    def rolled(self, origin: int, sequence: int) -> bytes | None:
        """The DATA body of a batch that came in a roll, while somebody may lack it."""
        for _, roll in self._rolls:
            for row in roll.rows:
                if row[0] == origin and row[1] == sequence and origin != self._node:
                    return roll.body_of(row)
        return None

    # ----------------------------------------------------------------------------- stability

    def settle(self, own: OutStream, *, now: bool = False) -> bool:
        """Forget what all members are known to hold, if that is news; says what is safe.

        Unless it has to be `now`, some epochs that came in rolls may wait to be forgotten together:
        they are small.
        """
        epochs, rolls = self.epochs, self._rolls
        if rolls and not (now or self._safe or own.token_settled < own.token_numbered):
            unstable = epochs.complete - epochs.stable
            if len(rolls) == unstable < ROLLS_KEPT:
                return False
        stable = epochs.settle()
        if stable is None:
            return False
        done = held = rank = 0
        for progress in own.progress.values():  # of all others, by rank
            if rank == epochs.rank:
                rank += 1
            of_member = epochs.done[rank]
            rank += 1
            if of_member != done:
                done, held = of_member, epochs.own_last(of_member)
            progress.holds(held)
        safe, last = self._safe, 0
        while rolls and rolls[0][0] <= epochs.stable:
            rolls.popleft()
        for rank, sequence in enumerate(stable):
            self._by_rank[rank][2].forget_up_to(sequence)
        while safe and safe[0][0] <= epochs.stable:
            _, last = safe.popleft()
        if last:
            self._outputs.stream.append(Stable(self._view_id, last))
        return True
