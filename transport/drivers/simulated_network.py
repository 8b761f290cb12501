"""Virtual time, and hosts on rails in it: what simulated drivers stand on.

`Network` owns the clock and the one queue of events. Everything that is drawn at random comes
from the seed, so a run can be repeated exactly.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ..config import MS
from ..errors import PortTaken
from .base import Datagram, LossReason
from .in_process_datagrams import DatagramTrouble, Fates

if TYPE_CHECKING:
    from .simulated_datagrams import SimulatedDatagrams
    from .simulator import SimulatedDriver


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
    path_down_ns: int = 200 * MS
    """How long until an association says that a path is dead."""
    path_up_ns: int = 100 * MS
    """How long until an association says that a path works again: one heartbeat."""
    send_buffer_bytes: int = 4 << 20
    """What one end of an association takes before it refuses frames."""
    datagrams: DatagramTrouble = field(default_factory=DatagramTrouble)
    """What befalls all datagrams, beside what befalls the packets of a direction."""


_Direction = tuple[int, int, str]
"""From one host to another on a rail."""
_Amount = TypeVar("_Amount", int, float)

Tap = Callable[[int, bytes], None]
"""Sees each frame with the node that is about to send it; what it raises ends that node's turn."""
Watch = Callable[[int, int, bytes, str | None], None]
"""Is told of each frame that is sent: source, target, frame, and the rail of a probe."""


