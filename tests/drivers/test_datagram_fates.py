"""What befalls datagrams in memory and in virtual time: drawn from a seed, and from it alone."""

from __future__ import annotations

from typing import TypeAlias

import pytest

from phalanx.transport.config import MS
from phalanx.transport.drivers.base import DATAGRAMS_POLL_BYTES
from phalanx.transport.drivers.in_process_datagrams import SOCKET_BUFFER_BYTES, DatagramTrouble
from phalanx.transport.drivers.simulator import Network, NetworkOptions
from phalanx.transport.errors import UsageError

from .bench import RAILS
from .datagram_bench import Bench, MemoryDatagramBench, SimulatedDatagramBench, plain

COUNT = 2000
LARGE = 16 << 10
Kind: TypeAlias = type[SimulatedDatagramBench] | type[MemoryDatagramBench]
BENCHES: tuple[Kind, ...] = (SimulatedDatagramBench, MemoryDatagramBench)


def bench_of(kind: Kind, trouble: DatagramTrouble, seed: int) -> Bench:
    """A bench of that kind."""
    if kind is MemoryDatagramBench:
        return MemoryDatagramBench(trouble, seed=seed)
    return SimulatedDatagramBench(NetworkOptions(datagrams=trouble, jitter_ns=0), seed=seed)


def numbers(kind: Kind, trouble: DatagramTrouble, *, seed: int = 1, count: int = 500) -> list[int]:
    """What arrives of numbered datagrams, in the order of arrival."""
    bench = bench_of(kind, trouble, seed)
    one, two = bench.start(1), bench.start(2)
    try:
        for number in range(count):
            one.cast([2], "a", b"%d" % number)
        return [int(frame) for *_, frame in bench.collect(two, 0)]
    finally:
        bench.reset()


@pytest.mark.parametrize("kind", BENCHES)
def test_a_share_is_lost(kind: Kind) -> None:
    """All, none, and about a fifth."""
    assert numbers(kind, DatagramTrouble(lost=1.0)) == []
    assert numbers(kind, DatagramTrouble()) == list(range(500))
    got = numbers(kind, DatagramTrouble(lost=0.2))
    assert got == sorted(set(got))
    assert 350 < len(got) < 450


@pytest.mark.parametrize("kind", BENCHES)
def test_a_share_comes_twice(kind: Kind) -> None:
    """With both copies whole."""
    assert sorted(numbers(kind, DatagramTrouble(doubled=1.0))) == sorted([*range(500)] * 2)
    got = numbers(kind, DatagramTrouble(doubled=0.2))
    assert set(got) == set(range(500))
    assert 550 < len(got) < 650


@pytest.mark.parametrize("kind", BENCHES)
def test_a_share_comes_late_and_behind_others(kind: Kind) -> None:
    """Nothing is lost by it."""
    got = numbers(kind, DatagramTrouble(late=0.2))
    assert got != sorted(got)
    assert sorted(got) == list(range(500))
    on_time = [number for place, number in enumerate(got) if number >= max(got[: place + 1])]
    assert len(on_time) > 300, "most are where they belong"


@pytest.mark.parametrize("kind", BENCHES)
def test_a_seed_draws_the_same_fates_each_time(kind: Kind) -> None:
    """And another seed draws others."""
    trouble = DatagramTrouble(lost=0.3, doubled=0.3)
    assert sorted(numbers(kind, trouble)) == sorted(numbers(kind, trouble))
    assert sorted(numbers(kind, trouble)) != sorted(numbers(kind, trouble, seed=2))


def test_in_virtual_time_their_order_comes_from_the_seed_too() -> None:
    """With jitter, lateness, and all else."""
    trouble = DatagramTrouble(lost=0.1, doubled=0.3, late=0.3)
    one = numbers(SimulatedDatagramBench, trouble)
    assert one == numbers(SimulatedDatagramBench, trouble)
    assert one != numbers(SimulatedDatagramBench, trouble, seed=2)


def test_datagrams_draw_nothing_that_others_draw() -> None:
    """What happens to associations in a run is the same with datagrams and without."""
    quiet = Network(RAILS, seed=7).random.random()
    bench = SimulatedDatagramBench(
        NetworkOptions(datagrams=DatagramTrouble(lost=0.5, doubled=0.5, late=0.5)), seed=7
    )
    one, two = bench.start(1), bench.start(2)
    bench.network.slow(1, 2, "a", MS)
    bench.network.lose(1, 2, "a", 0.5)
    bench.network.repeat(1, 2, "a", 0.5)
    for _ in range(50):
        one.cast([2], "a", b"x")
    assert bench.collect(two, 0)
    assert bench.network.random.random() == quiet


def test_they_take_the_time_of_the_link() -> None:
    """One way, and late ones up to so much more."""
    options = NetworkOptions(delay_ns=5 * MS, jitter_ns=0)
    bench = SimulatedDatagramBench(options)
    one, two = bench.start(1), bench.start(2)
    one.cast([2], "a", b"x")
    bench.network.step()
    assert bench.network.now_ns == 5 * MS
    assert bench.woken == [2]
    assert plain(two.poll()) == [(1, "a", b"x")]


