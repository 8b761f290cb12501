"""Numbered streams of batches: the sending and the receiving half, each for one view at a time.

A stream is (sender, addressee or everybody, lane). Batches are numbered from 1 in each view.
The sender keeps each batch until every addressee *holds* it and counts it against the window
until every addressee has *taken* it; everybody keeps the batches of a multicast stream until
all members hold them, so that any holder can repair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..._native import codec
from .. import wire_data
from ..config import Limits
from ..events import Lane
from ..wire_data import Data, Meeting, StreamKey
from .batches import Arrived, Queued, Sent, Stamp
from .framing import Framer

MESSAGE_COST_BYTES: Final = 64
"""What a message takes of a queue besides its payload: empty ones must not be free."""
CAST_LANES: Final = (Lane.ORDERED, Lane.BULK)
"""What goes on them goes as datagrams, where these arrive."""
EARLY_MAX: Final = 64
"""Batches of one stream that are kept although something before them is missing."""
_unpack_batch: Final[Callable[[bytes, int], list[bytes] | None]] = codec.unpack_batch
_pack_batch: Final[Callable[[Sequence[bytes]], bytes]] = codec.pack_batch


@dataclass(slots=True)
class Progress:
    """How far one addressee is on one of our streams."""

    sent: int = 0
    held: int = 0
    taken: int = 0
    beyond: int = 0
    """So many batches behind a gap it has as well."""
    asked: int = -1
    """How far it held the stream when it was last asked for what it lacks."""
    detour: bool = False
    """Its batches go on the repair stream: their own stands still."""
    cast: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    """Batches that went without a promise, each with the time to send it again."""
    frozen: bool = False
    """Its application does not read this lane: it is granted no window."""

    def holds(self, held: int) -> None:
        """It has said by other means than an acknowledgement how far it holds the stream."""
        if held > self.held:
            self.held = held
            self.sent = max(self.sent, held)


class OutStream:
    """The sending half. Messages and tokens live across views, numbers within one."""

    def __init__(self, *, origin: int, addressee: int, lane: Lane, limits: Limits) -> None:
        self.key = StreamKey(origin, addressee, lane)
        self._limits = limits
        self._window_bytes = limits.window_bytes
        self._batch_messages_max = limits.batch_messages_max
        self._batch_bytes = limits.bulk_batch_bytes if lane is Lane.BULK else limits.batch_bytes
        self.queue: deque[Queued] = deque()
        self.queue_bytes = 0
        self.urgent: deque[Queued] = deque()
        """Entries of layers: they release others from waiting, so that no window holds them."""
        self.token_accepted = 0
        self.token_numbered = 0
        self.token_settled = 0
        self.full = False
        self._piece_at = self._entry_at = 0
        self.start(())

    def start(self, addressees: Iterable[int]) -> None:
        """Begin a view: numbers start at 1 and nobody holds anything."""
        self.last = 0
        """The last number given; 0 if none."""
        self.last_whole = 0
        """The last batch that ended with the end of a message."""
        self.sent: dict[int, Sent] = {}
        self.relayed: deque[tuple[int, int]] = deque()
        """Batches that went to all by a schedule; like `Progress.cast`, for every addressee."""
        self._sent_bytes = 0
        self._oldest = 1
        self.progress = {node: Progress() for node in addressees}
        self._window_used = 0
        self._frozen = False
        self._sizes: deque[tuple[int, int]] = deque()
        # A message whose pieces were not all numbered in the view before goes again as a whole.
        self._piece_at = self._entry_at = 0

    # ------------------------------------------------------------------------------ accepting

    def room_for(self, size: int) -> bool:
        """Whether a message of `size` bytes is accepted now; an empty queue takes any message."""
        cost = size + MESSAGE_COST_BYTES
        return not self.queue or self.queue_bytes + cost <= self._limits.queue_bytes

    def accept(self, payload: bytes, channel: bytes, *, safe: bool = False) -> int:
        """Queue a message; returns its token."""
        self.token_accepted += 1
        self.queue.append(Queued(payload, channel, self.token_accepted, safe))
        self.queue_bytes += len(payload) + MESSAGE_COST_BYTES
        return self.token_accepted

    def accept_entry(
        self, payload: bytes, channel: bytes, *, safe: bool, meeting: Meeting | None
    ) -> None:
        """Queue an entry of a layer: it goes before every message that waits."""
        self.urgent.append(Queued(payload, channel, 0, safe, meeting))

    def abandon(self) -> None:
        """The addressee is gone: what waits for it is settled. Tokens go on, should it return."""
        self.queue.clear()
        self.queue_bytes = 0
        self.token_numbered = self.token_settled = self.token_accepted
        self.start(())

    # ------------------------------------------------------------------------------ numbering

    def window_open(self) -> bool:
        """Whether another batch may be numbered."""
        return self._window_used < self._window_bytes and not self._frozen

    @property
    def unnumbered(self) -> int:
        """The token of the last message; 0 if all of them have been numbered."""
        return self.token_accepted if self.token_accepted > self.token_numbered else 0

    @property
    def can_number(self) -> bool:
        """Whether there is anything to number, and room for it."""
        return bool(self.urgent or (self.queue and self.window_open()))

    def number(self, framer: Framer, stamp: Stamp) -> tuple[Data, list[bytes] | bytes]:
        """Number the next batch; only while `can_number`.

        Returns its header, and its payloads or, if it is a fragment, the piece.
        """
        layered = bool(self.urgent)
        queue = self.urgent if layered else self.queue
        head = queue[0]
        payloads: list[bytes] | bytes
        if len(head.payload) > self._batch_bytes:
            flags, payloads = self._take_piece(queue, head)
            body = payloads
        else:
            flags, payloads = self._take_messages(queue, head)
            body = _pack_batch(payloads)
        if stamp.may_end and not self.urgent and not self._more_after(len(body)):
            flags |= wire_data.END
        meeting = head.meeting
        header = wire_data.encode_data(
            stamp.view_id,
            self.key,
            flags=flags,
            epoch=stamp.epoch,
            sequence=self.last + 1,
            mark_fifo=stamp.mark_fifo,
            mark_bulk=stamp.mark_bulk,
            channel=head.channel,
            done=stamp.done,
            meeting=meeting,
        )
        frame = framer.data(header, body, addressee=self.key.addressee)
        data = Data(
            stamp.view_id.era,
            stamp.view_id.k,
            self.key.origin,
            self.key.addressee,
            self.key.lane,
            flags,
            stamp.epoch,
            self.last + 1,
            stamp.mark_fifo,
            stamp.mark_bulk,
            head.channel.decode(),
            len(frame) - len(body),
            stamp.done,
            meeting,
        )
        size = len(frame)
        self._sent_bytes += size
        self._keep(Sent(frame, size, self.token_numbered, self._sent_bytes), counts=not layered)
        return data, payloads

    def _more_after(self, size: int) -> bool:
        """Whether another batch will be numbered in this turn, behind one of `size` bytes."""
        room = self._window_used + size < self._window_bytes and not self._frozen
        return bool(self.queue) and room

    def _take_piece(self, queue: deque[Queued], head: Queued) -> tuple[int, bytes]:
        """Entries have a place of their own: they may stand between the pieces of a message."""
        layered = queue is self.urgent
        start = self._entry_at if layered else self._piece_at
        end = start + self._batch_bytes
        flags = wire_data.FRAGMENT | (wire_data.SAFE if head.safe else 0)
        if start == 0:
            flags |= wire_data.FIRST
        piece = head.payload[start:end]
        if end >= len(head.payload):
            flags |= wire_data.LAST
            queue.popleft()
            end = 0
            if not layered:
                self.queue_bytes -= len(head.payload) + MESSAGE_COST_BYTES
                self.token_numbered = head.token
        if layered:
            self._entry_at = end
        else:
            self._piece_at = end
        return flags, piece

    def _take_messages(self, queue: deque[Queued], head: Queued) -> tuple[int, list[bytes]]:
        """As many messages as one batch takes; all are of one kind."""
        payloads: list[bytes] = []
        room = self._batch_bytes
        most = self._batch_messages_max
        channel, safe, meeting = head.channel, head.safe, head.meeting
        size = 0
        while queue and len(payloads) < most:
            item = queue[0]
            payload = item.payload
            room -= len(payload) + 4
            together = item.meeting is meeting or item.meeting == meeting
            alike = item.channel == channel and item.safe is safe and together
            if not alike or (payloads and room < 0):
                break
            payloads.append(payload)
            size += len(payload) + MESSAGE_COST_BYTES
            queue.popleft()
        if queue is self.queue:
            self.queue_bytes -= size
            self.token_numbered += len(payloads)
        return wire_data.SAFE if safe else 0, payloads

    def _keep(self, sent: Sent, *, counts: bool) -> None:
        self.last += 1
        self.sent[self.last] = sent
        if counts and self.progress:
            self._sizes.append((self.last, sent.size))
            self._window_used += sent.size
        if not self._piece_at:
            self.last_whole = self.last

    # ------------------------------------------------------------------------ acknowledgements

    def acknowledged(self, node: int, held: int, taken: int, beyond: int = 0) -> None:
        """An addressee says how far it is; impossible numbers are clipped."""
        progress = self.progress.get(node)
        if progress is None:
            return
        if held >= progress.held:
            progress.beyond = min(beyond, EARLY_MAX)
        progress.held = max(progress.held, min(held, self.last))
        progress.taken = max(progress.taken, min(taken, progress.held))
        progress.sent = max(progress.sent, progress.held)
        lowest = min(p.taken for p in self.progress.values())
        sizes = self._sizes
        while sizes and sizes[0][0] <= lowest:
            self._window_used -= sizes.popleft()[1]

    def freeze(self, node: int, *, frozen: bool) -> None:
        """An addressee's application does not read (or does again)."""
        progress = self.progress.get(node)
        if progress is not None and progress.frozen is not frozen:
            progress.frozen = frozen
            self._frozen = any(one.frozen for one in self.progress.values())

    def in_flight_bytes(self, node: int) -> int:
        """What an addressee was sent and has not said that it has, about."""
        progress = self.progress.get(node)
        if progress is None or progress.sent <= progress.held:
            return 0
        first, count = self.sent[progress.held + 1], progress.sent - progress.held
        size = self.sent[progress.sent].upto_bytes - first.upto_bytes + first.size
        return size * max(0, count - progress.beyond) // count if progress.beyond else size

    def outstanding(self, node: int) -> bool:
        """Whether the association owes it the next batch; what was cast is waited for elsewhere."""
        progress = self.progress.get(node)
        if progress is None:
            return False
        lacks = progress.held + 1
        return progress.sent >= lacks and all(
            sequence != lacks for cast in (progress.cast, self.relayed) for sequence, _ in cast
        )

    def held_by_all(self) -> int:
        """The last batch that every addressee holds."""
        lowest = self.last
        for progress in self.progress.values():
            lowest = min(lowest, progress.held)
        return lowest

    def settle(self) -> int | None:
        """Free what everybody holds; returns the last token settled, or None if none is new."""
        lowest = self.held_by_all()
        token = self.token_settled
        while self._oldest <= lowest:
            token = self.sent.pop(self._oldest).token
            self._oldest += 1
        if token <= self.token_settled:
            return None
        self.token_settled = token
        return token

    def unsettled(self) -> list[tuple[int, int]]:
        """(sequence, token) of each batch that somebody does not hold, in order."""
        return [(sequence, sent.token) for sequence, sent in sorted(self.sent.items())]

    def held_without(self, gone: Collection[int]) -> bool:
        """Nothing is queued, and every addressee but those `gone` holds everything."""
        return not (self.queue or self.urgent) and all(
            progress.held >= self.last
            for node, progress in self.progress.items()
            if node not in gone
        )

    @property
    def window_used_bytes(self) -> int:
        """Bytes numbered and not yet taken by everybody."""
        return self._window_used


