"""Places to run datagrams in: namespaces, loopback, memory, and virtual time.

A bench has hosts numbered from 1, each with one address on rail "a" and one on rail "b". `reset`
runs after each case.
"""

from __future__ import annotations

import abc
import ipaddress
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from phalanx.transport.drivers.base import (
    Datagram,
    Datagrams,
    LocalEndpoint,
)
from phalanx.transport.drivers.datagrams import UdpDatagrams
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.drivers.simulated_datagrams import SimulatedDatagrams
from phalanx.transport.drivers.simulator import Network, NetworkOptions, SimulatedDriver
from phalanx.transport.errors import AddressMissing
from phalanx.transport.testing.memory_datagrams import MemoryDatagrams
from phalanx.transport.testing.memory_network import MemoryNetwork

from .bench import RAILS
from .netns_bench import NetnsBench, peer_of

HOSTS = (1, 2, 3)
WAIT_S = 5.0
"""Deadline of what must happen."""
QUIET_S = 0.05
"""What has not come by then, over a network without delay, does not come."""


Got = tuple[int, str, bytes]
"""A datagram without session and number."""


def plain(datagrams: Sequence[Datagram]) -> list[Got]:
    """From whom, on which rail, and what."""
    return [(node, rail, frame) for node, rail, frame, _, _ in datagrams]


class Bench(Protocol):
    """What the cases need."""

    def start(self, number: int, *, absent: Sequence[str] = ()) -> Datagrams:
        """Open the datagrams of a host, which has no address on the rails that are absent."""
        ...

    def collect(self, datagrams: Datagrams, count: int) -> list[Got]:
        """Poll until so many have come, and a little longer for those that must not come."""
        ...

    def collect_numbered(self, datagrams: Datagrams, count: int) -> list[Datagram]:
        """The same, with sessions and numbers."""
        ...

    def cut(self, number: int, rail: str) -> None: ...
    def heal(self, number: int, rail: str) -> None: ...
    def reset(self) -> None: ...


def wait_readable(datagrams: Datagrams, seconds: float) -> bool:
    """Wait as an event loop does."""
    return bool(select.select([datagrams.fileno()], [], [], seconds)[0])


class RealTimeBench(abc.ABC):
    """Datagrams with descriptors."""

    def __init__(self) -> None:
        self._started: list[Datagrams] = []

    @abc.abstractmethod
    def make(self, number: int, absent: Sequence[str]) -> Datagrams:
        """Open the datagrams of a host."""

    @abc.abstractmethod
    def mend(self) -> None:
        """Undo every fault."""

    def start(self, number: int, *, absent: Sequence[str] = ()) -> Datagrams:
        datagrams = self.make(number, absent)
        self._started.append(datagrams)
        return datagrams

    def collect(self, datagrams: Datagrams, count: int) -> list[Got]:
        return plain(self.collect_numbered(datagrams, count))

    def collect_numbered(self, datagrams: Datagrams, count: int) -> list[Datagram]:
        got: list[Datagram] = []
        deadline = time.monotonic() + WAIT_S
        while len(got) < count and time.monotonic() < deadline:
            if wait_readable(datagrams, deadline - time.monotonic()):
                got += datagrams.poll()
        while wait_readable(datagrams, QUIET_S):
            got += datagrams.poll()
        return got

    def reset(self) -> None:
        for datagrams in self._started:
            datagrams.close()
        self._started.clear()
        self.mend()


class NetnsDatagrams(RealTimeBench):
    """UDP between network namespaces, the sockets of all of them in this process."""

    def __init__(self, namespaces: NetnsBench) -> None:
        super().__init__()
        self.namespaces = namespaces

    def make(self, number: int, absent: Sequence[str]) -> UdpDatagrams:
        for rail in absent:
            self.namespaces.take_address(number, rail)
        endpoints = {host: self.namespaces.endpoint(host) for host in HOSTS}
        peers = {host: peer_of(it) for host, it in endpoints.items() if host != number}
        datagrams = UdpDatagrams(endpoints[number], peers)
        with self.namespaces.within(number):
            datagrams.open()
        return datagrams

    def cut(self, number: int, rail: str) -> None:
        self.namespaces.cut(number, rail)

    def heal(self, number: int, rail: str) -> None:
        self.namespaces.heal(number, rail)

    def mend(self) -> None:
        self.namespaces.reset()


class MemoryDatagramBench(RealTimeBench):
    """A network in memory."""

    def __init__(self, trouble: DatagramTrouble | None = None, *, seed: int = 1) -> None:
        super().__init__()
        self._trouble, self._seed = trouble, seed
        self.network = MemoryNetwork(trouble, seed=seed)

    def make(self, number: int, absent: Sequence[str]) -> Datagrams:
        for rail in absent:
            self.network.take_address(number, rail)
        datagrams = MemoryDatagrams(self.network, memory_endpoint(number), grouped=True)
        datagrams.open()
        return datagrams

    def cut(self, number: int, rail: str) -> None:
        self.network.cut(number, rail)

    def heal(self, number: int, rail: str) -> None:
        self.network.heal(number, rail)

    def mend(self) -> None:
        self.network = MemoryNetwork(self._trouble, seed=self._seed)


class SimulatedDatagramBench:
    """Virtual time; each host has its driver as well, as a process has."""

    def __init__(self, options: NetworkOptions | None = None, *, seed: int = 1) -> None:
        self._options, self._seed = options, seed
        self.network = Network(RAILS, seed=seed, options=options)
        self.woken: list[int] = []
        self._drivers: dict[int, SimulatedDriver] = {}

    def start(self, number: int, *, absent: Sequence[str] = ()) -> SimulatedDatagrams:
        for rail in absent:
            self.network.take_address(number, rail)
        if number not in self._drivers:
            self._drivers[number] = SimulatedDriver(self.network, number, lambda: None)
            with suppress(AddressMissing):
                self._drivers[number].open()
        datagrams = SimulatedDatagrams(self.network, number, self._wakes(number), grouped=True)
        datagrams.open()
        return datagrams

    def _wakes(self, number: int) -> Callable[[], None]:
        return lambda: self.woken.append(number)

    def collect(self, datagrams: Datagrams, count: int) -> list[Got]:
        return plain(self.collect_numbered(datagrams, count))

    def collect_numbered(self, datagrams: Datagrams, count: int) -> list[Datagram]:
        del count  # Everything that comes is here when nothing more happens.
        got: list[Datagram] = []
        while self.network.step():
            got += datagrams.poll()
        while more := datagrams.poll():
            got += more
        return got

    def cut(self, number: int, rail: str) -> None:
        for other in HOSTS:
            self.network.cut(number, other, rail)
            self.network.cut(other, number, rail)

    def heal(self, number: int, rail: str) -> None:
        for other in HOSTS:
            self.network.heal(number, other, rail)
            self.network.heal(other, number, rail)

    def reset(self) -> None:
        self.network = Network(RAILS, seed=self._seed, options=self._options)
        self._drivers.clear()
        self.woken.clear()


def memory_endpoint(number: int) -> LocalEndpoint:
    """A host on rails a and b."""
    return LocalEndpoint(
        node=number,
        addresses={rail: f"10.{place}.0.{number}" for place, rail in enumerate(RAILS)},
        networks={
            rail: ipaddress.ip_network(f"10.{place}.0.0/24") for place, rail in enumerate(RAILS)
        },
        port=5405,
        udp_port=9899,
        datagram_port=9900,
    )