def test_a_cut_of_one_direction_loses_those_of_that_direction() -> None:
    """On that rail; they are packets like all others."""
    bench = SimulatedDatagramBench()
    one, two = bench.start(1), bench.start(2)
    bench.network.cut(1, 2, "a")
    for rail in RAILS:
        one.cast([2], rail, b"there")
        two.cast([1], rail, b"back")
    assert bench.collect(two, 0) == [(1, "b", b"there")]
    assert sorted(plain(one.poll())) == [(2, "a", b"back"), (2, "b", b"back")]


def test_a_direction_that_loses_delays_and_repeats_packets_does_so_with_datagrams() -> None:
    """And with no others; `calm` ends it."""
    bench = SimulatedDatagramBench(NetworkOptions(jitter_ns=0))
    one, two = bench.start(1), bench.start(2)

    def arrived(rail: str) -> list[int]:
        for number in range(COUNT):
            one.cast([2], rail, b"%d" % number)
            if number % 500 == 499:
                got.extend(int(frame) for *_, frame in bench.collect(two, 0))
        taken = list(got)
        got.clear()
        return taken

    got: list[int] = []
    bench.network.lose(1, 2, "a", 0.3)
    assert 0.6 * COUNT < len(arrived("a")) < 0.8 * COUNT
    bench.network.calm()
    bench.network.repeat(1, 2, "a", 0.5)
    assert 1.4 * COUNT < len(arrived("a")) < 1.6 * COUNT
    bench.network.calm()
    bench.network.slow(1, 2, "a", MS)
    late = arrived("a")
    assert late != sorted(late)
    assert sorted(late) == list(range(COUNT))
    assert arrived("b") == list(range(COUNT))
    bench.network.calm()
    assert arrived("a") == list(range(COUNT))


def test_a_firewall_stops_datagrams_of_one_direction_on_every_rail() -> None:
    """Other packets pass: the path is up, and nobody says that datagrams do not arrive."""
    bench = SimulatedDatagramBench()
    one, two = bench.start(1), bench.start(2)
    for _ in range(2):
        bench.network.block_datagrams(1, 2)
        for rail in RAILS:
            one.cast([2], rail, b"x")
            two.cast([1], rail, b"y")
        assert bench.collect(two, 0) == []
        assert len(one.poll()) == 2
        assert bench.network.both_ways(1, 2, "a")
        bench.network.pass_datagrams(1, 2)
        one.cast([2], "a", b"x")
        assert bench.collect(two, 0) == [(1, "a", b"x")]
    bench.network.block_datagrams(1, 2)
    bench.network.calm()
    one.cast([2], "a", b"x")
    assert bench.collect(two, 0) == [(1, "a", b"x")]


def test_what_is_on_its_way_comes_to_the_process_that_has_the_port_then() -> None:
    """A process that is restarted quickly gets what was sent to the one before it."""
    bench = SimulatedDatagramBench()
    one, two = bench.start(1), bench.start(2)
    one.cast([2], "a", b"x")
    two.close()
    again = bench.start(2)
    assert bench.collect(again, 0) == [(1, "a", b"x")]
    one.cast([2], "a", b"x")
    again.close()
    while bench.network.step():
        pass
    assert bench.start(2).poll() == [], "nobody had it when it came"


def test_unread_datagrams_are_bounded_and_what_is_lost_is_counted() -> None:
    """A stopped process has a socket buffer, and no more."""
    bench = SimulatedDatagramBench(NetworkOptions(jitter_ns=0))
    one, two = bench.start(1), bench.start(2)
    for _ in range(COUNT):
        one.cast([2], "a", b"x" * LARGE)
    while bench.network.step():
        pass
    got = 0
    while taken := two.poll():
        assert len(taken) <= DATAGRAMS_POLL_BYTES // LARGE + 1
        got += len(taken)
    assert got * LARGE <= SOCKET_BUFFER_BYTES
    assert two.stats()["overruns"] == COUNT - got > 0


def test_a_killed_node_in_memory_neither_sends_nor_receives() -> None:
    """The driver object goes on, cut off for ever; so do its datagrams."""
    bench = MemoryDatagramBench()
    one, two = bench.start(1), bench.start(2)
    bench.network.kill(2)
    one.cast([2], "a", b"x")
    two.cast([1], "a", b"y")
    assert bench.collect(one, 0) == bench.collect(two, 0) == []
    again = bench.start(2)
    two.close()
    one.cast([2], "a", b"z")
    assert bench.collect(again, 1) == [(1, "a", b"z")]
    bench.reset()


def test_simulated_datagrams_have_no_descriptor() -> None:
    """Nobody can wait for virtual time."""
    with pytest.raises(UsageError, match="ready"):
        SimulatedDatagramBench().start(1).fileno()
