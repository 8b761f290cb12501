"""The simulated driver under the conformance suite of all drivers, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from phalanx.transport.drivers.base import (
    LinkLost,
    LocalEndpoint,
    LossReason,
    Received,
    Stream,
)
from phalanx.transport.drivers.simulator import (
    POLL_MAX,
    Network,
    NetworkOptions,
    SimulatedDriver,
)
from phalanx.transport.errors import UsageError

from .bench import RAILS, Bench, join, lost, wait, wait_frames
from .local_bench import GATHER_NS, LocalBench, LocalHost
from .local_cases import LocalCases, pass_seconds
from .rail_cases import settled


class SimulatorBench(LocalBench):
    """Hosts on a simulated network; waiting moves its clock."""

    name = "simulator"
    gather_ns = GATHER_NS

    def __init__(self, options: NetworkOptions | None = None) -> None:
        super().__init__()
        self.network = Network(RAILS, seed=1, options=options)
        self._readable: set[int] = set()
        self._stops: set[int] = set()
        """Times at which the clock stops although nothing may happen."""

    def now_ns(self) -> int:
        return self.network.now_ns

    def ready(self) -> list[LocalHost]:
        found = [host for host in self.hosts if host.reading and host.node in self._readable]
        self._readable.difference_update(host.node for host in found)
        return found

    def pass_time(self, until_ns: int) -> None:
        if not self._readable & {host.node for host in self.hosts if host.reading}:
            if until_ns not in self._stops:
                self._stops.add(until_ns)
                self.network.at(until_ns, lambda: None)
            self.network.step()

    def make(self, local: LocalEndpoint, absent: Sequence[str]) -> LocalHost:
        node = local.node
        for rail in absent:
            self.network.take_address(node, rail)
        driver = SimulatedDriver(self.network, node, lambda: self._readable.add(node))
        return LocalHost(self, local, driver)

    def cut(self, number: int, rail: str) -> None:
        for other in range(1, 4):
            if other != number:
                self.network.cut(number, other, rail)
                self.network.cut(other, number, rail)

    def heal(self, number: int, rail: str) -> None:
        for other in range(1, 4):
            if other != number:
                self.network.heal(number, other, rail)
                self.network.heal(other, number, rail)

    def crash(self, host: LocalHost) -> None:
        assert isinstance(host.driver, SimulatedDriver)
        host.driver.crash()

    def reset(self) -> None:
        """A new network: what is still under way on the old one must not be seen again."""
        super().reset()
        self.network = Network(RAILS, seed=1)
        self._readable.clear()
        self._stops.clear()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Three hosts."""
    bench = SimulatorBench()
    yield bench
    bench.reset()


class TestSimulator(LocalCases):
    """Virtual hosts; a crash is a driver that ends without a word."""

    lag_s = 2.0
    give_up_ns = NetworkOptions().give_up_ns

    # Its frames share the memory of one process with the events that carry them; that a reader
    # closes its window is tested by the frames' sizes.
    test_a_reader_that_does_not_poll_costs_bounded_memory = None  # pyright: ignore[reportAssignmentType] - None leaves it out


def test_an_orderly_end_that_nobody_confirms_ends_all_the_same(bench: Bench) -> None:
    """Whoever waits for `LinkLost` before it closes must not wait for a dead peer for ever."""
    one, two = bench.start(1), bench.start(2)
    link, _ = join(one, two)
    two.kill()
    one.driver.disconnect(link, abort=False)
    assert lost(one, link).reason is LossReason.LOCAL


def test_a_frame_larger_than_the_send_buffer_finds_its_way() -> None:
    """It is taken when nothing else is under way; else nobody would ever say `Writable`."""
    bench = SimulatorBench(NetworkOptions(send_buffer_bytes=1000))
    one, two = bench.start(1), bench.start(2)
    link, at_two = join(one, two)
    one.stream(link, count=20, every_ns=0, size=2000)
    assert len(wait_frames(two, at_two, 20)) == 20
    assert one.driver.stats()["frames_refused"] == 19


def test_outages_that_heal_in_time_do_not_add_up(bench: Bench) -> None:
    """An association counts retransmissions in a row, so each answer starts the count anew."""
    one, two = bench.start(1), bench.start(2)
    link, at_two = join(one, two)
    settled(one, link)
    for number in range(4):
        for rail in RAILS:
            bench.cut(1, rail)
        assert one.driver.transmit(link, Stream.FIFO, b"%d" % number)
        pass_seconds(one, 0.9)
        for rail in RAILS:
            bench.heal(1, rail)
        wait_frames(two, at_two, number + 1)
    assert not one.log.of(LinkLost)
    assert not two.log.of(LinkLost)


def test_a_link_that_is_ended_while_it_is_dialled_never_comes_up(bench: Bench) -> None:
    """`LinkLost` is the last word of a link, also of one that was never up."""
    one, two = bench.start(1), bench.start(2)
    link = one.driver.connect(two.peer)
    one.driver.disconnect(link, abort=False)
    assert lost(one, link).reason is LossReason.LOCAL
    again, _ = join(one, two)
    assert [x for x in one.log.inputs if getattr(x, "link", again) != again] == [
        LinkLost(link=link, reason=LossReason.LOCAL)
    ]


def test_a_poll_is_bounded_and_the_driver_says_that_there_is_more() -> None:
    """One busy peer must not keep the core from its timers."""
    network = Network(RAILS, seed=1)
    calls: list[int] = []
    one = SimulatedDriver(network, 1, lambda: None)
    two = SimulatedDriver(network, 2, lambda: calls.append(2))
    one.open()
    two.open()
    bench = SimulatorBench()
    link = one.connect(LocalHost(bench, bench.endpoint(2), two).peer)
    while network.step():
        pass
    two.poll()
    for _ in range(POLL_MAX + 1):
        assert one.transmit(link, Stream.FIFO, b"x")
    while network.step():
        pass
    calls.clear()
    assert len(two.poll()) == POLL_MAX
    assert calls == [2], "it calls `ready` for the rest"
    assert [type(x) for x in two.poll()] == [Received]


def test_a_descriptor_is_refused_in_words(bench: Bench) -> None:
    """Virtual time has no descriptor: whoever waits for one would wait for ever."""
    one = bench.start(1)
    with pytest.raises(UsageError, match="ready"):
        one.driver.fileno()


def test_the_same_seed_gives_the_same_times() -> None:
    """A run that failed must be repeatable."""

    def times() -> list[int]:
        bench = SimulatorBench()
        one, two = bench.start(1), bench.start(2)
        link, at_two = join(one, two)
        one.stream(link, count=50, every_ns=1_000_000, size=20)
        bench.cut(1, "a")
        wait(two, lambda log: len(log.frames(at_two)) == 50)
        return two.log.times_ns

    assert times() == times()
