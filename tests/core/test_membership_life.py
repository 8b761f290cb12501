"""Starting, joining, leaving: who is waited for, and who is told what."""

from __future__ import annotations

import pytest

from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Left
from phalanx.transport.events import Lane, PrimaryRegained, ViewInstalled
from phalanx.transport.testing.simulation import Simulation, simulated_config

from .scenes import Talk, converge, finish, payloads, started, stations


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_a_cluster_starts_when_all_are_there(size: int) -> None:
    """Within milliseconds: two round trips and two fsyncs."""
    simulation = Simulation(simulated_config(size))
    simulation.start_all()
    assert converge(simulation, *simulation.nodes) < 100 * MS
    finish(simulation)


def test_the_first_start_waits_for_the_last_node_and_names_it() -> None:
    """The first of three terminals must not look hung, and two must not found a cluster alone."""
    simulation = Simulation(simulated_config(3))
    simulation.nodes[1].start()
    simulation.nodes[3].start()
    simulation.run_for(3000 * MS)
    assert simulation.nodes[1].view is None
    assert "n2 (2)" in simulation.nodes[1].endpoint.gather.explain()
    assert "n1" not in simulation.nodes[3].endpoint.gather.explain()
    simulation.nodes[2].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_a_restarted_cluster_goes_on_with_a_majority_that_continues() -> None:
    """Once started, a majority with one member that has not stopped is enough."""
    simulation = started()
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    simulation.nodes[2].kill()
    simulation.run_for(1000 * MS)
    survivor = simulation.nodes[1]
    assert stations(survivor)[-1] == "PrimaryLost"
    assert survivor.endpoint.detached
    simulation.nodes[2].start()
    lost_in = survivor.view
    simulation.run_until(lambda: survivor.view != lost_in, 5000 * MS)
    assert not survivor.endpoint.detached, "sends queue for the grants of the new view"
    converge(simulation, 1, 2)
    talk = Talk(simulation)
    talk.say(survivor)
    finish(simulation)
    [regained], [*_, last] = survivor.told(PrimaryRegained), survivor.views()
    assert regained.view_id == last.id


def test_messages_sent_before_a_member_joined_are_not_delivered_to_it() -> None:
    """A message belongs to the view in which it was numbered."""
    simulation = started()
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    talk = Talk(simulation)
    early = talk.say(simulation.nodes[1])
    simulation.run_for(20 * MS)
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    late = talk.say(simulation.nodes[1])
    simulation.run_for(20 * MS)
    assert payloads(simulation.nodes[3]) == [late]
    assert early in payloads(simulation.nodes[2])
    finish(simulation)


@pytest.mark.parametrize("leaver", [1, 2, 3])
def test_a_leaver_delivers_what_it_has_sent_and_goes_at_once(leaver: int) -> None:
    """Leaving is no crash: nothing is lost, nobody waits, and the reason says so."""
    simulation = started()
    talk = Talk(simulation)
    node = simulation.nodes[leaver]
    sent = [talk.say(node, lane) for lane in (Lane.FIFO, Lane.ORDERED, Lane.BULK)]
    now_ns = node.clock()
    node.endpoint.leave(now_ns + 1000 * MS, now_ns)
    node.wake_soon()
    rest = [other for other in (1, 2, 3) if other != leaver]
    assert converge(simulation, *rest) < 300 * MS
    assert [item.acknowledged for item in node.told(Left)] == [True]
    for other in rest:
        assert set(sent) <= set(payloads(simulation.nodes[other]))
        event = simulation.nodes[other].told(ViewInstalled)[-1]
        assert event.left == {leaver: "left in good order"}
    talk.say(simulation.nodes[rest[0]])
    simulation.run_for(2000 * MS)
    assert all(stations(simulation.nodes[other])[-1] == f"{rest[0]} {rest[1]}" for other in rest)
    simulation.nodes[leaver].kill()
    simulation.nodes[leaver].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_all_can_leave_one_after_the_other_and_start_again() -> None:
    """An orderly shutdown of everything ends, and the records of all bring it back."""
    simulation = started()
    for number in (1, 2, 3):
        node = simulation.nodes[number]
        node.endpoint.leave(node.clock() + 500 * MS, node.clock())
        node.wake_soon()
        simulation.run_for(1500 * MS)
        assert node.told(Left)
        node.kill()
    simulation.start_all()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_a_single_node_works_alone() -> None:
    """Development begins with one node."""
    simulation = started(1)
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    node = simulation.nodes[1]
    assert len(payloads(node)) == len(node.life.sent)
    node.kill()
    node.start()
    converge(simulation, 1)
    talk.everybody(20 * MS)
    finish(simulation)


def test_of_two_nodes_without_tie_breaker_neither_goes_on_alone() -> None:
    """Half is no majority; both wait, and go on in the same view."""
    simulation = started(2)
    talk = Talk(simulation)
    simulation.isolate(2)
    simulation.run_for(1000 * MS)
    assert all(stations(node) == ["1 2", "PrimaryLost"] for node in simulation.nodes.values())
    simulation.heal_all()
    converge(simulation, 1, 2)
    talk.everybody(20 * MS)
    finish(simulation)
    assert simulation.nodes[1].view == simulation.nodes[2].view


@pytest.mark.parametrize("victim", [1, 2])
@pytest.mark.parametrize("way", ["kill", "isolate"])
def test_of_two_nodes_the_tie_breaker_goes_on_alone_and_the_other_waits(
    victim: int, way: str
) -> None:
    """Two-node mode: one of them, always the same, survives a cut."""
    simulation = started(2, tie_breaker=1)
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    if way == "kill":
        simulation.nodes[victim].kill()
    else:
        simulation.isolate(victim)
    simulation.run_for(1500 * MS)
    survivor = 3 - victim
    if victim == 2:
        assert stations(simulation.nodes[1])[-1] == "1"
        talk.say(simulation.nodes[1])
    else:
        last = stations(simulation.nodes[2])[-1]
        assert last == "PrimaryLost"
    if way == "kill":
        simulation.nodes[victim].start()
    else:
        simulation.heal_all()
        simulation.run_for(1000 * MS)
        for node in simulation.nodes.values():
            if stations(node)[-1] == "Evicted":
                node.begin_anew()
    converge(simulation, 1, 2)
    assert simulation.nodes[survivor].running
    talk.everybody(20 * MS)
    finish(simulation)
