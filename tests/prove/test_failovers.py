"""One rail is lost and healed again and again: the twentieth failover is as quick as the first."""

from __future__ import annotations

import pytest

from ..netns.harness import MS, Fleet, S, now_ns

pytestmark = [pytest.mark.netns, pytest.mark.slow]

ROUNDS = 20
RATE = 1000
GAP_MS_MAX = 100


@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_failovers_do_not_slow_down_with_their_number(fleet: Fleet, direction: str) -> None:
    """Timeouts that an association has backed off, or paths it gave up, must not stay so."""
    worst: list[float] = []
    for number in range(ROUNDS):
        fleet.stream(RATE)
        fleet.flow(RATE // 4)
        fault_ns = now_ns()
        fleet.lab.drop("a", "alpha", direction)
        # Nodes that stay connected tell how much time has passed.
        fleet.flow(RATE // 2, ("bravo", "charlie"))
        span_ns = now_ns() - fault_ns
        assert span_ns < 10 * S, "it must not take so long"
        fleet.lab.heal("a", "alpha")
        fleet.await_paths()
        fleet.settle()
        gaps = fleet.gaps_ms(fleet.pairs(), fault_ns, fault_ns + min(span_ns, 450 * MS))
        worst.append(max(gaps.values()))
        print(f"{direction} {number}:", {pair: round(gap) for pair, gap in gaps.items()})
        fleet.turn_page()
    assert max(worst) <= GAP_MS_MAX, f"{direction}: {[round(gap) for gap in worst]}"
