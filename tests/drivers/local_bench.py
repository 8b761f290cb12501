"""Hosts as driver objects in this process, in real or in virtual time.

A bench says how time passes and what its faults are; the rest is the same: while a case waits
for one host, every host is polled when it is readable, and every stream goes on.
"""

from __future__ import annotations

import abc
import struct
from collections.abc import Sequence

from phalanx.transport.config import SctpTuning
from phalanx.transport.drivers.base import (
    Driver,
    Link,
    LocalEndpoint,
    PeerEndpoint,
    Stream,
    Writable,
)

from .bench import RAILS, Host, Log

COLLECT_NS_MAX = 250_000_000
"""A condition may also come true by the time that passes, so it is asked now and then."""
GATHER_NS = 5_000_000
"""How long inputs are gathered in virtual time, where each of them comes at a time of its own."""


class LocalHost:
    """One driver of a `LocalBench`."""

    def __init__(self, bench: LocalBench, local: LocalEndpoint, driver: Driver) -> None:
        self._bench = bench
        self._local = local
        self._driver = driver
        self._log = Log()
        self.reading = True
        self._link: Link = 0
        self._count = self._sent = self._every_ns = self._size = 0
        self._next_ns = 0
        self._blocked = False

    @property
    def driver(self) -> Driver:
        return self._driver

    @property
    def node(self) -> int:
        """The number of the host."""
        return self._local.node

    @property
    def peer(self) -> PeerEndpoint:
        local = self._local
        return PeerEndpoint(
            node=local.node, addresses=local.addresses, port=local.port, udp_port=local.udp_port
        )

    @property
    def log(self) -> Log:
        return self._log

    def now_ns(self) -> int:
        return self._bench.now_ns()

    def collect(self, seconds: float) -> None:
        self._bench.collect(self, seconds)

    def read(self, on: bool) -> None:
        self.reading = on

    def stream(self, link: Link, *, count: int, every_ns: int, size: int) -> None:
        self._link, self._count, self._every_ns, self._size = link, count, every_ns, size
        self._sent, self._blocked, self._next_ns = 0, False, self.now_ns()

    def sent(self) -> int:
        return self._sent

    def memory_bytes(self) -> int:
        return self._bench.memory_bytes()

    def kill(self) -> None:
        self._bench.kill(self)

    def poll(self) -> None:
        """Take what the driver has."""
        now_ns = self.now_ns()
        for one in self._driver.poll():
            self._log.inputs.append(one)
            self._log.times_ns.append(now_ns)
            if isinstance(one, Writable) and one.link == self._link:
                self._blocked = False

    def send(self) -> None:
        """Send what of the stream is due."""
        while (due_ns := self.due_ns()) is not None and due_ns <= self.now_ns():
            frame = struct.pack("=Q", self._sent).ljust(self._size, b".")
            if not self._driver.transmit(self._link, Stream.FIFO, frame):
                self._blocked = True
                return
            self._sent += 1
            self._next_ns += self._every_ns

    def due_ns(self) -> int | None:
        """When the next frame of the stream is due."""
        return None if self._blocked or self._sent >= self._count else self._next_ns


class LocalBench(abc.ABC):
    """A `Bench` without processes; addresses are words, for no packet is ever sent to one."""

    name = ""
    gather_ns = 0
    """How long to go on after the first input."""

    def __init__(self) -> None:
        self.hosts: list[LocalHost] = []

    @abc.abstractmethod
    def now_ns(self) -> int:
        """The clock."""

    @abc.abstractmethod
    def ready(self) -> list[LocalHost]:
        """Hosts that are to be read and have something to give."""

    @abc.abstractmethod
    def pass_time(self, until_ns: int) -> None:
        """Let time pass until something may have happened, but not past that time."""

    @abc.abstractmethod
    def make(self, local: LocalEndpoint, absent: Sequence[str]) -> LocalHost:
        """A host with a driver, not open yet."""

    @abc.abstractmethod
    def cut(self, number: int, rail: str) -> None: ...

    @abc.abstractmethod
    def heal(self, number: int, rail: str) -> None: ...

    @abc.abstractmethod
    def crash(self, host: LocalHost) -> None:
        """End the driver of a host as a crash of its process would."""

    def endpoint(self, number: int) -> LocalEndpoint:
        return LocalEndpoint(
            node=number,
            addresses={rail: f"{rail}.{number}" for rail in RAILS},
            networks={},
            port=5405,
            udp_port=9899,
        )

    def start(
        self,
        number: int,
        *,
        tuning: SctpTuning | None = None,
        absent: Sequence[str] = (),
    ) -> Host:
        del tuning
        host = self.make(self.endpoint(number), absent)
        host.driver.open()
        self.hosts.append(host)
        return host

    def link_down(self, number: int, rail: str) -> None:
        """These hosts have no interfaces: as `cut`."""
        self.cut(number, rail)

    def kill(self, host: LocalHost) -> None:
        """Crash a host, and forget it."""
        self.crash(host)
        self.hosts.remove(host)

    def reset(self) -> None:
        for host in self.hosts:
            host.driver.close()
        self.hosts.clear()

    def memory_bytes(self) -> int:
        raise NotImplementedError("this bench does not measure memory")

    def send_datagram(self, source: int, target: int, payload: bytes) -> None:
        raise NotImplementedError("nothing can be sent past the drivers")

    def hold_port(self, number: int) -> None:
        """Another driver listens as this host."""
        self.start(number)

    def collect(self, host: LocalHost, seconds: float) -> None:
        """Let everything go on until a host has reported something, for that long at most."""
        deadline_ns = self.now_ns() + min(int(seconds * 1e9), COLLECT_NS_MAX)
        seen = len(host.log.inputs)
        while True:
            for one in self.ready():
                one.poll()
            for one in self.hosts:
                one.send()
            if len(host.log.inputs) > seen:
                deadline_ns = min(deadline_ns, host.log.times_ns[seen] + self.gather_ns)
            if self.now_ns() >= deadline_ns:
                return
            due = [at for one in self.hosts if (at := one.due_ns()) is not None]
            self.pass_time(min([deadline_ns, *due]))
