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
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config import MS, ClusterConfig, NodeConfig
from ..drivers.base import Input, Link, LinkLost, LinkUp, LocalEndpoint, LossReason, PeerEndpoint
from ..drivers.in_process import RECEIVE_BUFFER_BYTES, End, InProcessDriver
from ..drivers.in_process_datagrams import DatagramTrouble, Fates
from ..drivers.lifelines import Lifelines
from ..errors import PortTaken, UsageError
from .alarm import AT_ONCE_NS, Alarm
from .memory_datagrams import MemoryDatagrams

SEND_BUFFER_BYTES = 4 << 20
"""What one end of a link holds for the other; past it `transmit` refuses."""
FRAME_COST_BYTES = 128
"""What a frame takes besides its bytes: else small frames would not be bounded by a size."""
POLL_MAX = 1024
GIVE_UP_NS = 1300 * MS
"""How long a link lives while nothing leads to the peer."""


@dataclass(slots=True, eq=False, kw_only=True)
class _End(End):
    """One end of a link."""

    driver: MemoryDriver
    other: _End = field(init=False, repr=False)
    stranded_ns: int = 0
    """Since when nothing has led to the other end; 0 while something does."""


class MemoryNetwork:
    """Rails between the drivers of one process; also makes the drivers (`DriverFactory`).

    Datagrams arrive like frames, unless they are given `trouble`.
    """

    def __init__(self, trouble: DatagramTrouble | None = None, *, seed: int = 1) -> None:
        self.fates = Fates(trouble or DatagramTrouble(), str(seed))
        """What becomes of datagrams."""
        self._datagrams: dict[int, MemoryDatagrams] = {}
        self._drivers: dict[int, MemoryDriver] = {}
        self._cut: set[tuple[int, str]] = set()
        self._absent: set[tuple[int, str]] = set()
        self._deaf: set[tuple[int, str]] = set()

    # ------------------------------------------------------------------ as a DriverFactory

    def local(self, config: ClusterConfig, node: NodeConfig) -> LocalEndpoint:
        """Every rail, wherever this runs."""
        return LocalEndpoint(
            node=node.id,
            addresses=node.addresses,
            networks={rail.name: ipaddress.ip_network(rail.network) for rail in config.rails},
            port=node.port,
            udp_port=node.udp_port,
            datagram_port=node.datagram_port,
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

    def datagrams(
        self, config: ClusterConfig, local: LocalEndpoint, peers: Mapping[int, PeerEndpoint]
    ) -> MemoryDatagrams | None:
        """Datagrams on this network."""
        del peers
        traffic = config.traffic
        if not traffic.datagrams:
            return None
        return MemoryDatagrams(self, local, grouped=traffic.multicast)

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
        datagrams = self._datagrams.pop(node, None)
        if datagrams is not None:
            datagrams.dead = True
        driver = self._drivers.pop(node, None)
        if driver is not None:
            driver.die()
            self.review()

    def deafen(self, node: int, rail: str) -> None:
        """From now on nothing comes to a node that is sent to a rail's multicast group."""
        self._deaf.add((node, rail))

    def hear_again(self, node: int, rail: str) -> None:
        """Undo `deafen`."""
        self._deaf.discard((node, rail))

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

    def attach_datagrams(self, datagrams: MemoryDatagrams) -> None:
        """A node takes datagrams from now on."""
        self._datagrams[datagrams.node] = datagrams

    def detach_datagrams(self, datagrams: MemoryDatagrams) -> None:
        """It takes no more."""
        if self._datagrams.get(datagrams.node) is datagrams:
            del self._datagrams[datagrams.node]

    def find_datagrams(self, node: int) -> MemoryDatagrams | None:
        """Those of a node, if it takes any."""
        return self._datagrams.get(node)

    def group(self, rail: str) -> list[int]:
        """The nodes to which comes what is sent to a rail's multicast group."""
        return sorted(
            node
            for node, there in self._datagrams.items()
            if there.grouped and (node, rail) not in self._deaf
        )

    def find(self, node: int) -> MemoryDriver | None:
        """The open driver of a node."""
        return self._drivers.get(node)

    def review(self) -> None:
        """Something has changed: tell every driver to look at its links."""
        for driver in list(self._drivers.values()):
            driver.review()


class MemoryDriver(InProcessDriver[_End]):
    """One node's end of a `MemoryNetwork` (see `drivers.base.Driver`)."""

    name = "memory"
    poll_max = POLL_MAX
    frame_cost_bytes = FRAME_COST_BYTES

    def __init__(self, network: MemoryNetwork, local: LocalEndpoint) -> None:
        super().__init__(local.node, tuple(local.networks))
        self._network = network
        self._local = local
        self.dead = False
        self._alarm: Alarm | None = None

    def open(self) -> None:
        """Begin to listen; see `base.Driver`.

        Raises:
            PortTaken: another driver of the same node is open.
            AddressMissing: the node has no address on any rail.
        """
        if self._open:
            raise UsageError("this driver is open already")
        present = self._find_rails()
        self._network.attach(self)
        self.present, self.dead = present, False
        self._alarm = Alarm()
        self._open = True
        self._stats.clear()

    def _has_address(self, rail: str) -> bool:
        return rail in self._local.addresses and self._network.has_address(self.node, rail)

    def _stop(self) -> None:
        assert self._alarm is not None, "it is there from `open` to `close`"
        self._open = False
        self._network.detach(self)
        self._inputs.clear()
        self._alarm.close()
        self._alarm = None

    def die(self) -> None:
        """See `MemoryNetwork.kill`."""
        self.dead = True
        self._fall_silent()
        self._inputs.clear()
        self._arm()

    # -------------------------------------------------------------------------------- inputs

    def fileno(self) -> int:
        """A timer: it runs out at once when there are inputs, or when a link is given up."""
        self._check()
        assert self._alarm is not None, "it is there from `open` to `close`"
        return self._alarm.fd

    def poll(self) -> list[Input]:
        """All frames and notices since the last call, up to `POLL_MAX`."""
        self._check()
        self._give_up()
        taken = self._take()
        for end in list(self._ends.values()):
            end.other.driver._carry(end.other)
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

    # ---------------------------------------------------------------------------------- links

    def connect(self, peer: PeerEndpoint) -> Link:
        """Begin a link; answered at once, by the next `poll`."""
        self._check()
        link = self._new_link()
        other = self._network.find(peer.node)
        if other is None or self.dead or not self._common(other, peer):
            self._give(LinkLost(link=link, reason=LossReason.UNREACHABLE))
            return link
        here = _End(driver=self, link=link, rails=other.present)
        there = _End(driver=other, link=other._new_link(), rails=self.present)
        here.other, there.other = there, here
        self._ends[here.link], other._ends[there.link] = here, there
        for end, accepted in ((there, True), (here, False)):
            end.primary = next(rail for rail in end.rails if end.driver._leads(end, rail))
            end.driver._give(LinkUp(link=end.link, accepted=accepted, rails=end.rails))
            end.driver._review(end)
        return link

    def _common(self, other: MemoryDriver, peer: PeerEndpoint) -> list[str]:
        return [
            rail
            for rail in self.present
            if rail in peer.addresses
            and rail in other.present
            and self._network.works(self.node, other.node, rail)
        ]

    def _leads(self, end: _End, rail: str) -> bool:
        other = end.other.driver
        return (
            not self.dead
            and rail in self.present
            and rail in other.present
            and self._network.works(self.node, other.node, rail)
            and (not other.dead or self._network.find(other.node) is not None)
        )

    def _address(self, end: _End, rail: str) -> str:
        return end.other.driver._local.addresses[rail]

    def review(self) -> None:
        """The network has changed."""
        for end in list(self._ends.values()):
            self._review(end)
        self._arm()

    def _review(self, end: _End) -> None:
        """Say what has become of the paths of a link, and of the link."""
        working = self._working(end)
        self._report_paths(end, working)
        if not working:
            end.stranded_ns = end.stranded_ns or time.monotonic_ns()
            return
        end.stranded_ns = 0
        if end.other.alive:
            self._carry(end)
            end.other.driver._carry(end.other)
        else:
            # Whoever is at that address does not know the association (RFC 9260, 8.4).
            self._lose(end, LossReason.ABORTED)

    def disconnect(self, link: Link, *, abort: bool) -> None:
        """End a link; frames that were accepted are still carried unless it is an abort."""
        self._check()
        here = self._ends.get(link)
        if here is None:
            return
        if not abort:
            here.closing = True
            self._carry(here)
            return
        self._lose(here, LossReason.LOCAL)
        there = here.other
        if there.alive and self._working(here):
            there.driver._lose(there, LossReason.ABORTED)

    # --------------------------------------------------------------------------------- frames

    def _send_buffer_bytes(self) -> int:
        return SEND_BUFFER_BYTES

    def _probe(self, end: _End, stream: int, frame: bytes, rail: str) -> None:
        there = end.other
        # Probes have as much room again as data has: a busy reader must not look dead.
        full = there.unread_bytes + self._cost(frame) > 2 * RECEIVE_BUFFER_BYTES
        if full or not there.alive or not self._leads(end, rail):
            self._stats["probes_dropped"] += 1
            return
        self._stats["probes_sent"] += 1
        there.driver._deliver(there, stream, frame)

    def _carry(self, end: _End) -> None:
        """Move frames to the other end while a rail works and its reader keeps up."""
        there = end.other
        if not there.alive or not end.alive or not self._working(end):
            return
        while end.waiting and there.unread_bytes < RECEIVE_BUFFER_BYTES:
            stream, frame = end.waiting.popleft()
            end.accepted_bytes -= self._cost(frame)
            there.driver._deliver(there, stream, frame)
        self._say_if_writable(end)
        if end.closing and not end.waiting:
            there.driver._lose(there, LossReason.SHUTDOWN)
            self._lose(end, LossReason.LOCAL)
