"""Rails and drivers within one process: the driver contract without a network.

Frames are passed from driver to driver, in real time and without threads. Nothing is lost: a
frame waits at its sender while no rail works or the reader lags behind, and a sender whose
buffer is full is refused. Faults are seen at once, but for a peer that nothing leads to any
more: its link is given up after `GIVE_UP_NS`, as an association gives up after its last
retransmission.
"""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, deque
from dataclasses import dataclass, field

from ..config import MS, ClusterConfig, NodeConfig
from ..drivers.base import (
    STREAMS,
    Capabilities,
    Input,
    Link,
    LinkLost,
    LinkUp,
    LocalEndpoint,
    LossReason,
    PathInfo,
    PathNotice,
    PathState,
    PeerEndpoint,
    Received,
    Writable,
)
from ..drivers.lifelines import Lifelines
from ..errors import AddressMissing, PortTaken, UsageError
from .alarm import AT_ONCE_NS, Alarm

FRAME_BYTES_MAX = 256 << 10
SEND_BUFFER_BYTES = 4 << 20
"""What one end of a link holds for the other; past it `transmit` refuses."""
RECEIVE_BUFFER_BYTES = 1 << 20
"""What lies unread at one end of a link before frames wait at their sender."""
FRAME_COST_BYTES = 128
"""What a frame takes besides its bytes: else small frames would not be bounded by a size."""
POLL_MAX = 1024
GIVE_UP_NS = 1300 * MS
"""How long a link lives while nothing leads to the peer."""


@dataclass(slots=True, eq=False)
class _End:
    """One end of a link."""

    driver: MemoryDriver
    link: Link
    rails: tuple[str, ...] = ()
    """Rails on which the other end has an address."""
    primary: str = ""
    other: _End | None = None
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque[tuple[int, bytes]])
    """Frames for the other end that no rail carries at the moment, or that it has no room for."""
    waiting_bytes: int = 0
    unread_bytes: int = 0
    """Of frames from the other end that this end's driver holds and nobody has polled."""
    down: set[str] = field(default_factory=set[str])
    """Rails that were reported to be down."""
    stranded_ns: int = 0
    """Since when nothing has led to the other end; 0 while something does."""
    blocked: bool = False
    alive: bool = True
    closing: bool = False
    """Being ended in good order: it takes no more commands."""


def _cost(frame: bytes) -> int:
    return len(frame) + FRAME_COST_BYTES


class MemoryNetwork:
    """Rails between the drivers of one process; also makes the drivers (`DriverFactory`)."""

    def __init__(self) -> None:
        self._drivers: dict[int, MemoryDriver] = {}
        self._cut: set[tuple[int, str]] = set()
        self._absent: set[tuple[int, str]] = set()

    # ------------------------------------------------------------------ as a DriverFactory

    def local(self, config: ClusterConfig, node: NodeConfig) -> LocalEndpoint:
        """Every rail, wherever this runs."""
        return LocalEndpoint(
            node=node.id,
            addresses=node.addresses,
            networks={rail.name: ipaddress.ip_network(rail.network) for rail in config.rails},
            port=node.port,
            udp_port=node.udp_port,
        )

    def driver(self, config: ClusterConfig, local: LocalEndpoint) -> MemoryDriver:
        """A driver on this network."""
        del config
        return MemoryDriver(self, local)

    def lifelines(
        self, local: LocalEndpoint, *, cluster: int, incarnation: int, nonce: int
    ) -> Lifelines | None:
        """There are none: all nodes live in one process."""
        del local, cluster, incarnation, nonce
        return None

    # ------------------------------------------------------------------------------- faults

    def cut(self, node: int, rail: str) -> None:
        """Take a node's cable of one rail away."""
        self._cut.add((node, rail))
        self.review()

    def heal(self, node: int, rail: str) -> None:
        """Put it back."""
        self._cut.discard((node, rail))
        self.review()

    def take_address(self, node: int, rail: str) -> None:
        """A node has no address on a rail when its driver is opened the next time."""
        self._absent.add((node, rail))

    def give_address(self, node: int, rail: str) -> None:
        """Undo `take_address`."""
        self._absent.discard((node, rail))

    def kill(self, node: int) -> None:
        """End a node's process as the others see it: it falls silent without a word.

        The driver object goes on, cut off for ever; another one may be opened for the node.
        """
        driver = self._drivers.pop(node, None)
        if driver is not None:
            driver.die()
            self.review()

    def works(self, one: int, other: int, rail: str) -> bool:
        """Whether a rail's cables connect two nodes."""
        return not {(one, rail), (other, rail)} & self._cut

    # ----------------------------------------------------------------------------- plumbing

    def has_address(self, node: int, rail: str) -> bool:
        """Whether a driver of the node can listen on a rail."""
        return (node, rail) not in self._absent

    def attach(self, driver: MemoryDriver) -> None:
        """A driver opens.

        Raises:
            PortTaken: another driver of the same node is open.
        """
        if self._drivers.setdefault(driver.node, driver) is not driver:
            raise PortTaken(f"node {driver.node} has a driver open on this network already")
        self.review()

    def detach(self, driver: MemoryDriver) -> None:
        """A driver closes."""
        if self._drivers.get(driver.node) is driver:
            del self._drivers[driver.node]

    def find(self, node: int) -> MemoryDriver | None:
        """The open driver of a node."""
        return self._drivers.get(node)

    def review(self) -> None:
        """Something has changed: tell every driver to look at its links."""
        for driver in list(self._drivers.values()):
            driver.review()


