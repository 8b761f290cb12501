"""Where SCTP does not get through, datagrams carry everything, with the same guarantees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from phalanx.barrier.testing.meetings import use_barriers
from phalanx.transport.config import MS, MULTICAST
from phalanx.transport.drivers.base import LossReason
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.drivers.simulated_network import NetworkOptions
from phalanx.transport.events import CarrierChanged, Lane, ViewInstalled
from phalanx.transport.testing.barrier_checkers import BARRIERS
from phalanx.transport.testing.simulation import SimulatedNode, Simulation, simulated_config

from .scenes import Talk, converge, finish, payloads

GAP_NS = 500 * MS


def cluster(
    nodes: int, trouble: DatagramTrouble | None = None, *, sctp: bool = True, up: bool = True
) -> Simulation:
    """One with multicast and fallback; without `sctp` there is none on any host."""
    config = simulated_config(nodes, multicast=True, fallback=True)
    if not sctp:
        config = replace(config, driver=MULTICAST)
    options = NetworkOptions(datagrams=trouble or DatagramTrouble())
    simulation = Simulation(config, options=options)
    use_barriers(simulation)
    if up:
        simulation.start_all()
        converge(simulation, *simulation.nodes)
        simulation.run_for(600 * MS)
    return simulation


def block(simulation: Simulation, *pairs: tuple[int, int], on: bool = True) -> None:
    """SCTP between these hosts, in both directions."""
    network = simulation.network
    for one, other in pairs:
        for source, target in ((one, other), (other, one)):
            (network.block_sctp if on else network.pass_sctp)(source, target)


def carriers(node: SimulatedNode) -> dict[int, str]:
    """How it reaches each peer now."""
    peers = node.endpoint.peers.peers
    return {n: "sctp" if p.link > 0 else "udp" if p.link else "" for n, p in peers.items()}


def views(simulation: Simulation) -> int:
    """How many were installed."""
    return sum(len(node.told(ViewInstalled)) for node in simulation.nodes.values())


def longest_gap_ns(talk: Talk, sender: int, receiver: int, rounds: int) -> int:
    """The longest time between two messages of one node at another, at 1,000 a second."""
    simulation, longest_ns = talk.simulation, 0
    one, two = simulation.nodes[sender], simulation.nodes[receiver]
    got, since_ns = len(payloads(two)), simulation.network.now_ns
    for _ in range(rounds):
        talk.say(one, Lane.FIFO)
        simulation.run_for(MS)
        now = len(payloads(two))
        if now > got:
            longest_ns = max(longest_ns, simulation.network.now_ns - since_ns)
            got, since_ns = now, simulation.network.now_ns
    return max(longest_ns, simulation.network.now_ns - since_ns)


def test_with_sctp_everywhere_no_link_over_datagrams_is_opened() -> None:
    """Nor at the start, when some come up before others."""
    simulation = cluster(3, up=False)
    for node in simulation.nodes.values():
        node.start()
        simulation.run_for(300 * MS)
    converge(simulation, 1, 2, 3)
    simulation.run_for(2000 * MS)
    for node in simulation.nodes.values():
        assert set(carriers(node).values()) - {""} == {"sctp"}
        assert node.endpoint.outputs.counters["udp_links"] == 0
        assert not node.told(CarrierChanged)
    finish(simulation)


@pytest.mark.parametrize("lost", [0.0, 0.05, 0.2])
def test_without_any_sctp_a_cluster_works_all_the_same(lost: float) -> None:
    """All lanes, directed messages, barriers; also where datagrams are lost."""
    simulation = cluster(4, DatagramTrouble(lost=lost, doubled=lost, late=lost), sctp=False)
    for node in simulation.nodes.values():
        assert set(carriers(node).values()) == {"udp"}
        assert "there is no SCTP here" in node.endpoint.fallback.why(1)
    before = views(simulation)
    Talk(simulation).everybody(500 * MS)
    simulation.run_for(1000 * MS)
    assert views(simulation) == before
    finish(simulation, BARRIERS)


def test_a_pair_that_loses_sctp_goes_on_without_a_view_change_and_comes_back() -> None:
    """A firewall drops it in the middle of everything, and later lets it pass again."""
    simulation = cluster(3)
    before = views(simulation)
    talk = Talk(simulation)
    talk.everybody(100 * MS)
    block(simulation, (1, 2))
    talk.everybody(1000 * MS)
    assert carriers(simulation.nodes[1]) == {2: "udp", 3: "sctp"}
    assert carriers(simulation.nodes[2]) == {1: "udp", 3: "sctp"}
    reasons = [simulation.nodes[1].endpoint.fallback.why(peer) for peer in (2, 3)]
    assert reasons == ["SCTP does not reach it", "SCTP reaches it"]
    block(simulation, (1, 2), on=False)
    talk.everybody(2000 * MS)
    for node in simulation.nodes.values():
        assert set(carriers(node).values()) == {"sctp"}
    assert views(simulation) == before
    told = simulation.nodes[1].told(CarrierChanged)
    assert [(it.peer, it.multicast) for it in told] == [(2, True), (2, False)]
    finish(simulation, BARRIERS)


@pytest.mark.parametrize("pairs", [((1, 2),), ((1, 2), (1, 3), (2, 3))])
def test_the_gap_is_short(pairs: tuple[tuple[int, int], ...]) -> None:
    """One pair, or all."""
    simulation = cluster(3)
    talk = Talk(simulation)
    talk.everybody(50 * MS)
    for on in (True, False):
        block(simulation, *pairs, on=on)
        assert longest_gap_ns(talk, 1, 2, 1500) < GAP_NS
    assert set(carriers(simulation.nodes[1]).values()) == {"sctp"}
    finish(simulation)


@pytest.mark.parametrize("after_ms", [20, 110])
def test_an_association_that_gives_up_first_is_replaced_at_once(after_ms: int) -> None:
    """SCTP has counted its time-outs before it is found dead here, or is even asked again."""
    simulation = cluster(3)
    before = views(simulation)
    talk = Talk(simulation)
    talk.everybody(50 * MS)
    block(simulation, (1, 2))
    talk.everybody(after_ms * MS)
    assert set(carriers(simulation.nodes[1]).values()) == {"sctp"}, "nobody has noticed yet"
    for here, there in ((1, 2), (2, 1)):
        simulation.network.reset(here, there, tell=False, reason=LossReason.TIMED_OUT)
    talk.everybody(50 * MS)
    assert carriers(simulation.nodes[1]) == {2: "udp", 3: "sctp"}
    assert carriers(simulation.nodes[2]) == {1: "udp", 3: "sctp"}
    assert views(simulation) == before
    finish(simulation, BARRIERS)


def test_a_newcomer_that_has_no_sctp_is_let_in() -> None:
    """Others have it."""
    simulation = cluster(3, up=False)
    block(simulation, (1, 3), (2, 3))
    simulation.start_all()
    converge(simulation, 1, 2, 3)
    assert carriers(simulation.nodes[3]) == {1: "udp", 2: "udp"}
    Talk(simulation).everybody(300 * MS)
    finish(simulation)


def test_who_dies_without_sctp_is_found_dead_and_returns() -> None:
    """Silence is silence, whatever the carrier."""
    simulation = cluster(3, sctp=False)
    talk = Talk(simulation)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    talk.everybody(200 * MS)
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    talk.everybody(200 * MS)
    finish(simulation)


def test_leaving_in_good_order_needs_no_sctp() -> None:
    """What was accepted arrives first."""
    simulation = cluster(3, sctp=False)
    node = simulation.nodes[3]
    said = Talk(simulation).say(node, Lane.FIFO)
    node.endpoint.leave(node.clock() + 1000 * MS, node.clock())
    simulation.run_for(1500 * MS)
    assert said in payloads(simulation.nodes[1])
    converge(simulation, 1, 2)
    finish(simulation)
