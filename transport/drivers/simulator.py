"""The driver contract over virtual time: a network of hosts and rails in one process.

`Network` owns the clock and the one queue of events; each `SimulatedDriver` is one host's end of
it. Everything that is drawn at random comes from the seed, so a run can be repeated exactly.
The model of SCTP is the one that matters to a core: an association carries whole frames, in
order per stream, over whichever rail works, first noticing a dead primary path after one
retransmission time-out; it dies when nothing has worked for long enough.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from ..config import MS
from ..errors import UsageError
from .base import (
    Capabilities,
    Input,
    Link,
    LinkLost,
    LinkUp,
    LossReason,
    PathInfo,
    PathNotice,
    PathState,
    PeerEndpoint,
    Received,
    Writable,
)

FRAME_BYTES_MAX = 256 << 10
SEND_BUFFER_BYTES = 4 << 20
POLL_MAX = 4096


@dataclass(slots=True, kw_only=True)
class NetworkOptions:
    """How the simulated network behaves when nothing is broken."""

    delay_ns: int = 100_000
    jitter_ns: int = 20_000
    retransmit_ns: int = 30 * MS
    """How long until an association notices that its primary path is dead."""
    give_up_ns: int = 1300 * MS
    """How long an association lives while no rail works."""
    connect_ns: int = 400 * MS
    """How long a connect attempt that nobody answers takes."""


Tap = Callable[[int, bytes], None]
"""Sees each frame with the node that is about to send it; what it raises ends that node's turn."""


@dataclass(slots=True)
class _End:
    """One end of an association."""

    driver: SimulatedDriver
    link: Link
    pending: deque[tuple[int, bytes]] = field(default_factory=deque[tuple[int, bytes]])
    in_flight: int = 0
    blocked: bool = False
    last_arrival: dict[int, int] = field(default_factory=dict[int, int])
    primary: str = ""
    alive: bool = True


@dataclass(slots=True)
class _Association:
    a: _End
    b: _End

    def ends(self, link: Link, driver: SimulatedDriver) -> tuple[_End, _End]:
        """(this end, the other end)."""
        if self.a.driver is driver and self.a.link == link:
            return self.a, self.b
        return self.b, self.a


