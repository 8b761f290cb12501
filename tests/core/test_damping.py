"""A link that comes and goes: views do not go with it, and who is needed is never held back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from phalanx.transport.config import MS, PROFILES, S
from phalanx.transport.core.damping import UNREACHABLE, Damping
from phalanx.transport.events import Member, ViewId, ViewInstalled
from phalanx.transport.testing.simulation import Simulation

from .scenes import converge, finish, started, stations
from .test_records import come_back

TIMING = PROFILES["lan"]
FLAPPING_NS = 20 * S
VIEWS_MAX = 10
"""In 20 s; without damping it is 29 to 51."""
BACK_NS = TIMING.flap_hold_max_ns + 500 * MS
"""What a healed node may take: the longest hold, an association, and a view change."""
JOINER = Member(3, 7)


def flap(simulation: Simulation, cut: Callable[[], None], cut_ns: int, healed_ns: int) -> int:
    """Cut and heal for a while; returns how many views were installed in it."""
    simulation.after_turn.append(come_back)
    end_ns = simulation.network.now_ns + FLAPPING_NS
    while simulation.network.now_ns < end_ns:
        cut()
        simulation.run_for(cut_ns)
        simulation.heal_all()
        simulation.run_for(healed_ns)
    return len(views(simulation))


def views(simulation: Simulation) -> set[ViewId]:
    """All views that anybody has installed."""
    return {
        item.view.id
        for life in simulation.lives
        for _, item in life.history
        if isinstance(item, ViewInstalled)
    }


@pytest.mark.parametrize(
    ("node", "cut_ms", "healed_ms"),
    [(3, 300, 300), (3, 500, 300), (1, 500, 300), (3, 600, 600), (3, 1000, 500)],
)
def test_a_node_that_flaps_changes_few_views_and_is_back_within_the_bound(
    node: int, cut_ms: int, healed_ms: int
) -> None:
    """Also the one with the lowest id, which would propose if it were in."""
    simulation = started()
    count = flap(simulation, lambda: simulation.isolate(node), cut_ms * MS, healed_ms * MS)
    assert count <= VIEWS_MAX
    assert converge(simulation, 1, 2, 3) <= BACK_NS
    finish(simulation)


@pytest.mark.parametrize(("cut_ms", "healed_ms"), [(300, 300), (1000, 500)])
def test_two_that_flap_towards_each_other_change_few_views(cut_ms: int, healed_ms: int) -> None:
    """The third sees both all the time, and one of the two is out again and again."""
    simulation = started()
    count = flap(simulation, lambda: simulation.cut_pair(2, 3), cut_ms * MS, healed_ms * MS)
    assert count <= VIEWS_MAX
    assert converge(simulation, 1, 2, 3) <= BACK_NS
    finish(simulation)


def flapping(simulation: Simulation, node: int) -> None:
    """Let a node be left out and come back until it is held back, and heal it."""
    simulation.after_turn.append(come_back)
    for _ in range(6):
        simulation.isolate(node)
        simulation.run_for(600 * MS)
        simulation.heal_all()
        simulation.run_for(400 * MS)
    simulation.isolate(node)
    simulation.run_for(600 * MS)
    simulation.heal_all()
    simulation.run_for(200 * MS)


def test_who_is_held_back_and_for_how_long_is_said_at_both_ends() -> None:
    """An operator who waits for a node has to learn that it is not forgotten."""
    simulation = started()
    flapping(simulation, 3)
    words = "held back until it was reachable for 1.6 s without a break"
    mine = simulation.nodes[3].endpoint.gather.explain()
    assert mine == f"{words}: it was left out as unreachable again and again"
    assert simulation.nodes[1].endpoint.gather.explain().endswith(f"{words}: n3 (3)")
    assert converge(simulation, 1, 2, 3) <= BACK_NS
    finish(simulation)


def test_another_that_joins_does_not_wait_for_one_that_is_held_back() -> None:
    """Only the one whose links come and go is held back."""
    simulation = started(5)
    simulation.nodes[2].kill()
    flapping(simulation, 5)
    simulation.nodes[2].start()
    assert converge(simulation, 1, 2, 3, 4) <= 1000 * MS
    converge(simulation, 1, 2, 3, 4, 5)
    finish(simulation)


def test_a_death_does_not_wait_for_one_that_is_held_back() -> None:
    """And the dead one is out before the other is in."""
    simulation = started(5)
    flapping(simulation, 5)
    simulation.nodes[4].kill()
    assert converge(simulation, 1, 2, 3) <= 300 * MS
    converge(simulation, 1, 2, 3, 5)
    finish(simulation)


def test_who_is_needed_for_a_majority_is_not_held_back() -> None:
    """Two of three are left, and the third has flapped: better a bad link than none."""
    simulation = started()
    flapping(simulation, 3)
    assert stations(simulation.nodes[1])[-1] == "1 2"
    simulation.nodes[2].kill()
    assert converge(simulation, 1, 3) <= 300 * MS
    finish(simulation)


def test_a_process_that_restarts_again_and_again_is_not_held_back() -> None:
    """Its deaths are proven: that is no link that flaps."""
    simulation = started()
    for _ in range(8):
        simulation.nodes[3].kill()
        converge(simulation, 1, 2)
        simulation.nodes[3].start()
        assert converge(simulation, 1, 2, 3) <= 1000 * MS
    finish(simulation)


def held_after(times: int, *, later_ns: int = 0) -> int:
    """How long a node is held back that was left out so often."""
    damping = Damping(TIMING)
    for _ in range(times):
        damping.left_out({JOINER.node: UNREACHABLE}, 0)
    damping.watch({JOINER}, set(), later_ns)
    return damping.lasts_ns(JOINER)


def test_the_time_doubles_up_to_its_maximum_and_the_first_is_free() -> None:
    """One cut cable is no flapping link."""
    assert [held_after(times) // MS for times in range(8)] == [
        0, 0, 200, 400, 800, 1600, 1600, 1600,
    ]  # fmt: skip


def test_what_was_long_ago_is_forgotten() -> None:
    """Half of it in each half-life."""
    assert held_after(4, later_ns=TIMING.flap_half_life_ns) == 200 * MS
    assert held_after(4, later_ns=2 * TIMING.flap_half_life_ns) == 0


def test_who_is_lost_again_before_it_joins_begins_anew_and_waits_longer() -> None:
    """It must have been reachable without a break; a death is none."""
    damping = Damping(TIMING)
    for _ in range(2):
        damping.left_out({JOINER.node: UNREACHABLE}, 0)
    damping.watch({JOINER}, set(), 0)
    assert damping.held_back(199 * MS) == {JOINER: 200 * MS}
    assert damping.held_back(200 * MS) == {}
    damping.watch(set(), {JOINER}, 0)
    damping.watch({JOINER}, set(), 0)
    assert damping.held_back(0) == {JOINER: 200 * MS}
    damping.watch(set(), set(), 0)
    damping.watch({JOINER}, set(), 0)
    assert damping.held_back(0) == {JOINER: 400 * MS}


def test_a_last_departure_with_another_reason_is_not_held_against_a_node() -> None:
    """It flapped, came back, and was restarted."""
    damping = Damping(TIMING)
    for _ in range(3):
        damping.left_out({JOINER.node: UNREACHABLE}, 0)
    damping.left_out({JOINER.node: "restarted"}, 0)
    damping.watch({JOINER}, set(), 0)
    assert damping.held_back(0) == {}