class _Pieces:
    """What has come of one message."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def append(self, part: bytes) -> None:
        self._parts.append(part)
        self.size += len(part)

    def take(self) -> bytes:
        """All of it as one; nothing is left."""
        whole = b"".join(self._parts)
        self.clear()
        return whole

    def clear(self) -> None:
        self._parts = []
        self.size = 0


@dataclass(slots=True)
class InStream:
    """The receiving half, for one view."""

    key: StreamKey
    held: int = 0
    """Everything up to here has arrived."""
    delivered: int = 0
    taken: int = 0
    waiting: deque[Arrived] = field(default_factory=deque[Arrived])
    """Held and not delivered: the ordered lane's, and what arrives while the view is closed."""
    kept: dict[int, Arrived] = field(default_factory=dict[int, Arrived])
    """Batches that some member may still lack."""
    early: dict[int, Arrived] = field(default_factory=dict[int, Arrived])
    """Batches that came as datagrams, of which those before are on their way."""
    early_since_ns: int = 0
    """Since when what comes before those is missing."""
    kept_from: int = 1
    pieces: _Pieces = field(default_factory=_Pieces)
    """Of a message that is not whole yet."""
    entry_pieces: _Pieces = field(default_factory=_Pieces)
    """Of a layer's entry: it may come between the pieces of a message."""

    @property
    def casts(self) -> bool:
        """Its batches may come as datagrams alone, and overtake each other."""
        return self.key.lane in CAST_LANES

    @property
    def overtaken(self) -> bool:
        """What is missing may not come by itself."""
        return bool(self.early) and self.casts

    def keep_early(self, arrived: Arrived, now_ns: int) -> bool:
        """Keep a batch until those before it are here; False if it has to come again."""
        return self.casts and self._keep(arrived, now_ns)

    def keep_copy(self, arrived: Arrived, now_ns: int) -> bool:
        """The same where an association brings it as well, and what comes before."""
        return not self.casts and self._keep(arrived, now_ns)

    def _keep(self, arrived: Arrived, now_ns: int) -> bool:
        if arrived.data.sequence > self.held + EARLY_MAX:
            return False
        if not self.early:
            self.early_since_ns = now_ns
        self.early[arrived.data.sequence] = arrived
        return True

    def forget_up_to(self, sequence: int) -> None:
        """Every member holds these: nobody will ask for them any more."""
        while self.kept and self.kept_from <= sequence:
            self.kept.pop(self.kept_from, None)
            self.kept_from += 1
        self.kept_from = max(self.kept_from, sequence + 1)

    def assemble(self, data: Data, frame: bytes, message_bytes_max: int) -> list[bytes] | None:
        """The messages that this batch completes; None if it is malformed."""
        layered = data.lane == wire_data.ORDERED_LANE and data.channel[:1] == "!"
        pieces = self.entry_pieces if layered else self.pieces
        if not data.flags & wire_data.FRAGMENT:
            if pieces:
                pieces.clear()
                return None
            return _unpack_batch(frame, data.offset)
        if bool(data.flags & wire_data.FIRST) is bool(pieces):
            pieces.clear()
            return None
        pieces.append(frame[data.offset :])
        if pieces.size > message_bytes_max:
            pieces.clear()
            return None
        if not data.flags & wire_data.LAST:
            return []
        return [pieces.take()]


class Holders:
    """What the other members hold of the multicasts of others, until all of them hold it."""

    def __init__(self, ins: Mapping[StreamKey, InStream], others: Collection[int]) -> None:
        self._ins = ins
        self._held: dict[StreamKey, dict[int, int]] = {
            key: {node: 0 for node in others if node != key.origin}
            for key in ins
            if key.origin in others
        }

    def others(self, key: StreamKey) -> bool:
        """Whether any other member may ever ask for a batch of that stream."""
        return bool(self._held.get(key))

    def hold(self, key: StreamKey, node: int, held: int) -> None:
        """A member says how far it holds a stream."""
        holders = self._held.get(key)
        if holders is not None and held > holders.get(node, held):
            holders[node] = held
            self.forget(key)

    def forget(self, key: StreamKey) -> None:
        """Drop what everybody holds."""
        holders = self._held.get(key)
        if holders:
            stream = self._ins[key]
            stream.forget_up_to(min(stream.held, *holders.values()))
