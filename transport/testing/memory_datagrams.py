"""Datagrams within one process, in real time: they arrive at once, late, twice or not at all."""

from __future__ import annotations

import heapq
import time
from typing import TYPE_CHECKING

from ..drivers.base import Datagram, LocalEndpoint
from ..drivers.in_process_datagrams import InProcessDatagrams
from .alarm import AT_ONCE_NS, Alarm

if TYPE_CHECKING:
    from .memory_network import MemoryNetwork


class MemoryDatagrams(InProcessDatagrams):
    """One node's datagrams on a `MemoryNetwork` (see `drivers.base.Datagrams`)."""

    def __init__(
        self, network: MemoryNetwork, local: LocalEndpoint, *, grouped: bool = False
    ) -> None:
        super().__init__(local.node, tuple(local.networks), grouped=grouped)
        self._network = network
        self._local = local
        self._alarm: Alarm | None = None
        self._late: list[tuple[int, int, Datagram]] = []
        """When each arrives, the order in which they were sent, and what they are."""
        self._serial = 0
        self.dead = False
        """See `MemoryNetwork.kill`."""

    def _has_address(self, rail: str) -> bool:
        return rail in self._local.addresses and self._network.has_address(self.node, rail)

    def _start(self) -> None:
        self.dead = False
        self._alarm = Alarm()
        self._network.attach_datagrams(self)

    def _stop(self) -> None:
        assert self._alarm is not None, "it is there from `open` to `close`"
        self._network.detach_datagrams(self)
        self._late.clear()
        self._alarm.close()
        self._alarm = None

    def fileno(self) -> int:
        """A timer: it runs out when something has arrived, or arrives late."""
        self._check_open()
        assert self._alarm is not None, "it is there from `open` to `close`"
        return self._alarm.fd

    def poll(self, *, patient: bool = False) -> list[Datagram]:
        """What has come since the last call; see `drivers.base.Datagrams`."""
        now_ns = time.monotonic_ns()
        while self._late and self._late[0][0] <= now_ns:
            self.arrive(heapq.heappop(self._late)[2])
        taken = super().poll(patient=patient)
        self._arm()
        return taken

    def _wake(self) -> None:
        self._arm()

    def _arm(self) -> None:
        if self._alarm is not None:
            later = self._late[0][0] if self._late else 0
            self._alarm.set(AT_ONCE_NS if self._unread else later)

    def arrive_late(self, datagram: Datagram, late_ns: int) -> None:
        """A datagram will have come by then."""
        if self._open:
            self._serial += 1
            heapq.heappush(self._late, (time.monotonic_ns() + late_ns, self._serial, datagram))
            self._arm()

    def _send(self, node: int, rail: str, packet: bytes, frame: bytes | None) -> None:
        del frame
        there = self._network.find_datagrams(node)
        if there is None or self.dead or not self._network.works(self.node, node, rail):
            return
        datagram = (self.node, rail, packet, 0, 0)
        for late_ns in self._network.fates.draw():
            if late_ns:
                there.arrive_late(datagram, late_ns)
            else:
                there.arrive(datagram)

    def _send_to_group(self, rail: str, packet: bytes, frame: bytes | None) -> None:
        for node in self._network.group(rail):
            if node != self.node:
                self._send(node, rail, packet, frame)