class MemoryDriver:
    """One node's end of a `MemoryNetwork` (see `drivers.base.Driver`)."""

    def __init__(self, network: MemoryNetwork, local: LocalEndpoint) -> None:
        self._network = network
        self._local = local
        self.node = local.node
        self._rails = tuple(local.networks)
        self.present: tuple[str, ...] = ()
        """Rails on which there was an address when the driver was opened."""
        self.dead = False
        self._inputs: deque[Input] = deque()
        self._ends: dict[Link, _End] = {}
        self._last = 0
        self._alarm: Alarm | None = None
        self._stats: Counter[str] = Counter()

    @property
    def capabilities(self) -> Capabilities:
        """Reliable, ordered per stream, one rail on request; frames to 256 KiB."""
        return Capabilities(
            name="memory", frame_bytes_max=FRAME_BYTES_MAX, reliable=True, rail_choice=True
        )

    @property
    def missing_rails(self) -> tuple[str, ...]:
        """Rails without an address when the driver was opened."""
        return tuple(rail for rail in self._rails if rail not in self.present)

    def open(self) -> None:
        """Begin to listen; see `base.Driver`.

        Raises:
            PortTaken: another driver of the same node is open.
            AddressMissing: the node has no address on any rail.
        """
        if self._alarm is not None:
            raise UsageError("this driver is open already")
        present = tuple(
            rail
            for rail in self._rails
            if rail in self._local.addresses and self._network.has_address(self.node, rail)
        )
        if not present:
            raise AddressMissing(f"node {self.node} has no address on any rail")
        self._network.attach(self)
        self.present, self.dead = present, False
        self._alarm = Alarm()
        self._stats.clear()

    def close(self) -> None:
        """Abort every link and free everything; idempotent."""
        if self._alarm is None:
            return
        for link in list(self._ends):
            self.disconnect(link, abort=True)
        self._network.detach(self)
        self._inputs.clear()
        self._alarm.close()
        self._alarm = None

    def die(self) -> None:
        """See `MemoryNetwork.kill`."""
        self.dead = True
        for end in self._ends.values():
            end.alive = False
        self._ends.clear()
        self._inputs.clear()
        self._arm()

    def _check(self) -> Alarm:
        if self._alarm is None:
            raise UsageError("this driver is closed; open it again or make a new one")
        return self._alarm

    def _check_rail(self, rail: str) -> None:
        if rail not in self._rails:
            raise UsageError(f"there is no rail {rail!r}; known are {', '.join(self._rails)}")

    # -------------------------------------------------------------------------------- inputs

    def fileno(self) -> int:
        """A timer: it runs out at once when there are inputs, or when a link is given up."""
        return self._check().fd

    def poll(self) -> list[Input]:
        """All frames and notices since the last call, up to `POLL_MAX`."""
        self._check()
        self._give_up()
        taken: list[Input] = []
        while self._inputs and len(taken) < POLL_MAX:
            item = self._inputs.popleft()
            taken.append(item)
            if isinstance(item, Received):
                self._stats["frames_received"] += 1
                self._stats["bytes_received"] += len(item.frame)
                end = self._ends.get(item.link)
                if end is not None:
                    end.unread_bytes -= _cost(item.frame)
        for end in list(self._ends.values()):
            if end.other is not None:
                end.other.driver.carry(end.other)
        self._arm()
        return taken

    def _give(self, item: Input) -> None:
        if self._alarm is not None and not self.dead:
            self._inputs.append(item)
            self._alarm.set(AT_ONCE_NS)

    def _arm(self) -> None:
        """Be readable when there is something to give, and when there will be."""
        if self._alarm is not None:
            since = min((e.stranded_ns for e in self._ends.values() if e.stranded_ns), default=0)
            later = since + GIVE_UP_NS if since else 0
            self._alarm.set(AT_ONCE_NS if self._inputs else later)

    def _give_up(self) -> None:
        now_ns = time.monotonic_ns()
        for end in list(self._ends.values()):
            if end.stranded_ns and now_ns >= end.stranded_ns + GIVE_UP_NS:
                self._lose(end, LossReason.TIMED_OUT)

    def _lose(self, end: _End, reason: LossReason) -> None:
        if end.alive:
            end.alive = False
            self._ends.pop(end.link, None)
            reason = LossReason.LOCAL if end.closing else reason
            self._give(LinkLost(link=end.link, reason=reason))

    # ---------------------------------------------------------------------------------- links

    def connect(self, peer: PeerEndpoint) -> Link:
        """Begin a link; answered at once, by the next `poll`."""
        self._check()
        here = self._new_end()
        other = self._network.find(peer.node)
        if other is None or self.dead or not self._common(other, peer):
            self._lose(here, LossReason.UNREACHABLE)
            return here.link
        there = other._new_end()
        here.other, there.other = there, here
        here.rails, there.rails = other.present, self.present
        for end, accepted in ((there, True), (here, False)):
            working = [rail for rail in end.rails if end.driver.works(end, rail)]
            end.primary = working[0]
            end.driver._give(LinkUp(link=end.link, accepted=accepted, rails=end.rails))
            end.driver._review(end)
        return here.link

    def _new_end(self) -> _End:
        self._last += 1
        end = _End(self, self._last)
        self._ends[end.link] = end
        return end

    def _live(self, link: Link) -> _End | None:
        """This end of a link that takes commands."""
        end = self._ends.get(link)
        return None if end is None or end.closing else end

    def _common(self, other: MemoryDriver, peer: PeerEndpoint) -> list[str]:
        return [
            rail
            for rail in self.present
            if rail in peer.addresses
            and rail in other.present
            and self._network.works(self.node, other.node, rail)
        ]

    def works(self, end: _End, rail: str) -> bool:
        """Whether a rail leads to whoever is at the other end's address now."""
        other = end.other
        return (
            other is not None
            and not self.dead
            and rail in self.present
            and rail in other.driver.present
            and self._network.works(self.node, other.driver.node, rail)
            and (not other.driver.dead or self._network.find(other.driver.node) is not None)
        )

    def review(self) -> None:
        """The network has changed."""
        for end in list(self._ends.values()):
            self._review(end)
        self._arm()

    def _review(self, end: _End) -> None:
        """Say what has become of the paths of a link, and of the link."""
        other = end.other
        if other is None:
            return
        working = {rail for rail in end.rails if self.works(end, rail)}
        for rail in end.rails:
            if (rail in working) is (rail in end.down):
                end.down ^= {rail}
                state = PathState.UP if rail in working else PathState.DOWN
                self._give(PathNotice(link=end.link, rail=rail, state=state))
        if not working:
            end.stranded_ns = end.stranded_ns or time.monotonic_ns()
            return
        end.stranded_ns = 0
        if other.alive:
            self.carry(end)
            other.driver.carry(other)
        else:
            # Whoever is at that address does not know the association (RFC 9260, 8.4).
            self._lose(end, LossReason.ABORTED)

    def disconnect(self, link: Link, *, abort: bool) -> None:
        """End a link; frames that were accepted are still carried unless it is an abort."""
        self._check()
        here = self._ends.get(link)
        if here is None or here.other is None:
            return
        there = here.other
        if not abort:
            here.closing = True
            self.carry(here)
            return
        self._lose(here, LossReason.LOCAL)
        if there.alive and any(self.works(here, rail) for rail in here.rails):
            there.driver._lose(there, LossReason.ABORTED)

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
        here = self._live(link)
        if here is None or here.other is None:
            return True
        if rail is not None:
            self._probe(here, here.other, stream, frame, rail)
            return True
        if here.waiting_bytes + _cost(frame) > SEND_BUFFER_BYTES:
            here.blocked = True
            self._stats["frames_refused"] += 1
            return False
        self._stats["frames_sent"] += 1
        self._stats["bytes_sent"] += len(frame)
        here.waiting.append((stream, frame))
        here.waiting_bytes += _cost(frame)
        self.carry(here)
        return True

    def _probe(self, here: _End, there: _End, stream: int, frame: bytes, rail: str) -> None:
        # Probes have as much room again as data has: a busy reader must not look dead.
        full = there.unread_bytes + _cost(frame) > 2 * RECEIVE_BUFFER_BYTES
        if full or not there.alive or not self.works(here, rail):
            self._stats["probes_dropped"] += 1
            return
        self._stats["probes_sent"] += 1
        there.driver._deliver(there, stream, frame)

    def carry(self, here: _End) -> None:
        """Move frames to the other end while a rail works and its reader keeps up."""
        there = here.other
        if there is None or not there.alive or not here.alive:
            return
        if not any(self.works(here, rail) for rail in here.rails):
            return
        while here.waiting and there.unread_bytes < RECEIVE_BUFFER_BYTES:
            stream, frame = here.waiting.popleft()
            here.waiting_bytes -= _cost(frame)
            there.driver._deliver(there, stream, frame)
        if here.blocked and here.waiting_bytes * 2 <= SEND_BUFFER_BYTES:
            here.blocked = False
            if not here.closing:
                self._give(Writable(link=here.link))
        if here.closing and not here.waiting:
            there.driver._lose(there, LossReason.SHUTDOWN)
            self._lose(here, LossReason.LOCAL)

    def _deliver(self, end: _End, stream: int, frame: bytes) -> None:
        end.unread_bytes += _cost(frame)
        self._give(Received(end.link, stream, frame))

    # -------------------------------------------------------------------------------- queries

    def set_primary(self, link: Link, rail: str) -> None:
        """Make that rail's path the primary one; ignored while the path is not up."""
        self._check()
        self._check_rail(rail)
        end = self._live(link)
        if end is not None and rail in end.rails and self.works(end, rail):
            end.primary = rail
            self._give(PathNotice(link=link, rail=rail, state=PathState.PRIMARY))

    def paths(self, link: Link) -> list[PathInfo]:
        """The paths of a link; their round trip time is never known."""
        self._check()
        end = self._live(link)
        if end is None or end.other is None:
            return []
        addresses = end.other.driver._local.addresses
        found: list[PathInfo] = []
        for rail in end.rails:
            state = PathState.DOWN
            if self.works(end, rail):
                state = PathState.PRIMARY if rail == end.primary else PathState.UP
            found.append(
                PathInfo(
                    rail=rail,
                    address=addresses[rail],
                    state=state,
                    srtt_us=0,
                    cwnd_bytes=SEND_BUFFER_BYTES,
                )
            )
        return found

    def stats(self) -> dict[str, int]:
        """Counters since `open`; those that are zero may be missing."""
        self._check()
        return dict(self._stats)
