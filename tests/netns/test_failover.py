"""A rail is lost under traffic: nobody notices but the paths."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Figure
from .harness import MS, Fleet, S, now_ns

pytestmark = pytest.mark.netns

RATE = 1000
SECONDS_AFTER = 2
"""A gap is looked for from the fault to two seconds after it."""


def lose_and_heal(
    fleet: Fleet, figure: Figure, name: str, limit_ms: float, fault: Callable[[], None]
) -> None:
    """Break rail a of alpha under full traffic and heal it; paths change and nothing else."""
    view = {host: fleet[host].view() for host in fleet.hosts}
    fleet.stream(RATE)
    fleet.flow(RATE * 6 // 10)
    fault_ns = now_ns()
    fault()
    fleet["bravo"].await_event("PathChanged", fault_ns, peer=1, rail="b", primary=True)
    fleet["alpha"].await_event("PathChanged", fault_ns, peer=2, rail="a", state="down")
    fleet.flow(max(1, (SECONDS_AFTER * S - (now_ns() - fault_ns)) * RATE // S))
    print(fleet.story())
    healed_ns = now_ns()
    fleet.lab.heal("a", "alpha")
    fleet.await_paths()
    back_ms = (now_ns() - healed_ns) / MS
    fleet.flow(RATE // 10)
    fleet.settle()
    baseline = fleet.gaps_ms(fleet.pairs(), fault_ns - S // 2, fault_ns)
    gaps = fleet.gaps_ms(fleet.pairs(), fault_ns, fault_ns + SECONDS_AFTER * S)
    # For a failure, what is shown of the output.
    print(name, "fault at", fault_ns / S, {pair: round(gap, 1) for pair, gap in gaps.items()})
    for host in fleet.hosts:
        assert fleet[host].view() == view[host], "the loss of a rail is no membership event"
    figure(f"{name}, baseline gap ms", max(baseline.values()), 1000)
    figure(f"{name}, primary back after ms", back_ms, 5000)
    untouched = max(gaps[pair] for pair in (("bravo", "charlie"), ("charlie", "bravo")))
    figure(f"{name}, longest gap of the others ms", untouched, limit_ms)
    figure(f"{name}, longest gap ms", max(gaps.values()), limit_ms)


def test_a_silent_drop_of_the_primary_rail_is_bridged_in_100_ms(
    trio: Fleet, figure: Figure
) -> None:
    """A broken switch tells nobody: SCTP's first timeout must move the traffic (RFC 7829)."""
    lose_and_heal(trio, figure, "silent drop", 100, lambda: trio.lab.drop("a", "alpha"))


def test_a_pulled_cable_is_bridged_in_60_ms(trio: Fleet, figure: Figure) -> None:
    """A host that sees its carrier vanish knows at once."""
    lose_and_heal(trio, figure, "link down", 60, lambda: trio.lab.cut("a", "alpha"))


def test_an_interface_taken_down_and_up_is_bridged_in_60_ms(trio: Fleet, figure: Figure) -> None:
    """The address and its routes vanish as well, and sockets must survive that."""
    lose_and_heal(
        trio, figure, "interface down", 60, lambda: trio.lab.cut("a", "alpha", how="interface")
    )


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_rail_that_works_one_way_only_is_left(
    trio: Fleet, figure: Figure, direction: str
) -> None:
    """Acknowledgements or data vanish on it; either way the other rail must carry both."""
    lose_and_heal(
        trio, figure, f"drop {direction}", 100, lambda: trio.lab.drop("a", "alpha", direction)
    )


def test_the_idle_rail_may_be_lost_without_any_gap(trio: Fleet, figure: Figure) -> None:
    """What is not used is not missed: only its path goes down, and comes back."""
    trio.stream(RATE)
    fault_ns = now_ns()
    trio.lab.drop("b", "alpha")
    trio["alpha"].await_event("PathChanged", fault_ns, peer=2, rail="b", state="down")
    trio["charlie"].await_event("PathChanged", fault_ns, peer=1, rail="b", state="down")
    trio.flow(RATE // 2)
    until_ns = now_ns()
    trio.lab.heal("b", "alpha")
    trio.await_paths()
    trio.settle()
    gaps = trio.gaps_ms(trio.pairs(), fault_ns, until_ns)
    figure("idle rail lost, longest gap ms", max(gaps.values()), 60)


def test_a_lossy_rail_loses_nothing(trio: Fleet) -> None:
    """At 5 % loss both ways every message still arrives once and in order, without a new view."""
    view = trio["alpha"].view()
    trio.lab.loss("a", "alpha", 5)
    trio.stream(RATE)
    trio.flow(2 * RATE)
    trio.lab.heal("a", "alpha")
    trio.settle()
    assert trio["alpha"].view() == view
