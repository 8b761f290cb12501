"""The driver contract where both ends of a link are objects of one process.

Everything that `base.Driver` asks for and that does not depend on how frames come to the other
end stands here once: what is refused, what is counted, how much one end holds for the other, and
what is said of paths and of a link's end. A subclass carries the frames and wakes the reader.
"""

from __future__ import annotations

import abc
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from ..errors import AddressMissing, UsageError
from .base import (
    STREAMS,
    Capabilities,
    Input,
    Link,
    LinkLost,
    LossReason,
    PathInfo,
    PathNotice,
    PathState,
    Received,
    Writable,
)

FRAME_BYTES_MAX = 256 << 10
RECEIVE_BUFFER_BYTES = 1 << 20
"""What lies unread at one end of a link before frames wait for its reader."""


@dataclass(slots=True, eq=False, kw_only=True)
class End:
    """One end of a link."""

    link: Link
    rails: tuple[str, ...]
    """Rails on which the other end has an address."""
    primary: str = ""
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque[tuple[int, bytes]])
    """Streams and frames that were accepted and are not on their way yet."""
    accepted_bytes: int = 0
    """Of frames that were accepted and that the other end does not have yet."""
    unread_bytes: int = 0
    """Of frames from the other end that nobody has polled."""
    down: set[str] = field(default_factory=set[str])
    """Rails that were reported to be down."""
    blocked: bool = False
    """A frame was refused, and `Writable` has not followed."""
    alive: bool = True
    closing: bool = False
    """Being ended in good order: what was accepted is still carried, nothing more."""


EndT = TypeVar("EndT", bound=End)


