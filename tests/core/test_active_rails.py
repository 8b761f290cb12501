"""Everything over two rails at once: a rail that is lost costs no time, and nothing comes twice."""

from __future__ import annotations

import itertools

import pytest

from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Delivered, Ordered
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.events import Lane
from phalanx.transport.testing.simulation import SimulatedNode, Simulation

from .scenes import Talk, casting, finish

STEP_NS = MS
"""Each member sends on every lane so often."""


def cut(simulation: Simulation, rail: str) -> None:
    """Nothing goes over a rail any more, and nobody is told so."""
    for one, other in itertools.permutations(simulation.nodes, 2):
        simulation.network.cut(one, other, rail)


def heal(simulation: Simulation, rail: str) -> None:
    """It does again."""
    for one, other in itertools.permutations(simulation.nodes, 2):
        simulation.network.heal(one, other, rail)


def longest_gap_ns(node: SimulatedNode, lane: Lane, since_ns: int, *, directed: bool) -> int:
    """Between two deliveries of the lane from others."""
    times = [since_ns]
    for at_ns, item in node.history:
        if isinstance(item, Delivered):
            wanted = (item.lane, item.directed) == (lane, directed) and item.sender != node.id
        else:
            wanted = isinstance(item, Ordered) and lane is Lane.ORDERED
        if wanted and at_ns >= since_ns:
            times.append(at_ns)
    times.append(node.simulation.network.now_ns)
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def say_all(talk: Talk, duration_ns: int) -> None:
    """Every member sends on every lane and to each of the others."""
    simulation = talk.simulation
    for _ in range(duration_ns // STEP_NS):
        talk.everybody(1, step_ns=1)
        for one, other in itertools.permutations(simulation.nodes, 2):
            talk.say(simulation.nodes[one], addressee=other)
        simulation.run_for(STEP_NS)


def gaps_ns(simulation: Simulation) -> dict[tuple[str, bool], int]:
    """The longest at any node while the rail that carries the data is lost, by lane."""
    talk = Talk(simulation)
    say_all(talk, 100 * MS)
    since_ns = simulation.network.now_ns
    cut(simulation, "a")
    say_all(talk, 300 * MS)
    lanes = [(lane, False) for lane in (Lane.FIFO, Lane.ORDERED, Lane.BULK)]
    return {
        (lane.name, directed): max(
            longest_gap_ns(node, lane, since_ns, directed=directed)
            for node in simulation.nodes.values()
        )
        for lane, directed in [*lanes, (Lane.FIFO, True)]
    }


@pytest.mark.parametrize("multicast", [False, True])
def test_a_rail_that_is_lost_costs_no_gap(multicast: bool) -> None:
    """On no lane, and not of what goes to one member; passive rails take their time."""
    gaps = gaps_ns(simulation := casting(3, multicast=multicast, active=True))
    assert max(gaps.values()) <= 3 * MS, gaps
    heal(simulation, "a")
    finish(simulation)
    passive = gaps_ns(simulation := casting(3, multicast=multicast))
    assert min(passive.values()) > 10 * MS, passive
    finish(simulation)


def test_what_comes_second_is_dropped() -> None:
    """Each message is delivered once, whichever rail is faster, and nobody asks for anything."""
    simulation = casting(3, DatagramTrouble(late=0.3, late_ns=2 * MS), active=True)
    Talk(simulation).everybody(200 * MS)
    finish(simulation)
    for node in simulation.nodes.values():
        counters = node.endpoint.outputs.counters
        assert counters["duplicates"] > 100
        assert not counters["recasts"]


@pytest.mark.parametrize("lost", [0.1, 0.5])
def test_copies_may_be_lost_and_come_in_any_order(lost: float) -> None:
    """A copy is a hint: what it overtakes comes over the association."""
    simulation = casting(3, DatagramTrouble(lost=lost, doubled=0.2, late=0.3), active=True)
    talk = Talk(simulation)
    talk.everybody(200 * MS)
    cut(simulation, "b")
    talk.everybody(200 * MS)
    heal(simulation, "b")
    talk.everybody(50 * MS)
    finish(simulation)


def test_it_is_told_over_which_rails_everything_goes() -> None:
    """And that it goes over one only, where no datagram arrives on another."""
    simulation = casting(3, active=True)
    node = simulation.nodes[1].endpoint
    assert "everything goes over b too" in node.casting.why(2)
    cut(simulation, "b")
    simulation.run_for(2000 * MS)
    assert "on no other rail do any" in node.casting.why(2)
    assert "rail" not in casting(3).nodes[1].endpoint.casting.why(2).partition(";")[2]


def test_what_is_not_confirmed_in_time_goes_over_the_other_rail() -> None:
    """Of passive rails, also while the association cannot have noticed that its own is lost."""
    simulation = casting(3)
    talk = Talk(simulation)
    talk.everybody(50 * MS)
    simulation.run_for(100 * MS)  # Nothing is on its way of which the loss could be noticed.
    cut(simulation, "a")
    recast_ns = simulation.config.timing.recast_ns
    payload = talk.say(simulation.nodes[1], Lane.BULK)

    def come() -> bool:
        return any(payload in it.payloads for it in simulation.nodes[2].told(Delivered))

    assert simulation.run_until(come, 200 * MS) <= recast_ns + MS
    finish(simulation)
