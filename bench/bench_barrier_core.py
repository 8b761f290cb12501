"""What one round of a barrier costs a node in its core; each figure of the design is a limit here.

    pytest bench/bench_barrier_core.py --benchmark-only

One core of several is driven by hand through rounds of a barrier of all members: its own arrival,
those of the others, and the release. Limits hold on an idle core and are checked against the
fastest round, which is the one that nothing else disturbed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest

from phalanx.barrier import BarrierCore
from phalanx.barrier.events import Released
from phalanx.barrier.outbox import CHANNEL
from phalanx.barrier.settings import Settings, Strength
from phalanx.transport.config import ClusterConfig
from phalanx.transport.events import Lane, Member, Position, View, ViewId, ViewInstalled
from phalanx.transport.layers import Ordered

ARRIVE_NS_MAX = 20_000
"""From the call to the entry that is handed to the transport."""
OTHERS_NS_MAX = 5_000
"""An arrival of somebody else, each."""
RELEASE_NS_MAX = 20_000
"""From the entry that decides it to the outcome that is handed to the waiting task."""
IDLE_NS_MAX = 2_000
"""A turn of the pump in which there is nothing to do."""
ROUNDS = 200
SIZES = (2, 4, 8)
VIEW_ID = ViewId(1, 1)
CONFIG = ClusterConfig(name="bench", rails=(), nodes=())
NUMBERED = {Lane.FIFO: 0, Lane.ORDERED: 0, Lane.BULK: 0}


class Benchmark(Protocol):
    """The part of pytest-benchmark's fixture that is used here; it comes without types."""

    extra_info: dict[str, Any]
    stats: Any

    def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any: ...


class Rounds:
    """Node 1 of several, which all arrive in each round, node 1 first or last."""

    def __init__(self, size: int, settings: Settings | None = None) -> None:
        self.core = BarrierCore(CONFIG, 1)
        self.settings = settings or Settings()
        self._size = size
        view = View(id=VIEW_ID, incarnations=tuple(Member(node + 1, 1) for node in range(size)))
        installed = ViewInstalled(view=view, joined=view.members, left={})
        self.core.installed(installed, now_ns=0)
        self._index = 0
        self._payload = b""

    def arrive(self) -> None:
        """From the call to the entry."""
        self.core.arrive("x", self.settings, deadline_ns=1 << 60, now_ns=5)
        (entry,) = self.core.take_entries(NUMBERED)
        self._payload = entry.payload

    def ordered(self, node: int) -> None:
        """An arrival at its place of the order."""
        self._index += 1
        payload = self._payload
        batch = Ordered(
            node, 1, CHANNEL, [payload], VIEW_ID, self._index, 0, 0, len(payload), False, 0
        )
        self.core.ordered([batch], now_ns=self._index)

    def others(self) -> None:
        """All arrivals but our own and the last."""
        for node in range(2, self._size):
            self.ordered(node)

    def released(self) -> None:
        """The outcome of this node's wait."""
        if self.settings.strength is Strength.SAFE:
            self.core.stable(Position(*VIEW_ID, self._index), now_ns=self._index)
        (outcome,) = self.core.take_outcomes()
        assert isinstance(outcome, Released)

    def whole(self) -> None:
        """One round, with all that a turn of the pump asks for besides."""
        self.arrive()
        self.ordered(1)
        self.others()
        if self._size > 1:
            self.ordered(self._size)
        self.released()
        self.idle()

    def idle(self) -> None:
        """What a turn of the pump asks where there is nothing to do."""
        self.core.wake(5)
        self.core.take_entries(NUMBERED)
        self.core.next_deadline()


def repeat(function: Callable[[], None]) -> Callable[[], None]:
    """It a number of times."""

    def run() -> None:
        for _ in range(ROUNDS):
            function()

    return run


def fastest_ns(benchmark: Benchmark, per: int) -> float | None:
    """Nanoseconds of the fastest run, for each of `per` items; None if nothing is measured."""
    if benchmark.stats is None:  # --benchmark-disable: every function ran once
        return None
    figure = float(benchmark.stats.stats.min) * 1e9 / per
    benchmark.extra_info["ns_each"] = round(figure, 1)
    return figure


def check_at_most(figure: float | None, limit: float) -> None:
    """What was promised."""
    assert figure is None or figure <= limit


@pytest.mark.parametrize("strength", [Strength.ARRIVED, Strength.AGREED, Strength.SAFE])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(group="a whole round")
def test_a_round(benchmark: Benchmark, size: int, strength: Strength) -> None:
    """All of it together: the call, everybody's arrivals, and the release."""
    rounds = Rounds(size, Settings(strength=strength))
    benchmark(repeat(rounds.whole))
    others = max(0, size - 2) * OTHERS_NS_MAX
    check_at_most(fastest_ns(benchmark, ROUNDS), ARRIVE_NS_MAX + others + RELEASE_NS_MAX)


@pytest.mark.benchmark(group="an arrival")
def test_arriving(benchmark: Benchmark) -> None:
    """From the call to the entry; its own entry is ordered, and taken back, to begin anew."""
    rounds = Rounds(2)

    def arrive_and_go_on() -> None:
        rounds.arrive()
        rounds.ordered(1)
        rounds.ordered(2)
        rounds.released()

    benchmark(repeat(arrive_and_go_on))
    check_at_most(fastest_ns(benchmark, ROUNDS), ARRIVE_NS_MAX + RELEASE_NS_MAX)


@pytest.mark.benchmark(group="arrivals of others")
def test_arrivals_of_others(benchmark: Benchmark) -> None:
    """What a member is asked for each other one: rounds of 64, with the little that is its own."""
    rounds = Rounds(64)
    benchmark(repeat(rounds.whole))
    check_at_most(fastest_ns(benchmark, ROUNDS * 64), OTHERS_NS_MAX)


@pytest.mark.benchmark(group="nothing to do")
def test_an_idle_turn(benchmark: Benchmark) -> None:
    """Most turns of the pump are about something else, while this node waits."""
    rounds = Rounds(2)
    rounds.arrive()
    benchmark(repeat(rounds.idle))
    check_at_most(fastest_ns(benchmark, ROUNDS), IDLE_NS_MAX)
