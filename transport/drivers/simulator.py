"""The driver contract over virtual time: one host's end of a `simulated_network.Network`.

The model of SCTP is the one that matters to a core: an association carries whole frames, in
order per stream, over whichever rail works, first noticing a dead primary path after one
retransmission time-out; it dies when nothing has worked for long enough. A reader that does not
poll closes its window, and then its sender is refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ..errors import UsageError
from .base import Input, Link, LinkLost, LinkUp, LossReason, PeerEndpoint
from .in_process import RECEIVE_BUFFER_BYTES, End, InProcessDriver
from .simulated_network import Network, NetworkOptions, Tap

__all__ = ["Network", "NetworkOptions", "SimulatedDriver", "Tap"]

POLL_MAX = 4096


@dataclass(slots=True, eq=False, kw_only=True)
class _End(End):
    """One end of an association."""

    driver: SimulatedDriver
    other: _End = field(init=False, repr=False)
    last_arrival: dict[int, int] = field(default_factory=dict[int, int])
    stranded_ns: int | None = None
    """Since when nothing has led to the other end; None while something does."""
    held: deque[tuple[int, bytes]] = field(default_factory=deque[tuple[int, bytes]])
    """Frames from the other end that have arrived before a closed window."""
    shut: bool = False
    """The other end has ended in good order behind the frames that are held."""


class SimulatedDriver(InProcessDriver[_End]):
    """One process's end of the simulated network (see `base.Driver`)."""

    name = "simulator"
    poll_max = POLL_MAX

    def __init__(self, network: Network, node: int, ready: Callable[[], None]) -> None:
        super().__init__(node, network.rails)
        self._network = network
        self._ready = ready
        self._dialling: set[Link] = set()
        self._lagging: dict[Link, None] = {}
        """Links on which frames are held, the oldest first."""

    def open(self) -> None:
        """Begin to listen; see `base.Driver`."""
        self.present = self._find_rails()
        self._network.attach(self)
        self._open = True
        self._stats.clear()

    def _has_address(self, rail: str) -> bool:
        return self._network.has_address(self.node, rail)

    def _stop(self) -> None:
        self._open = False
        self._inputs.clear()
        self._dialling.clear()
        self._lagging.clear()
        self._network.detach(self)

    def crash(self) -> None:
        """The process is killed: nobody is told anything by the associations."""
        self._fall_silent()
        self._stop()

    # -------------------------------------------------------------------------------- inputs

    def fileno(self) -> int:
        """Refused: nobody can wait for virtual time, so `ready` is called instead."""
        raise UsageError("a simulated driver has no descriptor: it calls `ready` instead")

    def poll(self) -> list[Input]:
        """All frames and notices since the last call, up to `POLL_MAX`."""
        self._check()
        taken = self._take()
        for link in list(self._lagging):
            self._open_window(self._ends[link])
        if self._inputs:
            self._ready()
        return taken

    def _give(self, item: Input) -> None:
        if self._open:
            self._inputs.append(item)
            self._ready()

    # --------------------------------------------------------------------------- associations

    def connect(self, peer: PeerEndpoint) -> Link:
        """Begin an association over the rails that both sides have; see `base.Driver`."""
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
        first = self._rails[0]
        here = _End(driver=self, link=link, primary=first, rails=other.present)
        there = _End(driver=other, link=other._new_link(), primary=first, rails=self.present)
        here.other, there.other = there, here
        for end, accepted in ((there, True), (here, False)):
            end.driver._ends[end.link] = end
            end.driver._give(LinkUp(link=end.link, accepted=accepted, rails=end.rails))
        self.look_after(other.node)
        other.look_after(self.node)

    def _leads(self, end: _End, rail: str) -> bool:
        return self._network.both_ways(self.node, end.other.driver.node, rail)

    def _address(self, end: _End, rail: str) -> str:
        return f"{rail}.{end.other.driver.node}"

    def look_after(self, peer: int) -> None:
        """Something has changed on the way to a peer: notice it as SCTP does, by and by."""
        network, options = self._network, self._network.options
        for here in list(self._ends.values()):
            if here.other.driver.node != peer:
                continue
            working = self._working(here)
            if working:
                here.stranded_ns = None
            elif here.stranded_ns is None:
                here.stranded_ns = network.now_ns
                network.after(options.give_up_ns, partial(self._give_up, here, network.now_ns))
            if working & here.down or not here.other.alive:
                network.after(options.path_up_ns, partial(self._report, here))
            elif working != set(here.rails) - here.down:
                network.after(options.path_down_ns, partial(self._report, here))

    def _report(self, here: _End) -> None:
        """Say which paths have died or come back; end an association that the peer forgot."""
        if not here.alive:
            return
        working = self._working(here)
        self._report_paths(here, working)
        if working and not here.other.alive:
            self._lose(here, LossReason.ABORTED)

    def _give_up(self, here: _End, since_ns: int) -> None:
        if here.stranded_ns == since_ns:
            self._lose(here, LossReason.TIMED_OUT)

    def _lose(self, end: _End, reason: LossReason) -> None:
        self._lagging.pop(end.link, None)
        super()._lose(end, reason)

    def reset(self, peer: int, *, tell: bool, reason: LossReason) -> None:
        """See `Network.reset`."""
        for here in list(self._ends.values()):
            there = here.other
            if there.driver.node == peer:
                self._lose(here, reason)
                if tell:
                    self._abort(there)

    def _abort(self, there: _End) -> None:
        """Send an ABORT chunk."""
        lose = partial(there.driver._lose, there, LossReason.ABORTED)
        self._network.after(self._network.delay(), lose)

    def disconnect(self, link: Link, *, abort: bool) -> None:
        """End a link; frames that were accepted are still carried unless it is an abort."""
        self._check()
        if link in self._dialling:
            self._dialling.discard(link)
            self._give(LinkLost(link=link, reason=LossReason.LOCAL))
        here = self._ends.get(link)
        if here is None:
            return
        network, there = self._network, here.other
        if not abort:
            # What was accepted is carried first, and the other side confirms.
            if not here.closing:
                here.closing = True
                self._shut(here)
            return
        self._lose(here, LossReason.LOCAL)
        if any(network.works(self.node, there.driver.node, rail) for rail in network.rails):
            self._abort(there)

    def _shut(self, here: _End) -> None:
        """Tell the other end behind everything that was accepted, once a rail works."""
        if here.waiting:
            self._carry(here)
        if not here.waiting and self._working(here):
            there = here.other
            self._network.at(self._behind(here), partial(there.driver._shut_down, there))

    def _behind(self, here: _End) -> int:
        """When something arrives that is sent now, behind all frames."""
        latest = max(here.last_arrival.values(), default=0)
        return max(self._network.now_ns + self._network.delay(), latest) + 1

    def _shut_down(self, here: _End) -> None:
        """The other end has ended in good order, and its last frame has come."""
        if here.held:
            here.shut = True
            return
        self._lose(here, LossReason.SHUTDOWN)
        there = here.other
        confirm = partial(there.driver._lose, there, LossReason.LOCAL)
        self._network.at(self._behind(here), confirm)

    # --------------------------------------------------------------------------------- frames

    def _send_buffer_bytes(self) -> int:
        return self._network.options.send_buffer_bytes

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Hand over one frame; False if the link has no room; see `base.Driver`."""
        network = self._network
        if network.tap is not None or network.watches:
            end = self._live(link)
            if end is not None and network.tap is not None:
                network.tap(self.node, frame)
            if end is not None:
                for watch in network.watches:
                    watch(self.node, end.other.driver.node, frame, rail)
        return super().transmit(link, stream, frame, rail=rail)

    def _probe(self, end: _End, stream: int, frame: bytes, rail: str) -> None:
        network, there = self._network, end.other
        target = there.driver.node
        # Probes have as much room again as data has: a busy reader must not look dead.
        if there.alive and there.unread_bytes > 2 * RECEIVE_BUFFER_BYTES:
            self._stats["probes_dropped"] += 1
            return
        lost = network.is_lost(self.node, target, rail)
        if network.works(self.node, target, rail) and there.alive and not lost:
            for _ in range(2 if network.is_repeated(self.node, target, rail) else 1):
                delay_ns = network.delay() + network.lateness(self.node, target, rail)
                network.after(delay_ns, partial(there.driver._deliver, there, stream, frame))

    def _carry(self, end: _End) -> None:
        """Send what is waiting over a rail that works; without one, it waits (`look_after`)."""
        network, target = self._network, end.other.driver.node
        rails = [r for r in network.rails if network.both_ways(self.node, target, r)]
        if not rails:
            return
        extra = 0 if end.primary in rails else network.options.retransmit_ns
        carrier = end.primary if end.primary in rails else rails[0]
        while end.waiting:
            stream, frame = end.waiting.popleft()
            again = network.is_lost(self.node, target, carrier)
            late = extra + (network.options.retransmit_ns if again else 0)
            late += network.lateness(self.node, target, carrier)
            at = max(network.now_ns + network.delay() + late, end.last_arrival.get(stream, 0))
            end.last_arrival[stream] = at
            network.at(at, partial(self._hand, end, stream, frame))

    def _hand(self, here: _End, stream: int, frame: bytes) -> None:
        there = here.other
        if there.alive and (there.held or there.unread_bytes >= RECEIVE_BUFFER_BYTES):
            there.held.append((stream, frame))
            there.driver._lagging[there.link] = None
            return
        self._acknowledged(here, frame)
        there.driver._deliver(there, stream, frame)
        if not there.alive:
            # Whoever is at that address now does not know the association (RFC 9260, 8.4).
            self._network.after(self._network.delay(), lambda: self._lose(here, LossReason.ABORTED))

    def _acknowledged(self, here: _End, frame: bytes) -> None:
        here.accepted_bytes -= len(frame)
        self._say_if_writable(here)

    def _open_window(self, here: _End) -> None:
        """The reader has taken something: let in what is held."""
        there = here.other
        while here.held and here.unread_bytes < RECEIVE_BUFFER_BYTES:
            stream, frame = here.held.popleft()
            there.driver._acknowledged(there, frame)
            self._deliver(here, stream, frame)
        if not here.held:
            self._lagging.pop(here.link)
            if here.shut:
                self._shut_down(here)

    def retry_pending(self) -> None:
        """A rail works again."""
        for here in list(self._ends.values()):
            if here.closing:
                self._shut(here)
            elif here.waiting:
                self._carry(here)