class Network:
    """Hosts on rails, and time."""

    def __init__(
        self, rails: tuple[str, ...], *, seed: int, options: NetworkOptions | None = None
    ) -> None:
        self.rails = rails
        self.options = options or NetworkOptions()
        self.random = random.Random(seed)
        self.now_ns = 0
        self.steps = 0
        """How many things have happened."""
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._hosts: dict[int, SimulatedDriver] = {}
        self._cut: set[_Direction] = set()
        self._loss: dict[_Direction, float] = {}
        self._late: dict[_Direction, int] = {}
        self._twice: dict[_Direction, float] = {}
        self._absent: set[tuple[int, str]] = set()
        self._datagrams: dict[int, SimulatedDatagrams] = {}
        self._blocked: set[tuple[int, int]] = set()
        """From which host to which other one no datagram is let through."""
        self._no_sctp: set[tuple[int, int]] = set()
        """From which host to which other one no packet of SCTP is let through."""
        self._deaf: set[tuple[int, str]] = set()
        """Where nothing arrives that is sent to a rail's multicast group."""
        self._fates = Fates(self.options.datagrams, str(seed))
        self.tap: Tap | None = None
        self.watches: list[Watch] = []

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
        self.steps += 1
        action()
        return True

    # -------------------------------------------------------------------------------- faults

    def cut(self, source: int, target: int, rail: str) -> None:
        """Lose everything that goes from one host to another on a rail."""
        self._cut.add((source, target, rail))
        self._changed(source, target)

    def heal(self, source: int, target: int, rail: str) -> None:
        """Undo a cut."""
        self._cut.discard((source, target, rail))
        for driver in list(self._hosts.values()):
            driver.retry_pending()
        self._changed(source, target)

    def take_address(self, node: int, rail: str) -> None:
        """A host has no address on a rail when a driver is opened there the next time."""
        self._absent.add((node, rail))

    def give_address(self, node: int, rail: str) -> None:
        """Undo `take_address`."""
        self._absent.discard((node, rail))

    def has_address(self, node: int, rail: str) -> bool:
        """Whether a driver of the host can listen on a rail."""
        return (node, rail) not in self._absent

    def _changed(self, one: int, other: int) -> None:
        """Their associations notice by and by that a path is dead, or works again."""
        for node, peer in ((one, other), (other, one)):
            driver = self._hosts.get(node)
            if driver is not None:
                driver.look_after(peer)

    def lose(self, source: int, target: int, rail: str, share: float) -> None:
        """Lose this share of the packets of one direction; 0 undoes it.

        A lost probe is lost; a frame of an association comes a retransmission later.
        """
        _set(self._loss, (source, target, rail), share)

    def is_lost(self, source: int, target: int, rail: str) -> bool:
        """Whether the next packet is lost; draws a number only where packets may be lost."""
        share = self._loss.get((source, target, rail), 0.0)
        return share > 0 and self.random.random() < share

    def slow(self, source: int, target: int, rail: str, most_ns: int) -> None:
        """Delay each packet of one direction by up to so much, and so reorder them; 0 undoes it."""
        _set(self._late, (source, target, rail), most_ns)

    def lateness(self, source: int, target: int, rail: str) -> int:
        """How late the next packet is; draws a number only where packets are delayed."""
        most_ns = self._late.get((source, target, rail), 0)
        return self.random.randrange(most_ns + 1) if most_ns else 0

    def repeat(self, source: int, target: int, rail: str, share: float) -> None:
        """Carry this share of the probes of one direction twice; 0 undoes it.

        Of the frames of an association SCTP drops the second copy.
        """
        _set(self._twice, (source, target, rail), share)

    def is_repeated(self, source: int, target: int, rail: str) -> bool:
        """Whether the next probe comes twice."""
        share = self._twice.get((source, target, rail), 0.0)
        return share > 0 and self.random.random() < share

    def block_datagrams(self, source: int, target: int) -> None:
        """Let no datagram through from one host to another, as a firewall does; SCTP passes."""
        self._blocked.add((source, target))

    def pass_datagrams(self, source: int, target: int) -> None:
        """Undo `block_datagrams`."""
        self._blocked.discard((source, target))

    def block_sctp(self, source: int, target: int) -> None:
        """Let no packet of SCTP through from one host to another; datagrams pass."""
        self._no_sctp.add((source, target))
        self._changed(source, target)

    def pass_sctp(self, source: int, target: int) -> None:
        """Undo `block_sctp`."""
        self._no_sctp.discard((source, target))
        self._changed(source, target)

    def deafen(self, node: int, rail: str) -> None:
        """Let nothing to a host that is sent to a rail's group, as a switch does (IGMP is off)."""
        self._deaf.add((node, rail))

    def hear_again(self, node: int, rail: str) -> None:
        """Undo `deafen`."""
        self._deaf.discard((node, rail))

    def calm(self) -> None:
        """Undo every loss, delay and repetition of a direction, and let all datagrams through."""
        for trouble in (self._loss, self._late, self._twice):
            trouble.clear()
        self._blocked.clear()
        self._deaf.clear()
        for source, target in sorted(self._no_sctp):
            self.pass_sctp(source, target)

    def reset(
        self,
        node: int,
        peer: int,
        *,
        tell: bool = True,
        reason: LossReason = LossReason.ABORTED,
    ) -> None:
        """The kernel of `node` ends its associations with `peer`, whatever the paths are.

        What is in flight to `node` is lost. Without `tell` the ABORT chunk is lost as well: the
        peer finds out when it is answered with another (RFC 9260, section 8.4).
        """
        driver = self._hosts.get(node)
        if driver is not None:
            driver.reset(peer, tell=tell, reason=reason)

    def works(self, source: int, target: int, rail: str) -> bool:
        """Whether a packet of SCTP would arrive."""
        return (source, target) not in self._no_sctp and self.passes(source, target, rail)

    def passes(self, source: int, target: int, rail: str) -> bool:
        """Whether any packet would."""
        return (
            (source, target, rail) not in self._cut
            and source in self._hosts
            and target in self._hosts
            and rail in self._hosts[source].present
            and rail in self._hosts[target].present
        )

    def both_ways(self, one: int, other: int, rail: str) -> bool:
        """Whether a path works in both directions, as SCTP needs it to."""
        return self.works(one, other, rail) and self.works(other, one, rail)

    def delay(self) -> int:
        """One way, with jitter."""
        return self.options.delay_ns + self.random.randrange(self.options.jitter_ns + 1)

    def show(self, source: int, target: int, frame: bytes, rail: str | None = None) -> None:
        """A frame is about to be sent; what sees it may end the node's turn."""
        if self.tap is not None:
            self.tap(source, frame)
        for watch in self.watches:
            watch(source, target, frame, rail)

    def cast(self, source: int, target: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        """Carry a datagram, as often and as late as it befalls, or lose it.

        `frame` is what it brings, or begins to bring; None if others of the same frame came before.
        """
        if frame is not None:
            self.show(source, target, frame)
        if not self.passes(source, target, rail) or (source, target) in self._blocked:
            return
        direction, fates, options = (source, target, rail), self._fates, self.options
        copies = fates.draw()
        if fates.happens(self._loss.get(direction, 0.0)):
            return
        if copies and fates.happens(self._twice.get(direction, 0.0)):
            copies.append(0)
        most_ns = self._late.get(direction, 0)
        for late_ns in copies:
            delay_ns = options.delay_ns + fates.random.randrange(options.jitter_ns + 1)
            slow_ns = fates.random.randrange(most_ns + 1) if most_ns else 0
            arrives = partial(self._arrive, target, (source, rail, packet, 0, 0))
            self.after(delay_ns + late_ns + slow_ns, arrives)

    def cast_to_group(self, source: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        """Carry a datagram to each process that has joined a rail's group."""
        for target, there in sorted(self._datagrams.items()):
            if target != source and there.grouped and (target, rail) not in self._deaf:
                self.cast(source, target, rail, packet, frame)

    def _arrive(self, target: int, datagram: Datagram) -> None:
        """Whoever has the port by now gets it: a process does not know what its last one was."""
        found = self._datagrams.get(target)
        if found is not None:
            found.arrive(datagram)

    def host(self, node: int) -> SimulatedDriver | None:
        """The driver that listens on a host, if its process runs."""
        return self._hosts.get(node)

    def attach(self, driver: SimulatedDriver) -> None:
        """A process starts to listen on its host.

        Raises:
            PortTaken: another one listens there.
        """
        if self._hosts.setdefault(driver.node, driver) is not driver:
            raise PortTaken(f"another process listens on host {driver.node}")
        for peer in self._hosts:
            self._changed(driver.node, peer)

    def detach(self, driver: SimulatedDriver) -> None:
        """A process stops."""
        if self._hosts.get(driver.node) is driver:
            del self._hosts[driver.node]
            for peer in self._hosts:
                self._changed(driver.node, peer)

    def attach_datagrams(self, datagrams: SimulatedDatagrams) -> None:
        """A process takes datagrams on its host."""
        self._datagrams[datagrams.node] = datagrams

    def detach_datagrams(self, datagrams: SimulatedDatagrams) -> None:
        """It takes no more."""
        if self._datagrams.get(datagrams.node) is datagrams:
            del self._datagrams[datagrams.node]


def _set(troubles: dict[_Direction, _Amount], direction: _Direction, amount: _Amount) -> None:
    """Note how much a direction is troubled; 0 means that it is not."""
    if amount:
        troubles[direction] = amount
    else:
        troubles.pop(direction, None)
