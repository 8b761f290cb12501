"""The driver within one process under the conformance suite of all drivers, in real time."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from phalanx.transport.drivers.base import (
    LinkLost,
    LocalEndpoint,
    LossReason,
    Network,
    Stream,
)
from phalanx.transport.testing.memory_network import (
    GIVE_UP_NS,
    POLL_MAX,
    MemoryDriver,
    MemoryNetwork,
)

from .bench import RAILS, Bench, accepted, join, link_up, lost, wait
from .local_bench import LocalBench, LocalHost
from .local_cases import LocalCases


class MemoryBench(LocalBench):
    """Hosts on a network in memory."""

    name = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def _wait(self, seconds: float) -> list[LocalHost]:
        watched = {host.driver.fileno(): host for host in self.hosts if host.reading}
        readable, _, _ = select.select(list(watched), [], [], seconds)
        return [watched[fd] for fd in readable]

    def ready(self) -> list[LocalHost]:
        return self._wait(0)

    def pass_time(self, until_ns: int) -> None:
        self._wait(max(0, until_ns - self.now_ns()) / 1e9)

    def endpoint(self, number: int) -> LocalEndpoint:
        local = super().endpoint(number)
        networks: dict[str, Network] = dict.fromkeys(RAILS, LOOPBACK)
        return LocalEndpoint(
            node=number,
            addresses=local.addresses,
            networks=networks,
            port=local.port,
            udp_port=local.udp_port,
        )

    def make(self, local: LocalEndpoint, absent: Sequence[str]) -> LocalHost:
        for rail in absent:
            self.network.take_address(local.node, rail)
        return LocalHost(self, local, MemoryDriver(self.network, local))

    def cut(self, number: int, rail: str) -> None:
        self.network.cut(number, rail)

    def heal(self, number: int, rail: str) -> None:
        self.network.heal(number, rail)

    def crash(self, host: LocalHost) -> None:
        self.network.kill(host.node)
        host.driver.close()

    def memory_bytes(self) -> int:
        """Of this process, which holds both sides."""
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def reset(self) -> None:
        super().reset()
        self.network = MemoryNetwork()


LOOPBACK = ip_network("127.0.0.0/8")


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Three hosts."""
    bench = MemoryBench()
    yield bench
    bench.reset()


class TestMemory(LocalCases):
    """All hosts in this process; a crash is `MemoryNetwork.kill`."""

    lag_s = 0.05
    give_up_ns = GIVE_UP_NS


def test_an_abort_that_no_rail_carries_is_found_out_later(bench: Bench) -> None:
    """The peer asks on the rail that comes back, and is answered with an abort."""
    one, two = bench.start(1), bench.start(2)
    link, at_two = join(one, two)
    for rail in RAILS:
        bench.cut(1, rail)
    one.driver.disconnect(link, abort=True)
    two.collect(0.05)
    assert not two.log.of(LinkLost)
    bench.heal(1, "a")
    assert lost(two, at_two).reason is LossReason.ABORTED


def test_a_peer_that_is_killed_is_not_known_to_be_dead(bench: Bench) -> None:
    """Silence is all that a crash leaves; its link is given up in time, not ended at once."""
    one, two = bench.start(1), bench.start(2)
    link, _ = join(one, two)
    two.kill()
    assert one.driver.transmit(link, Stream.FIFO, b"to nobody")
    assert lost(one, link).reason is LossReason.TIMED_OUT
    two = bench.start(2)
    back = two.driver.connect(one.peer)
    link_up(two, back)
    assert accepted(one).link != link


def test_a_poll_is_bounded_and_the_descriptor_stays_readable(bench: Bench) -> None:
    """One busy peer must not keep the core from its timers; nor be forgotten."""
    one, two = bench.start(1), bench.start(2)
    link, at_two = join(one, two)
    two.read(on=False)
    for _ in range(2 * POLL_MAX):
        assert one.driver.transmit(link, Stream.FIFO, b"x")
    assert len(two.driver.poll()) == POLL_MAX
    assert select.select([two.driver.fileno()], [], [], 0)[0]
    two.read(on=True)
    wait(two, lambda log: len(log.frames(at_two)) == POLL_MAX)
    assert not select.select([two.driver.fileno()], [], [], 0)[0]


def test_opening_and_closing_again_and_again_leaks_no_descriptor(bench: Bench) -> None:
    """A test suite opens thousands of them in one process."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        join(bench.start(1), bench.start(2))
        bench.reset()
    assert len(os.listdir("/proc/self/fd")) == before