class InProcessDriver(abc.ABC, Generic[EndT]):
    """One node's end of a network within the process (see `base.Driver`)."""

    name: ClassVar[str]
    poll_max: ClassVar[int]
    frame_cost_bytes: ClassVar[int] = 0
    """What a frame takes of a buffer besides its bytes."""

    def __init__(self, node: int, rails: tuple[str, ...]) -> None:
        self.node = node
        self.present: tuple[str, ...] = ()
        """Rails on which there was an address when the driver was opened."""
        self._rails = rails
        self._open = False
        self._inputs: deque[Input] = deque()
        self._ends: dict[Link, EndT] = {}
        self._last_link = 0
        self._stats: Counter[str] = Counter()

    # --------------------------------------------------------------- what a subclass answers

    @abc.abstractmethod
    def _has_address(self, rail: str) -> bool:
        """Whether this node can listen on a rail now."""

    @abc.abstractmethod
    def _leads(self, end: EndT, rail: str) -> bool:
        """Whether a rail leads to the address of the other end now."""

    @abc.abstractmethod
    def _address(self, end: EndT, rail: str) -> str:
        """The address of the other end on a rail."""

    @abc.abstractmethod
    def _send_buffer_bytes(self) -> int:
        """What one end holds for the other; past it `transmit` refuses."""

    @abc.abstractmethod
    def _probe(self, end: EndT, stream: int, frame: bytes, rail: str) -> None:
        """Carry a frame on that rail, or drop it."""

    @abc.abstractmethod
    def _carry(self, end: EndT) -> None:
        """Begin to carry what waits, as far as that is possible now."""

    @abc.abstractmethod
    def _give(self, item: Input) -> None:
        """Put something in front of whoever polls, unless this driver has ended."""

    @abc.abstractmethod
    def _stop(self) -> None:
        """Free everything; the links have ended."""

    @abc.abstractmethod
    def disconnect(self, link: Link, *, abort: bool) -> None:
        """End a link; frames that were accepted are still carried unless it is an abort."""

    # ------------------------------------------------------------------- opening and closing

    @property
    def capabilities(self) -> Capabilities:
        """Reliable, ordered per stream, one rail on request; frames to 256 KiB."""
        return Capabilities(
            name=self.name, frame_bytes_max=FRAME_BYTES_MAX, reliable=True, rail_choice=True
        )

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails without an address when the driver was opened."""
        return tuple(rail for rail in self._rails if rail not in self.present)

    def _find_rails(self) -> tuple[str, ...]:
        present = tuple(rail for rail in self._rails if self._has_address(rail))
        if not present:
            raise AddressMissing(f"node {self.node} has no address on any rail")
        return present

    def close(self) -> None:
        """Abort every link and free everything; idempotent."""
        if not self._open:
            return
        for link in list(self._ends):
            self.disconnect(link, abort=True)
        self._stop()

    def _fall_silent(self) -> None:
        """Lose every link without a word to anybody."""
        for end in self._ends.values():
            end.alive = False
        self._ends.clear()

    def _check(self) -> None:
        if not self._open:
            raise UsageError("this driver is closed; open it again or make a new one")

    def _check_rail(self, rail: str) -> None:
        if rail not in self._rails:
            raise UsageError(f"there is no rail {rail!r}; known are {', '.join(self._rails)}")

    # -------------------------------------------------------------------------------- inputs

    def _take(self) -> list[Input]:
        """What `poll` gives next; its frames are unread no more."""
        taken: list[Input] = []
        while self._inputs and len(taken) < self.poll_max:
            item = self._inputs.popleft()
            taken.append(item)
            if isinstance(item, Received):
                self._stats["frames_received"] += 1
                self._stats["bytes_received"] += len(item.frame)
                end = self._ends.get(item.link)
                if end is not None:
                    end.unread_bytes -= self._cost(item.frame)
        return taken

    def _deliver(self, end: EndT, stream: int, frame: bytes) -> None:
        """A frame has come to this end, which is one of this driver's."""
        if end.alive:
            end.unread_bytes += self._cost(frame)
            self._give(Received(end.link, stream, frame))

    def _cost(self, frame: bytes) -> int:
        return len(frame) + self.frame_cost_bytes

    # --------------------------------------------------------------------------------- links

    def _new_link(self) -> Link:
        self._last_link += 1
        return self._last_link

    def _live(self, link: Link) -> EndT | None:
        """This end of a link that takes commands."""
        end = self._ends.get(link)
        return None if end is None or end.closing else end

    def _working(self, end: EndT) -> set[str]:
        return {rail for rail in end.rails if self._leads(end, rail)}

    def _report_paths(self, end: EndT, working: set[str]) -> None:
        """Say which paths have died or come back."""
        for rail in end.rails:
            if (rail in working) is (rail in end.down):
                end.down ^= {rail}
                state = PathState.UP if rail in working else PathState.DOWN
                self._give(PathNotice(link=end.link, rail=rail, state=state))

    def _lose(self, end: EndT, reason: LossReason) -> None:
        if end.alive:
            end.alive = False
            self._ends.pop(end.link, None)
            reason = LossReason.LOCAL if end.closing else reason
            self._give(LinkLost(link=end.link, reason=reason))

    # --------------------------------------------------------------------------------- frames

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Hand over one frame; False if the link has no room; see `base.Driver`."""
        self._check()
        if not 0 < len(frame) <= FRAME_BYTES_MAX:
            raise UsageError(f"a frame has 1 to {FRAME_BYTES_MAX} bytes, not {len(frame)}")
        if not 0 <= stream < STREAMS:
            raise UsageError(f"there is no stream {stream}; streams are 0 to {STREAMS - 1}")
        if rail is not None:
            self._check_rail(rail)
        end = self._live(link)
        if end is None:
            return True
        if rail is not None:
            self._probe(end, stream, frame, rail)
            return True
        cost = self._cost(frame)
        # A frame that is larger than the buffer must find its way as well, alone.
        if end.accepted_bytes and end.accepted_bytes + cost > self._send_buffer_bytes():
            end.blocked = True
            self._stats["frames_refused"] += 1
            return False
        self._stats["frames_sent"] += 1
        self._stats["bytes_sent"] += len(frame)
        end.accepted_bytes += cost
        end.waiting.append((stream, frame))
        self._carry(end)
        return True

    def _say_if_writable(self, end: EndT) -> None:
        """Once half of the buffer is free: a sender that is woken for each frame gets nowhere."""
        room = end.accepted_bytes * 2 <= self._send_buffer_bytes()
        if room and end.blocked and end.alive and not end.closing:
            end.blocked = False
            self._give(Writable(link=end.link))

    # -------------------------------------------------------------------------------- queries

    def set_primary(self, link: Link, rail: str) -> None:
        """Make that rail's path the primary one; ignored while the path is not up."""
        self._check()
        self._check_rail(rail)
        end = self._live(link)
        if end is not None and rail in self._working(end):
            end.primary = rail
            self._give(PathNotice(link=link, rail=rail, state=PathState.PRIMARY))

    def paths(self, link: Link) -> list[PathInfo]:
        """The paths of a link; their round trip time is never known."""
        self._check()
        end = self._live(link)
        if end is None:
            return []
        working = self._working(end)
        found: list[PathInfo] = []
        for rail in end.rails:
            state = PathState.DOWN
            if rail in working:
                state = PathState.PRIMARY if rail == end.primary else PathState.UP
            found.append(
                PathInfo(
                    rail=rail,
                    address=self._address(end, rail),
                    state=state,
                    srtt_us=0,
                    cwnd_bytes=self._send_buffer_bytes(),
                )
            )
        return found

    def stats(self) -> dict[str, int]:
        """Counters since `open`; those that are zero may be missing."""
        self._check()
        return dict(self._stats)