class Network:
    """Hosts on rails, and time."""

    def __init__(
        self, rails: tuple[str, ...], *, seed: int, options: NetworkOptions | None = None
    ) -> None:
        self.rails = rails
        self.options = options or NetworkOptions()
        self.random = random.Random(seed)
        self.now_ns = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._hosts: dict[int, SimulatedDriver] = {}
        self._cut: set[tuple[int, int, str]] = set()
        self._loss: dict[tuple[int, int, str], float] = {}
        self.tap: Tap | None = None

    # -------------------------------------------------------------------------------- time

    def at(self, at_ns: int, action: Callable[[], None]) -> None:
        """Do something at a time; equal times keep the order of the calls."""
        self._serial += 1
        heapq.heappush(self._queue, (max(at_ns, self.now_ns), self._serial, action))

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Do something later."""
        self.at(self.now_ns + delay_ns, action)

    def step(self) -> bool:
        """Let the next thing happen; False if nothing is left."""
        if not self._queue:
            return False
        self.now_ns, _, action = heapq.heappop(self._queue)
        action()
        return True

    # -------------------------------------------------------------------------------- faults

    def cut(self, source: int, target: int, rail: str) -> None:
        """Lose everything that goes from one host to another on a rail."""
        self._cut.add((source, target, rail))

    def heal(self, source: int, target: int, rail: str) -> None:
        """Undo a cut."""
        self._cut.discard((source, target, rail))
        for driver in list(self._hosts.values()):
            driver.retry_pending()

    def lose(self, source: int, target: int, rail: str, share: float) -> None:
        """Lose this share of the packets of one direction; 0 undoes it.

        A lost probe is lost; a frame of an association comes a retransmission later.
        """
        if share:
            self._loss[source, target, rail] = share
        else:
            self._loss.pop((source, target, rail), None)

    def is_lost(self, source: int, target: int, rail: str) -> bool:
        """Whether the next packet is lost; draws a number only where packets may be lost."""
        share = self._loss.get((source, target, rail), 0.0)
        return share > 0 and self.random.random() < share

    def reset(self, node: int, peer: int, *, tell: bool = True) -> None:
        """The kernel of `node` aborts its associations with `peer`, whatever the paths are.

        What is in flight to `node` is lost. Without `tell` the ABORT chunk is lost as well: the
        peer finds out when it is answered with another (RFC 9260, section 8.4).
        """
        driver = self._hosts.get(node)
        if driver is not None:
            driver.reset(peer, tell=tell)

    def works(self, source: int, target: int, rail: str) -> bool:
        """Whether a packet would arrive."""
        return (
            (source, target, rail) not in self._cut
            and source in self._hosts
            and target in self._hosts
        )

    def both_ways(self, one: int, other: int, rail: str) -> bool:
        """Whether a path works in both directions, as SCTP needs it to."""
        return self.works(one, other, rail) and self.works(other, one, rail)

    def delay(self) -> int:
        """One way, with jitter."""
        return self.options.delay_ns + self.random.randrange(self.options.jitter_ns + 1)

    def host(self, node: int) -> SimulatedDriver | None:
        """The driver that listens on a host, if its process runs."""
        return self._hosts.get(node)

    def attach(self, driver: SimulatedDriver) -> None:
        """A process starts to listen on its host."""
        self._hosts[driver.node] = driver

    def detach(self, driver: SimulatedDriver) -> None:
        """A process stops."""
        if self._hosts.get(driver.node) is driver:
            del self._hosts[driver.node]


class SimulatedDriver:
    """One process's end of the simulated network (see `base.Driver`)."""

    def __init__(self, network: Network, node: int, ready: Callable[[], None]) -> None:
        self._network = network
        self.node = node
        self._ready = ready
        self._inputs: deque[Input] = deque()
        self._associations: dict[Link, _Association] = {}
        self._last_link = 0
        self._stats: Counter[str] = Counter()
        self._open = False

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="simulator", frame_bytes_max=FRAME_BYTES_MAX, reliable=True, rail_choice=True
        )

    @property
    def missing_rails(self) -> tuple[str, ...]:
        return ()

    def open(self) -> None:
        self._open = True
        self._network.attach(self)

    def fileno(self) -> int:
        raise UsageError("a simulated driver has no descriptor: it calls `ready` instead")

    def poll(self) -> list[Input]:
        self._check()
        taken: list[Input] = []
        while self._inputs and len(taken) < POLL_MAX:
            taken.append(self._inputs.popleft())
        return taken

    def _check(self) -> None:
        if not self._open:
            raise UsageError("this driver is closed; open a new one")

    def _give(self, item: Input) -> None:
        if self._open:
            self._inputs.append(item)
            self._ready()

    # --------------------------------------------------------------------------- associations

    def _new_link(self) -> Link:
        self._last_link += 1
        return self._last_link

    def connect(self, peer: PeerEndpoint) -> Link:
        self._check()
        link = self._new_link()
        network = self._network

        def answer() -> None:
            other = network.host(peer.node)
            rails = [r for r in network.rails if network.both_ways(self.node, peer.node, r)]
            if not self._open:
                return
            if other is None or not rails:
                network.after(network.options.connect_ns, fail)
                return
            self._establish(link, other)

        def fail() -> None:
            self._give(LinkLost(link=link, reason=LossReason.UNREACHABLE))

        network.after(2 * network.delay(), answer)
        return link

    def _establish(self, link: Link, other: SimulatedDriver) -> None:
        first = self._network.rails[0]
        here = _End(self, link, primary=first)
        there = _End(other, other._new_link(), primary=first)
        association = _Association(here, there)
        self._associations[link] = association
        other._associations[there.link] = association
        rails = self._network.rails
        other._give(LinkUp(link=there.link, accepted=True, rails=rails))
        self._give(LinkUp(link=link, accepted=False, rails=rails))

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        self._check()
        if not 0 < len(frame) <= FRAME_BYTES_MAX:
            raise UsageError(f"a frame has 1 to {FRAME_BYTES_MAX} bytes, not {len(frame)}")
        association = self._associations.get(link)
        if association is None:
            return True
        if self._network.tap is not None:
            self._network.tap(self.node, frame)
        here, there = association.ends(link, self)
        if rail is not None:
            self._probe(there, stream, frame, rail)
            return True
        if here.in_flight + len(frame) > SEND_BUFFER_BYTES:
            here.blocked = True
            return False
        here.in_flight += len(frame)
        here.pending.append((stream, frame))
        self._carry(here, there)
        return True

    def _probe(self, there: _End, stream: int, frame: bytes, rail: str) -> None:
        network, target = self._network, there.driver.node
        lost = network.is_lost(self.node, target, rail)
        if network.works(self.node, target, rail) and there.alive and not lost:
            network.after(network.delay(), lambda: there.driver._arrive(there, stream, frame))

    def _carry(self, here: _End, there: _End) -> None:
        """Send what is pending over a rail that works; without one, wait for it or give up."""
        network = self._network
        target = there.driver.node
        rails = [r for r in network.rails if network.both_ways(self.node, target, r)]
        if not rails:
            network.after(network.options.give_up_ns, lambda: self._give_up(here, there))
            return
        extra = 0 if here.primary in rails else network.options.retransmit_ns
        carrier = here.primary if here.primary in rails else rails[0]
        while here.pending:
            stream, frame = here.pending.popleft()
            again = network.is_lost(self.node, target, carrier)
            late = extra + (network.options.retransmit_ns if again else 0)
            at = max(network.now_ns + network.delay() + late, here.last_arrival.get(stream, 0))
            here.last_arrival[stream] = at
            network.at(at, partial(self._hand, here, there, stream, frame))

    def _hand(self, here: _End, there: _End, stream: int, frame: bytes) -> None:
        here.in_flight -= len(frame)
        if here.alive and here.blocked and here.in_flight * 2 <= SEND_BUFFER_BYTES:
            here.blocked = False
            self._give(Writable(link=here.link))
        there.driver._arrive(there, stream, frame)
        if not there.alive:
            # Whoever is at that address now does not know the association (RFC 9260, 8.4).
            self._network.after(self._network.delay(), lambda: self._end(here, LossReason.ABORTED))

    def _arrive(self, end: _End, stream: int, frame: bytes) -> None:
        if end.alive and self._open:
            self._stats["frames_received"] += 1
            self._give(Received(end.link, stream, frame))

    def _give_up(self, here: _End, there: _End) -> None:
        target = there.driver.node
        rails = self._network.rails
        working = any(self._network.both_ways(self.node, target, rail) for rail in rails)
        if here.alive and here.pending and (not working or not there.alive):
            self._end(here, LossReason.TIMED_OUT)

    def retry_pending(self) -> None:
        """A rail works again."""
        for association in list(self._associations.values()):
            here, there = association.a, association.b
            if here.driver is not self:
                here, there = there, here
            if here.alive and here.pending:
                self._carry(here, there)

    def _end(self, end: _End, reason: LossReason) -> None:
        if end.alive:
            end.alive = False
            self._associations.pop(end.link, None)
            self._give(LinkLost(link=end.link, reason=reason))

    def set_primary(self, link: Link, rail: str) -> None:
        association = self._associations.get(link)
        if association is not None:
            association.ends(link, self)[0].primary = rail
            self._give(PathNotice(link=link, rail=rail, state=PathState.PRIMARY))

    def reset(self, peer: int, *, tell: bool) -> None:
        """See `Network.reset`."""
        for association in list(self._associations.values()):
            here, there = association.a, association.b
            if here.driver is not self:
                here, there = there, here
            if there.driver.node != peer:
                continue
            self._end(here, LossReason.ABORTED)
            if tell:
                self._network.after(
                    self._network.delay(), partial(there.driver._end, there, LossReason.ABORTED)
                )

    def disconnect(self, link: Link, *, abort: bool) -> None:
        association = self._associations.get(link)
        if association is None:
            return
        here, there = association.ends(link, self)
        network = self._network
        latest = max(here.last_arrival.values(), default=0)
        self._end(here, LossReason.LOCAL)
        reason = LossReason.ABORTED if abort else LossReason.SHUTDOWN
        if any(network.works(self.node, there.driver.node, rail) for rail in network.rails):
            at = network.now_ns + network.delay()
            at = at if abort else max(at, latest) + 1
            network.at(at, lambda: there.driver._end(there, reason))

    # -------------------------------------------------------------------------------- queries

    def paths(self, link: Link) -> list[PathInfo]:
        association = self._associations.get(link)
        if association is None:
            return []
        here, there = association.ends(link, self)
        found: list[PathInfo] = []
        for rail in self._network.rails:
            state = PathState.DOWN
            if self._network.both_ways(self.node, there.driver.node, rail):
                state = PathState.PRIMARY if rail == here.primary else PathState.UP
            found.append(
                PathInfo(rail=rail, address=f"{rail}.{there.driver.node}", state=state, srtt_us=0)
            )
        return found

    def stats(self) -> dict[str, int]:
        return dict(self._stats)

    def close(self) -> None:
        if not self._open:
            return
        for link in list(self._associations):
            self.disconnect(link, abort=True)
        self._open = False
        self._network.detach(self)

    def crash(self) -> None:
        """The process is killed: nobody is told anything by the associations."""
        self._open = False
        self._network.detach(self)
        for association in self._associations.values():
            mine = association.a if association.a.driver is self else association.b
            mine.alive = False
        self._associations.clear()


def peers_of(addresses: Mapping[int, Mapping[str, str]]) -> dict[int, PeerEndpoint]:
    """Peer endpoints for a simulated network, where only the node id matters."""
    return {
        node: PeerEndpoint(node=node, addresses=rails, port=1, udp_port=1)
        for node, rails in addresses.items()
    }
