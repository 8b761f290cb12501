"""The driver contract over virtual time: one host's end of a `simulated_network.Network`.

The model of SCTP is the one that matters to a core: an association carries whole frames, in
order per stream, over whichever rail works, first noticing a dead primary path after one
retransmission time-out; it dies when nothing has worked for long enough. A reader that does not
poll closes its window, and then its sender is refused.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from ..errors import AddressMissing, UsageError
from .base import (
    STREAMS,
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
from .simulated_network import Network, NetworkOptions, Tap

__all__ = ["Network", "NetworkOptions", "SimulatedDriver", "Tap", "peers_of"]

FRAME_BYTES_MAX = 256 << 10
RECEIVE_BUFFER_BYTES = 1 << 20
"""What lies unread at one end of an association before its window closes."""
POLL_MAX = 4096


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
    rails: tuple[str, ...] = ()
    """Rails on which the other end has an address."""
    down: set[str] = field(default_factory=set[str])
    """Rails that were reported to be down."""
    stranded_ns: int | None = None
    """Since when nothing has led to the other end; None while something does."""
    held: deque[tuple[int, bytes]] = field(default_factory=deque[tuple[int, bytes]])
    """Frames from the other end that have arrived before a closed window."""
    closing: bool = False
    """Being ended in good order: what was accepted is still carried, nothing more."""
    shut: bool = False
    """The other end has ended in good order behind the frames that are held."""


@dataclass(slots=True)
class _Association:
    a: _End
    b: _End

    def ends(self, link: Link, driver: SimulatedDriver) -> tuple[_End, _End]:
        """(this end, the other end)."""
        if self.a.driver is driver and self.a.link == link:
            return self.a, self.b
        return self.b, self.a


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
        self.present: tuple[str, ...] = ()
        """Rails on which there was an address when the driver was opened."""
        self._dialling: set[Link] = set()
        self._unread: dict[Link, int] = {}
        """Bytes that lie in `_inputs`, by link."""
        self._lagging: dict[Link, None] = {}
        """Links on which frames are held, the oldest first."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="simulator", frame_bytes_max=FRAME_BYTES_MAX, reliable=True, rail_choice=True
        )

    @property
    def missing_rails(self) -> tuple[str, ...]:
        return tuple(rail for rail in self._network.rails if rail not in self.present)

    def open(self) -> None:
        network = self._network
        present = tuple(rail for rail in network.rails if network.has_address(self.node, rail))
        if not present:
            raise AddressMissing(f"host {self.node} has no address on any rail")
        self.present = present
        network.attach(self)
        self._open = True
        self._stats.clear()

    def fileno(self) -> int:
        raise UsageError("a simulated driver has no descriptor: it calls `ready` instead")

    def poll(self) -> list[Input]:
        self._check()
        taken: list[Input] = []
        while self._inputs and len(taken) < POLL_MAX:
            item = self._inputs.popleft()
            taken.append(item)
            if isinstance(item, Received):
                self._stats["frames_received"] += 1
                self._stats["bytes_received"] += len(item.frame)
                if item.link in self._unread:
                    self._unread[item.link] -= len(item.frame)
        for link in list(self._lagging):
            self._open_window(link)
        if self._inputs:
            self._ready()
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

    def _check_rail(self, rail: str) -> None:
        if rail not in self._network.rails:
            raise UsageError(f"there is no rail {rail!r}")

    def connect(self, peer: PeerEndpoint) -> Link:
        self._check()
        link = self._new_link()
        self._dialling.add(link)
        network = self._network

        def answer() -> None:
            other = network.host(peer.node)
            rails = [r for r in peer.addresses if network.both_ways(self.node, peer.node, r)]
            if link not in self._dialling:
                return
            if other is None or not rails:
                network.after(network.options.connect_ns, fail)
                return
            self._dialling.discard(link)
            self._establish(link, other)

        def fail() -> None:
            if link in self._dialling:
                self._dialling.discard(link)
                self._give(LinkLost(link=link, reason=LossReason.UNREACHABLE))

        network.after(2 * network.delay(), answer)
        return link

    def _establish(self, link: Link, other: SimulatedDriver) -> None:
        first = self._network.rails[0]
        here = _End(self, link, primary=first, rails=other.present)
        there = _End(other, other._new_link(), primary=first, rails=self.present)
        association = _Association(here, there)
        self._associations[link] = association
        other._associations[there.link] = association
        for end, accepted in ((there, True), (here, False)):
            end.driver._unread[end.link] = 0
            end.driver._give(LinkUp(link=end.link, accepted=accepted, rails=end.rails))
        self.look_after(other.node)
        other.look_after(self.node)

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        self._check()
        if not 0 < len(frame) <= FRAME_BYTES_MAX:
            raise UsageError(f"a frame has 1 to {FRAME_BYTES_MAX} bytes, not {len(frame)}")
        if not 0 <= stream < STREAMS:
            raise UsageError(f"there is no stream {stream}; streams are 0 to {STREAMS - 1}")
        if rail is not None:
            self._check_rail(rail)
        here, there = self._live(link)
        if here is None or there is None:
            return True
        if self._network.tap is not None:
            self._network.tap(self.node, frame)
        if rail is not None:
            self._probe(there, stream, frame, rail)
            return True
        # A frame that is larger than the buffer must find its way as well, alone.
        room = self._network.options.send_buffer_bytes - here.in_flight
        if here.in_flight and len(frame) > room:
            here.blocked = True
            self._stats["frames_refused"] += 1
            return False
        self._stats["frames_sent"] += 1
        self._stats["bytes_sent"] += len(frame)
        here.in_flight += len(frame)
        here.pending.append((stream, frame))
        self._carry(here, there)
        return True

    def _probe(self, there: _End, stream: int, frame: bytes, rail: str) -> None:
        network, target = self._network, there.driver.node
        # Probes have as much room again as data has: a busy reader must not look dead.
        if there.driver._unread.get(there.link, 0) > 2 * RECEIVE_BUFFER_BYTES:
            self._stats["probes_dropped"] += 1
            return
        lost = network.is_lost(self.node, target, rail)
        if network.works(self.node, target, rail) and there.alive and not lost:
            network.after(network.delay(), lambda: there.driver._arrive(there, stream, frame))

    def _carry(self, here: _End, there: _End) -> None:
        """Send what is pending over a rail that works; without one, it waits (`look_after`)."""
        network = self._network
        target = there.driver.node
        rails = [r for r in network.rails if network.both_ways(self.node, target, r)]
        if not rails:
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
        driver = there.driver
        unread = driver._unread.get(there.link, 0)
        if there.alive and (there.held or unread >= RECEIVE_BUFFER_BYTES):
            there.held.append((stream, frame))
            driver._lagging[there.link] = None
            return
        self._acknowledged(here, frame)
        driver._arrive(there, stream, frame)
        if not there.alive:
            # Whoever is at that address now does not know the association (RFC 9260, 8.4).
            self._network.after(self._network.delay(), lambda: self._end(here, LossReason.ABORTED))

    def _acknowledged(self, here: _End, frame: bytes) -> None:
        here.in_flight -= len(frame)
        room = here.in_flight * 2 <= self._network.options.send_buffer_bytes
        if here.alive and here.blocked and room and not here.closing:
            here.blocked = False
            self._give(Writable(link=here.link))

    def _open_window(self, link: Link) -> None:
        """The reader has taken something: let in what is held."""
        here, there = self._associations[link].ends(link, self)
        while here.held and self._unread[link] < RECEIVE_BUFFER_BYTES:
            stream, frame = here.held.popleft()
            there.driver._acknowledged(there, frame)
            self._arrive(here, stream, frame)
        if not here.held:
            self._lagging.pop(link)
            if here.shut:
                self._shut_down(here, there)

    def _arrive(self, end: _End, stream: int, frame: bytes) -> None:
        if end.alive and self._open:
            self._unread[end.link] += len(frame)
            self._give(Received(end.link, stream, frame))

    def _live(self, link: Link) -> tuple[_End, _End] | tuple[None, None]:
        """(this end, the other end) of a link that takes commands."""
        association = self._associations.get(link)
        if association is None:
            return None, None
        here, there = association.ends(link, self)
        return (None, None) if here.closing else (here, there)

    def _ends(self) -> list[tuple[_End, _End]]:
        """(this end, the other end) of every association."""
        return [a.ends(link, self) for link, a in self._associations.items()]

    def _working(self, here: _End, there: _End) -> set[str]:
        peer = there.driver.node
        return {rail for rail in here.rails if self._network.both_ways(self.node, peer, rail)}

    def look_after(self, peer: int) -> None:
        """Something has changed on the way to a peer: notice it as SCTP does, by and by."""
        network, options = self._network, self._network.options
        for here, there in self._ends():
            if there.driver.node != peer:
                continue
            working = self._working(here, there)
            if working:
                here.stranded_ns = None
            elif here.stranded_ns is None:
                here.stranded_ns = network.now_ns
                network.after(options.give_up_ns, partial(self._give_up, here, network.now_ns))
            if working & here.down or not there.alive:
                network.after(options.path_up_ns, partial(self._report, here, there))
            elif working != set(here.rails) - here.down:
                network.after(options.path_down_ns, partial(self._report, here, there))

    def _report(self, here: _End, there: _End) -> None:
        """Say which paths have died or come back; end an association that the peer forgot."""
        if not here.alive:
            return
        working = self._working(here, there)
        for rail in here.rails:
            if (rail in working) is (rail in here.down):
                here.down ^= {rail}
                state = PathState.UP if rail in working else PathState.DOWN
                self._give(PathNotice(link=here.link, rail=rail, state=state))
        if working and not there.alive:
            self._end(here, LossReason.ABORTED)

    def _give_up(self, here: _End, since_ns: int) -> None:
        if here.stranded_ns == since_ns:
            self._end(here, LossReason.TIMED_OUT)

    def retry_pending(self) -> None:
        """A rail works again."""
        for here, there in self._ends():
            if here.closing:
                self._shut(here, there)
            elif here.pending:
                self._carry(here, there)

    def _end(self, end: _End, reason: LossReason) -> None:
        if end.alive:
            end.alive = False
            self._associations.pop(end.link, None)
            self._unread.pop(end.link, None)
            self._lagging.pop(end.link, None)
            reason = LossReason.LOCAL if end.closing else reason
            self._give(LinkLost(link=end.link, reason=reason))

    def set_primary(self, link: Link, rail: str) -> None:
        self._check()
        self._check_rail(rail)
        here, there = self._live(link)
        if here is not None and there is not None and rail in self._working(here, there):
            here.primary = rail
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
        self._check()
        if link in self._dialling:
            self._dialling.discard(link)
            self._give(LinkLost(link=link, reason=LossReason.LOCAL))
        association = self._associations.get(link)
        if association is None:
            return
        here, there = association.ends(link, self)
        network, target = self._network, there.driver.node
        if not abort:
            # What was accepted is carried first, and the other side confirms.
            if not here.closing:
                here.closing = True
                self._shut(here, there)
            return
        self._end(here, LossReason.LOCAL)
        if any(network.works(self.node, target, rail) for rail in network.rails):
            network.after(network.delay(), partial(there.driver._end, there, LossReason.ABORTED))

    def _shut(self, here: _End, there: _End) -> None:
        """Tell the other end behind everything that was accepted, once a rail works."""
        if here.pending:
            self._carry(here, there)
        if not here.pending and self._working(here, there):
            at = self._behind(here)
            self._network.at(at, partial(there.driver._shut_down, there, here))

    def _behind(self, here: _End) -> int:
        """When something arrives that is sent now, behind all frames."""
        latest = max(here.last_arrival.values(), default=0)
        return max(self._network.now_ns + self._network.delay(), latest) + 1

    def _shut_down(self, here: _End, there: _End) -> None:
        """The other end has ended in good order, and its last frame has come."""
        if here.held:
            here.shut = True
            return
        self._end(here, LossReason.SHUTDOWN)
        at = self._behind(here)
        self._network.at(at, partial(there.driver._end, there, LossReason.LOCAL))

    # -------------------------------------------------------------------------------- queries

    def paths(self, link: Link) -> list[PathInfo]:
        self._check()
        here, there = self._live(link)
        if here is None or there is None:
            return []
        found: list[PathInfo] = []
        working = self._working(here, there)
        for rail in here.rails:
            state = PathState.DOWN
            if rail in working:
                state = PathState.PRIMARY if rail == here.primary else PathState.UP
            found.append(
                PathInfo(
                    rail=rail,
                    address=f"{rail}.{there.driver.node}",
                    state=state,
                    srtt_us=0,
                    cwnd_bytes=self._network.options.send_buffer_bytes,
                )
            )
        return found

    def stats(self) -> dict[str, int]:
        self._check()
        return dict(self._stats)

    def close(self) -> None:
        if not self._open:
            return
        for link in list(self._associations):
            self.disconnect(link, abort=True)
        self._stop()

    def _stop(self) -> None:
        self._open = False
        self._inputs.clear()
        self._dialling.clear()
        self._unread.clear()
        self._lagging.clear()
        self._network.detach(self)

    def crash(self) -> None:
        """The process is killed: nobody is told anything by the associations."""
        for here, _ in self._ends():
            here.alive = False
        self._associations.clear()
        self._stop()


def peers_of(addresses: Mapping[int, Mapping[str, str]]) -> dict[int, PeerEndpoint]:
    """Peer endpoints for a simulated network, where only the node id matters."""
    return {
        node: PeerEndpoint(node=node, addresses=rails, port=1, udp_port=1)
        for node, rails in addresses.items()
    }
