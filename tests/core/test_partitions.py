"""Rails, associations and whole nodes are cut, frozen and healed."""

from __future__ import annotations

import pytest

from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Ordered
from phalanx.transport.events import Lane, PathChanged, PrimaryLost, RailState
from phalanx.transport.testing import checkers
from phalanx.transport.testing.path_checkers import path_transparency

from .scenes import Talk, converge, finish, payloads, started, stations


@pytest.mark.parametrize("rail", ["a", "b"])
@pytest.mark.parametrize("node", [1, 3])
def test_losing_one_of_two_rails_changes_no_view_and_loses_nothing(node: int, rail: str) -> None:
    """Multi-homing: one dead cable is not a membership event."""
    simulation = started()
    talk = Talk(simulation)
    since_ns = simulation.network.now_ns + 1
    talk.everybody(50 * MS)
    simulation.cut_rail(node, rail)
    talk.everybody(600 * MS)
    states = [
        e.state for e in simulation.nodes[2].told(PathChanged) if (e.peer, e.rail) == (node, rail)
    ]
    assert states == [RailState.SUSPECT, RailState.DOWN]
    simulation.heal_rail(node, rail)
    talk.everybody(600 * MS)
    finish(simulation)
    complaints = list(path_transparency(simulation.lives, since_ns=since_ns))
    assert complaints == []
    sent = {m.payload for life in simulation.lives for m in life.sent if not m.addressee}
    assert all(sent <= set(payloads(each)) for each in simulation.nodes.values())


def test_a_node_cut_off_from_all_stops_before_the_others_go_on() -> None:
    """At most one view is acted in at any time."""
    simulation = started()
    talk = Talk(simulation)
    talk.everybody(50 * MS)
    simulation.isolate(1)
    cut_ns = simulation.network.now_ns
    converge(simulation, 2, 3)
    ended = simulation.nodes[1].life.acts[-1].until_ns
    began = simulation.nodes[2].life.acts[-1].from_ns
    assert ended <= began
    assert began - cut_ns < 700 * MS
    simulation.run_for(1000 * MS)
    assert stations(simulation.nodes[1]) == ["1 2 3", "PrimaryLost"]
    [lost] = simulation.nodes[1].told(PrimaryLost)
    assert lost.reachable == (1,)
    simulation.heal_all()
    simulation.run_for(1000 * MS)
    assert stations(simulation.nodes[1])[-1] == "Evicted"
    simulation.nodes[1].begin_anew()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_a_minority_of_two_never_acts_alone() -> None:
    """Two of five see each other, and still are no majority."""
    simulation = started(5)
    simulation.isolate(1, 2)
    converge(simulation, 3, 4, 5)
    simulation.run_for(1000 * MS)
    for node in (1, 2):
        assert stations(simulation.nodes[node]) == ["1 2 3 4 5", "PrimaryLost"]
        assert not simulation.nodes[node].endpoint.acting(simulation.nodes[node].clock())
    finish(simulation)


def test_without_a_majority_anywhere_all_wait_and_go_on_when_healed() -> None:
    """Nobody is evicted by a cluster that could decide nothing."""
    simulation = started(4)
    simulation.isolate(1, 2)
    simulation.run_for(2000 * MS)
    assert {stations(node)[-1] for node in simulation.nodes.values()} == {"PrimaryLost"}
    simulation.heal_all()
    converge(simulation, 1, 2, 3, 4)
    assert all(node.life.member.incarnation == 1 for node in simulation.nodes.values())
    finish(simulation)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 1), (2, 3), (3, 1)])
def test_a_one_way_cut_leaves_one_of_the_two_out(one: int, other: int) -> None:
    """Two that cannot hear each other must not stay in one view, nor stop the third."""
    simulation = started()
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    for rail in simulation.network.rails:
        simulation.network.cut(one, other, rail)
    stays = min(one, other)
    third = 6 - one - other
    converge(simulation, stays, third)
    talk.everybody(100 * MS)
    simulation.heal_all()
    simulation.run_for(1000 * MS)
    assert stations(simulation.nodes[max(one, other)])[-1] == "Evicted"
    simulation.nodes[max(one, other)].begin_anew()
    converge(simulation, 1, 2, 3)
    finish(simulation)


