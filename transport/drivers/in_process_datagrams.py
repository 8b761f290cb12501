"""Datagrams where all nodes are objects of one process, and what befalls datagrams on their way.

Everything that `base.Datagrams` asks for and that does not depend on how a datagram comes to the
other node stands here once. A subclass carries them and wakes the reader.
"""

from __future__ import annotations

import abc
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..config import MS
from ..errors import UsageError
from .base import (
    ALL_PIECES,
    CAST_BYTES_MAX,
    DATAGRAMS_POLL_BYTES,
    DATAGRAMS_POLL_MAX,
    GROUP,
    NUMBERS,
    SESSION_MAX,
    Datagram,
    Incomplete,
    PeerEndpoint,
)
from .pieces import Puzzles, cut, is_piece

SOCKET_BUFFER_BYTES = 4 << 20
DATAGRAM_COST_BYTES = 768
"""What a datagram takes of a buffer besides its bytes; Linux counts about as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatagramTrouble:
    """What befalls datagrams, whatever the rails are like; shares of 0 to 1."""

    lost: float = 0.0
    """1.0 is a firewall that lets none of them through."""
    doubled: float = 0.0
    late: float = 0.0
    """So many arrive behind others that were sent after them."""
    late_ns: int = 3 * MS
    """How late the latest of them are: a sender may have sent the frame again by then."""


class Fates:
    """Draws what becomes of each datagram; the same seed and the same calls give the same."""

    def __init__(self, trouble: DatagramTrouble, seed: str) -> None:
        self.trouble = trouble
        # A source of its own: what else is drawn in a run is the same with and without datagrams.
        self.random = random.Random(f"datagrams {seed}")

    def happens(self, share: float) -> bool:
        """Whether something befalls this one; draws a number only where it may or may not."""
        if share <= 0 or share >= 1:
            return share >= 1
        return self.random.random() < share

    def draw(self) -> list[int]:
        """How late each copy of the next datagram arrives, in nanoseconds; [] if it is lost."""
        trouble = self.trouble
        if self.happens(trouble.lost):
            return []
        copies = 2 if self.happens(trouble.doubled) else 1
        return [
            self.random.randrange(trouble.late_ns + 1) if self.happens(trouble.late) else 0
            for _ in range(copies)
        ]


class InProcessDatagrams(abc.ABC):
    """One node's datagrams on a network within the process (see `base.Datagrams`)."""

    def __init__(self, node: int, rails: tuple[str, ...], *, grouped: bool = False) -> None:
        """With `grouped` each rail has a multicast group that all nodes have joined."""
        self.node = node
        self.grouped = grouped
        self.present: tuple[str, ...] = ()
        """Rails on which there was an address when they were opened."""
        self._rails = rails
        self._open = False
        self._unread: deque[Datagram] = deque()
        self._unread_bytes = 0
        self._stats: Counter[str] = Counter()
        self._puzzles = Puzzles(self._stats)

    # --------------------------------------------------------------- what a subclass answers

    @abc.abstractmethod
    def _has_address(self, rail: str) -> bool:
        """Whether this node can receive on a rail now."""

    @abc.abstractmethod
    def _start(self) -> None:
        """Begin to receive."""

    @abc.abstractmethod
    def _stop(self) -> None:
        """Receive nothing more."""

    @abc.abstractmethod
    def _send(self, node: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        """Carry a datagram to a node, or lose it; `frame` comes with the first one of it."""

    @abc.abstractmethod
    def _send_to_group(self, rail: str, packet: bytes, frame: bytes | None) -> None:
        """The same for all others that have joined the group."""

    @abc.abstractmethod
    def _wake(self) -> None:
        """Something can be read."""

    @abc.abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable while `poll` has something to give."""

    # ------------------------------------------------------------------- opening and closing

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that `cast` takes."""
        return CAST_BYTES_MAX

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails without an address when they were opened."""
        return tuple(rail for rail in self._rails if rail not in self.present)

    @property
    def group_rails(self) -> tuple[str, ...]:
        """Rails with a multicast group that this node has joined."""
        return self.present if self.grouped else ()

    def learn(self, peer: PeerEndpoint) -> None:
        """Here every node is where it always is."""
        del peer

    def open(self) -> None:
        """Begin to receive on the rails that there are; see `base.Datagrams`."""
        if self._open:
            raise UsageError("these datagrams are open already")
        self.present = tuple(rail for rail in self._rails if self._has_address(rail))
        self._stats.clear()
        self._puzzles = Puzzles(self._stats)
        self._open = True
        self._start()

    def close(self) -> None:
        """Free everything; idempotent."""
        if self._open:
            self._open = False
            self._unread.clear()
            self._unread_bytes = 0
            self._stop()

    def _check_open(self) -> None:
        if not self._open:
            raise UsageError("these datagrams are closed")

    # -------------------------------------------------------------------------------- inputs

    def poll(self, *, patient: bool = False) -> list[Datagram]:
        """What has come since the last call; see `base.Datagrams`. All is in one process."""
        del patient
        self._check_open()
        taken: list[Datagram] = []
        total = 0
        while self._unread and len(taken) < DATAGRAMS_POLL_MAX and total < DATAGRAMS_POLL_BYTES:
            datagram = self._unread.popleft()
            taken.append(datagram)
            total += len(datagram[2])
        if taken:
            self._unread_bytes -= total + len(taken) * DATAGRAM_COST_BYTES
            self._stats["frames_received"] += len(taken)
            self._stats["bytes_received"] += total
        if self._unread:
            self._wake()
        return taken

    def arrive(self, datagram: Datagram) -> None:
        """A datagram has come; without room for it, nobody hears of it."""
        node, rail, packet, session, number = datagram
        if not self._open or rail not in self.present:
            return
        frame = packet
        if is_piece(packet):
            whole = self._puzzles.take(node, packet)
            if whole is None:
                return
            frame, session, number = whole
        cost = len(frame) + DATAGRAM_COST_BYTES
        if self._unread_bytes + cost > SOCKET_BUFFER_BYTES:
            self._stats["overruns"] += 1
            return
        self._unread_bytes += cost
        self._unread.append((node, rail, frame, session, number))
        self._wake()

    # ------------------------------------------------------------------------------ commands

    def cast(self, nodes: Sequence[int], rail: str, frame: bytes) -> None:
        """Send one frame to several nodes on one rail, or lose it; see `base.Datagrams`."""
        self._cast(nodes, rail, frame, (frame,))

    def cast_numbered(
        self,
        nodes: Sequence[int],
        rail: str,
        frame: bytes,
        session: int,
        number: int,
        pieces: int = ALL_PIECES,
    ) -> None:
        """The same for pieces of a frame that has a number; see `base.Datagrams`."""
        if not (0 < session <= SESSION_MAX and 0 <= number < NUMBERS):
            raise UsageError(f"no session or number of a frame: {session}, {number}")
        packets = cut(frame, number, session=session, pieces=pieces)
        self._cast(nodes, rail, frame, packets)

    def _cast(
        self, nodes: Sequence[int], rail: str, frame: bytes, packets: Sequence[bytes]
    ) -> None:
        self._check_open()
        size = len(frame)
        if rail not in self._rails:
            raise UsageError(f"there is no rail {rail!r}; known are {', '.join(self._rails)}")
        if not 0 < size <= CAST_BYTES_MAX:
            raise UsageError(f"a frame that is cast has 1 to {CAST_BYTES_MAX} bytes, not {size}")
        if rail not in self.present:
            self._stats["rail_missing"] += len(nodes)
            return
        for node in nodes:
            if node == GROUP and not self.grouped:
                self._stats["without_address"] += 1
                continue
            self._stats["frames_sent"] += 1
            self._stats["bytes_sent"] += size
            brought: bytes | None = frame
            for packet in packets:
                if node == GROUP:
                    self._send_to_group(rail, packet, brought)
                else:
                    self._send(node, rail, packet, brought)
                brought = None

    def incomplete(self) -> list[Incomplete]:
        """Numbered frames of which something is missing; see `base.Datagrams`."""
        self._check_open()
        return self._puzzles.incomplete()

    @property
    def overruns(self) -> int:
        """How many datagrams there was no room for."""
        return self._stats["overruns"]

    def stats(self) -> dict[str, int]:
        """Counters since `open`; those that are zero may be missing."""
        self._check_open()
        return dict(self._stats)
