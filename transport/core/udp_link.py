"""One association over datagrams: what SCTP does for a peer, where it does not get through.

Frames of one stream arrive in order, once, and whole, while the link lives; streams do not wait for
each other. It is as plain as it can be: frames are numbered, the receiver says which of them it
lacks, and what is not acknowledged in time goes again, over the next rail. How much may be on its
way is a window that grows with what is acknowledged and is halved at a time-out (RFC 5681).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ..config import MS, Timing
from ..drivers.base import (
    ALL_PIECES,
    CAST_BYTES_MAX,
    NUMBERS,
    STREAMS,
    Incomplete,
)
from ..wire_link import LINK_BYTES, Ask, LinkAck, LinkHead, Open, Part, encode_part
from .framing import HEADER_BYTES
from .repair import ReceiveWindow, named, near

PART_BYTES_MAX: Final = CAST_BYTES_MAX - HEADER_BYTES - LINK_BYTES
"""What a part brings at most: it is a LINK frame, cast as one."""
QUEUE_BYTES_MAX: Final = 1 << 20
"""What waits for the window; past it frames are refused."""
WINDOW_FIRST_BYTES: Final = 128 << 10
WINDOW_LEAST_BYTES: Final = 16 << 10
WINDOW_MOST_BYTES: Final = 512 << 10
ACK_BYTES: Final = 64 << 10
"""So much is acknowledged at once."""
ACK_DELAY_NS: Final = MS
"""Less is, after so long."""
EARLY_MAX: Final = 4096
"""Parts of one stream that are kept although one before them is missing."""
KEPT_BYTES_MAX: Final = 8 * WINDOW_MOST_BYTES
"""What is kept of parts that wait for others: no peer has so much on its way."""
RTT_MIN_NS: Final = 200_000


@dataclass(slots=True)
class Send:
    """A LINK frame to be sent, or some pieces of it."""

    body: bytes
    number: int
    pieces: int
    rail: str


@dataclass(slots=True)
class _Flying:
    """A part that is not acknowledged."""

    body: bytes
    sent_ns: int
    rail: str
    times: int = 1


@dataclass(slots=True)
class _Stream:
    """The receiving half of a stream."""

    following: int = 0
    early: dict[int, tuple[bool, bytes]] = field(default_factory=dict[int, tuple[bool, bytes]])
    parts: list[bytes] = field(default_factory=list[bytes])


class UdpLink:
    """The state of one link, from one opening to its end."""

    def __init__(
        self,
        *,
        node: int,
        link: int,
        session: int,
        rails: Sequence[str],
        timing: Timing,
        now_ns: int,
        urgent: bool,
    ) -> None:
        self.node = node
        self.link = link
        self.up = False
        """Both sides know of each other; until then it is being opened."""
        self.session = session
        self.echo = 0
        self.urgent = urgent
        self.opened_ns = now_ns
        self._rails = tuple(rails)
        self.rail = rails[0]
        """The one that carries what is sent."""
        self._open_due_ns = now_ns
        self._open_tries = 0
        sctp = timing.sctp
        self._rto_min_ns, self._rto_max_ns = sctp.rto_min_ms * MS, sctp.rto_max_ms * MS
        self._rto_ns = sctp.rto_initial_ms * MS
        self._give_up_ns = 4 * timing.suspect_ns
        self.srtt_ns = 0
        self._queue: deque[tuple[int, bool, bytes]] = deque()
        """Parts that wait for the window: stream, whether a frame ends there, and the bytes."""
        self._queue_bytes = 0
        self.refused = False
        """A frame found no room since the last time that there was some."""
        self._following = 0
        """The number of the next part: both sides begin with 0."""
        self._flying: OrderedDict[int, _Flying] = OrderedDict()
        self._flying_bytes = 0
        self._window = WINDOW_FIRST_BYTES
        self._progress_ns = now_ns
        """When something was last acknowledged, or nothing was on its way."""
        self._places = [0] * STREAMS
        self._come = ReceiveWindow(session=0, first=0)
        self._streams = [_Stream() for _ in range(STREAMS)]
        self._kept_bytes = 0
        """Of parts that wait for others."""
        self._ack_due_ns: int | None = None
        self._patience_ns = 0
        """How long until it says again what lacks."""
        self._unacked_bytes = 0
        self.closing_ns = 0
        """When it began to close."""

    # ------------------------------------------------------------------------------- opening

    @property
    def head(self) -> LinkHead:
        """What all it sends begins with."""
        return LinkHead(self.session, self.echo)

    def opening(self) -> Open:
        """What it says until both know of each other."""
        return Open(self.head, self.urgent, self.up)

    def heard(self, message: Open) -> bool:
        """The peer opens as well; True if it has to be answered."""
        self.echo = message.head.session
        knows = message.head.echo == self.session
        self.up |= knows
        return not (knows and message.up)

    # ------------------------------------------------------------------------------- sending

    def take(self, stream: int, frame: bytes) -> bool:
        """Queue a frame; False if there is no room."""
        if self._queue_bytes and self._queue_bytes + len(frame) > QUEUE_BYTES_MAX:
            self.refused = True
            return False
        for at in range(0, len(frame), PART_BYTES_MAX):
            piece = frame[at : at + PART_BYTES_MAX]
            last = at + PART_BYTES_MAX >= len(frame)
            self._queue.append((stream, last, piece))
            self._queue_bytes += len(piece)
        return True

    @property
    def drained(self) -> bool:
        """Everything that was taken is acknowledged."""
        return not (self._queue or self._flying)

    @property
    def has_room(self) -> bool:
        """Frames are taken again after some were refused."""
        return self.refused and self._queue_bytes <= QUEUE_BYTES_MAX // 2

    def send(self, now_ns: int) -> list[Send]:
        """What the window lets go."""
        sends: list[Send] = []
        while self.up and self._queue:
            stream, last, piece = self._queue[0]
            if self._flying and self._flying_bytes + len(piece) > self._window:
                break
            if len(self._flying) >= EARLY_MAX:
                break
            self._queue.popleft()
            self._queue_bytes -= len(piece)
            if not self._flying:
                self._progress_ns = now_ns
            number, place = self._following, self._places[stream]
            self._following += 1
            self._places[stream] += 1
            body = encode_part(Part(self.head, stream, last, place, 0)) + piece
            self._flying[number] = _Flying(body, now_ns, self.rail)
            self._flying_bytes += len(body)
            sends.append(Send(body, number % NUMBERS, ALL_PIECES, self.rail))
        return sends

    def acknowledged(self, ack: LinkAck, now_ns: int) -> list[Send]:
        """The peer says what has come; returns what it lacks, to be sent again."""
        top = near(ack.top, self._following)
        oldest = next(iter(self._flying), self._following)
        lacking = dict(named(ack.lacks, self._following, oldest, self._following))
        come = [it for it in self._flying if it < top and it not in lacking]
        for number in come:
            part = self._flying.pop(number)
            self._flying_bytes -= len(part.body)
            if self._window < WINDOW_MOST_BYTES:
                self._window = min(self._window + len(part.body), WINDOW_MOST_BYTES)
            if part.times == 1:
                self._measure(now_ns - part.sent_ns)
        if come:
            self._progress_ns = now_ns
        hold_ns = max(self.srtt_ns, RTT_MIN_NS)
        again: list[Send] = []
        for number, pieces in lacking.items():
            flying = self._flying.get(number)
            if flying is not None and now_ns - flying.sent_ns >= hold_ns:
                again.append(self._again(number, flying, pieces, now_ns))
        return again

    def _measure(self, rtt_ns: int) -> None:
        self.srtt_ns = rtt_ns if not self.srtt_ns else self.srtt_ns + (rtt_ns - self.srtt_ns) // 8
        self._rto_ns = min(max(4 * self.srtt_ns, self._rto_min_ns), self._rto_max_ns)

    def _again(self, number: int, part: _Flying, pieces: int, now_ns: int) -> Send:
        """What went in vain goes over the next rail."""
        part.times += 1
        part.sent_ns = now_ns
        if part.times > 2:
            part.rail = self._after(part.rail)
        return Send(part.body, number % NUMBERS, pieces, part.rail)

    def _after(self, rail: str) -> str:
        return self._rails[(self._rails.index(rail) + 1) % len(self._rails)]

    def asking(self) -> Ask:
        """Goes with what is sent again: it may have come, and only the answer was lost."""
        return Ask(self.head, self._following % NUMBERS)

    def retransmit(self, now_ns: int) -> list[Send]:
        """Nothing was heard of the oldest part: all of its age go over the next rail."""
        oldest = next(iter(self._flying.values()), None)
        if oldest is None or now_ns < oldest.sent_ns + self._rto_ns:
            return []
        before_ns = now_ns - self._rto_ns
        self._window = max(self._window // 2, WINDOW_LEAST_BYTES)
        self._rto_ns = min(2 * self._rto_ns, self._rto_max_ns)
        again: list[Send] = []
        size = 0
        for number, part in self._flying.items():
            size += len(part.body)
            if again and size > self._window:
                break
            if part.sent_ns <= before_ns:
                part.times += 1  # so that it leaves its rail at once
                again.append(self._again(number, part, ALL_PIECES, now_ns))
        return again

    # ----------------------------------------------------------------------------- receiving

    def arrived(
        self, part: Part, frame: bytes, number: int, now_ns: int
    ) -> list[tuple[int, bytes]]:
        """A part has come; returns the frames that are whole now and next in their streams.

        One for which there is no room has not come. No honest peer has so much on its way.
        """
        stream = self._streams[part.stream]
        place = near(part.place, stream.following)
        if self._kept_bytes + len(frame) > KEPT_BYTES_MAX or place > stream.following + EARLY_MAX:
            return []
        fresh = self._come.arrived(number, now_ns, guard_ns=0)
        self._unacked_bytes += len(frame)
        if not fresh or self._unacked_bytes >= ACK_BYTES:
            self._ack_by(now_ns)
        else:
            self._ack_by(now_ns + (0 if self._come.lacking else ACK_DELAY_NS))
        if not fresh or place < stream.following:
            return []
        stream.early[place] = part.last, frame[part.offset :]
        self._kept_bytes += len(frame) - part.offset
        whole: list[tuple[int, bytes]] = []
        while (found := stream.early.pop(stream.following, None)) is not None:
            stream.following += 1
            last, piece = found
            stream.parts.append(piece)
            if last:
                whole.append((part.stream, b"".join(stream.parts)))
                stream.parts.clear()
                self._kept_bytes -= len(whole[-1][1])
        return whole

    def asked(self, ask: Ask, now_ns: int) -> None:
        """The peer wants to hear what has come of all that it has sent."""
        floor = self._come.floor
        if near(ask.following, floor) <= floor + EARLY_MAX:
            self._come.told(ask.following, floor % NUMBERS, now_ns, guard_ns=0)
        self._ack_by(now_ns)

    def _ack_by(self, at_ns: int) -> None:
        if self._ack_due_ns is None or at_ns < self._ack_due_ns:
            self._ack_due_ns = at_ns

    def lacks(self, now_ns: int) -> bool:
        """Whether it is about to say that something lacks."""
        return self._come.lacking and self._ack_due_ns is not None and now_ns >= self._ack_due_ns

    def ack(self, incomplete: Sequence[Incomplete], now_ns: int) -> LinkAck | None:
        """What has come, if it is time to say so; what lacks is said again and again."""
        if self._ack_due_ns is None or now_ns < self._ack_due_ns:
            return None
        partly = {
            it.number: it.missing
            for it in incomplete
            if it.node == self.node and it.session == self.echo
        }
        floor, top, lacks = self._come.standing(partly)
        self._unacked_bytes = 0
        self._ack_due_ns = None
        self._patience_ns = min(2 * self._patience_ns, self._rto_max_ns) if lacks else 0
        if lacks:
            self._patience_ns = max(self._patience_ns, 2 * self.srtt_ns, ACK_DELAY_NS)
            self._ack_due_ns = now_ns + self._patience_ns
        return LinkAck(self.head, floor % NUMBERS, top % NUMBERS, lacks)

    # --------------------------------------------------------------------------------- time

    @property
    def next_ns(self) -> int | None:
        """When `due` has something to do."""
        times = [self._ack_due_ns] if self._ack_due_ns is not None else []
        if not self.up:
            times.append(self._open_due_ns)
        if self._flying:
            oldest = next(iter(self._flying.values()))
            times.append(oldest.sent_ns + self._rto_ns)
            times.append(self._progress_ns + self._give_up_ns)
        if self.closing_ns:
            times.append(self.closing_ns + self._give_up_ns)
        return min(times, default=None)

    def opens(self, now_ns: int) -> bool:
        """Whether it is time to say again that it is being opened."""
        if self.up or now_ns < self._open_due_ns:
            return False
        self._open_due_ns = now_ns + (self._rto_ns << min(self._open_tries, 4))
        self._open_tries += 1
        return True

    def given_up(self, now_ns: int) -> bool:
        """Nothing that it sent was acknowledged for too long, or nobody has answered."""
        if not self.up:
            return now_ns >= self.opened_ns + self._give_up_ns
        if self.closing_ns and now_ns >= self.closing_ns + self._give_up_ns:
            return True
        return bool(self._flying) and now_ns >= self._progress_ns + self._give_up_ns