@pytest.mark.parametrize("tell", [True, False])
@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 1), (3, 1)])
def test_a_lost_association_loses_no_message_and_changes_no_view(
    one: int, other: int, tell: bool
) -> None:
    """The path is there: connect again, and go on where the other is."""
    simulation = started()
    talk = Talk(simulation)
    since_ns = simulation.network.now_ns + 1
    for _ in range(5):
        talk.everybody(40 * MS)
        simulation.network.reset(one, other, tell=tell)
    talk.everybody(40 * MS)
    finish(simulation)
    assert list(path_transparency(simulation.lives, since_ns=since_ns)) == []


def test_the_ordered_lane_goes_on_after_one_association_was_away_for_long() -> None:
    """The others close many epochs meanwhile; none of their ENDs may be lost."""
    simulation = started()
    talk = Talk(simulation)
    simulation.cut_pair(2, 3)
    simulation.network.reset(2, 3)
    for _ in range(100):
        for node in simulation.nodes.values():
            talk.say(node, Lane.ORDERED)
        simulation.run_for(1 * MS)
    simulation.heal_all()
    simulation.run_for(1000 * MS)
    for node in simulation.nodes.values():
        assert sum(len(item.payloads) for item in node.told(Ordered)) == 300
    finish(simulation)


@pytest.mark.parametrize(("stopped_ms", "evicted"), [(100, False), (300, False), (1000, True)])
@pytest.mark.parametrize("node", [1, 3])
def test_a_stopped_process_is_missed_only_after_its_lease(
    node: int, stopped_ms: int, evicted: bool
) -> None:
    """A pause shorter than the lease is nobody's business; after a longer one it must know."""
    simulation = started()
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    simulation.nodes[node].freeze()
    talk.everybody(stopped_ms * MS)
    simulation.nodes[node].thaw()
    simulation.run_for(500 * MS)
    assert (stations(simulation.nodes[node])[-1] == "Evicted") is evicted
    if evicted:
        simulation.nodes[node].begin_anew()
    converge(simulation, 1, 2, 3)
    talk.everybody(20 * MS)
    finish(simulation)


def test_a_process_stopped_for_five_seconds_does_nothing_with_its_old_lease() -> None:
    """It wakes up with a queue full of the past, and must believe none of it."""
    simulation = started()
    talk = Talk(simulation)
    node = simulation.nodes[2]
    node.freeze()
    talk.say(node)
    talk.everybody(5000 * MS, step_ns=50 * MS)
    node.thaw()
    simulation.run_for(300 * MS)
    assert stations(node)[-1] == "Evicted"
    finish(simulation)


def test_everybody_stopped_at_once_goes_on_as_if_nothing_had_been() -> None:
    """A suspended host: time in which nobody ran is held against nobody."""
    simulation = started()
    for node in simulation.nodes.values():
        node.freeze()
    simulation.run_for(3000 * MS)
    for node in simulation.nodes.values():
        node.thaw()
    converge(simulation, 1, 2, 3)
    assert all(node.life.member.incarnation == 1 for node in simulation.nodes.values())
    finish(simulation)


def test_lost_packets_are_no_lost_nodes() -> None:
    """One packet in three on every path: slower, but no view changes."""
    simulation = started()
    talk = Talk(simulation)
    since_ns = simulation.network.now_ns + 1
    for one in simulation.nodes:
        for other in simulation.nodes:
            for rail in simulation.network.rails:
                simulation.network.lose(one, other, rail, 0.2)
    talk.everybody(1000 * MS, step_ns=10 * MS)
    simulation.heal_all()
    finish(simulation)
    assert list(path_transparency(simulation.lives, since_ns=since_ns)) == []


def test_clocks_that_run_apart_by_the_bound_keep_one_primary() -> None:
    """The holder's clock is the slow one, the grantors' are fast: the drift bound pays for it."""
    simulation = started()
    simulation = type(simulation)(simulation.config, seed=5)
    for node in simulation.nodes.values():
        node.clock_offset_ns = 10**12
        node.clock_rate = 1.0 if node.id == 1 else 1.049
    simulation.start_all()
    converge(simulation, 1, 2, 3)
    for _ in range(3):
        simulation.isolate(1)
        converge(simulation, 2, 3)
        simulation.run_for(300 * MS)
        simulation.heal_all()
        simulation.run_until(lambda: stations(simulation.nodes[1])[-1] == "Evicted", 2000 * MS)
        simulation.nodes[1].begin_anew()
        converge(simulation, 1, 2, 3)
    checkers.check(simulation.lives)
