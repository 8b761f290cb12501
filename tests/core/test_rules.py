"""Rules of the protocol that only one rare run needs; each run is made here.

Without the rule in its name each of these tests fails.
"""

from __future__ import annotations

from phalanx._native import codec
from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.events import Lane
from phalanx.transport.testing import checkers
from phalanx.transport.testing.simulation import Simulation

from .scenes import Talk, converge, finish, payloads, started, stations


def when_sent(simulation: Simulation, node: int, kind: type[wire.Control]) -> None:
    """Let time pass until a node is about to send a message of a kind; it is isolated then."""
    met = False

    def tap(sender: int, frame: bytes) -> None:
        nonlocal met
        header = codec.decode_frame(frame, codec.cluster_id("simulated"))
        assert not isinstance(header, codec.FrameError)
        if met or sender != node or header.kind != wire.Kind.CONTROL:
            return
        if isinstance(wire.decode_control(frame[header.body_offset :]), kind):
            met = True
            simulation.isolate(node)

    simulation.network.tap = tap
    simulation.run_until(lambda: met, 2000 * MS)
    simulation.network.tap = None


def test_a_view_that_one_member_may_have_installed_is_adopted() -> None:
    """Its proposer has installed it and nobody else has heard: the next must decide the same."""
    simulation = started(5)
    Talk(simulation).everybody(10 * MS)
    simulation.nodes[5].kill()
    when_sent(simulation, 1, wire.Install)
    simulation.run_for(20 * MS)
    assert stations(simulation.nodes[1])[-1] == "1 2 3 4"
    assert stations(simulation.nodes[2])[-1] == "1 2 3 4 5"
    converge(simulation, 2, 3, 4)
    assert stations(simulation.nodes[2]) == ["1 2 3 4 5", "1 2 3 4", "2 3 4"]
    checkers.check(simulation.lives)


def test_what_arrives_after_the_report_counts_only_inside_the_cut() -> None:
    """The report was given: whoever delivers more has seen what nobody else will see."""
    simulation = started()
    for node in simulation.nodes.values():
        node.disk.delay_ns = 50 * MS
    frames: list[bytes] = []
    simulation.network.tap = lambda node, frame: frames.append(frame) if node == 3 else None
    simulation.isolate(3)
    talk = Talk(simulation)
    late = [talk.say(simulation.nodes[3], lane) for lane in (Lane.FIFO, Lane.ORDERED, Lane.BULK)]
    receiver = simulation.nodes[1]
    simulation.run_until(lambda: receiver.endpoint.standing.closed_for == 2, 1000 * MS)
    # Its promise is said one write later, and the view comes two writes after that.
    simulation.run_for(70 * MS)
    for frame in frames:
        header = codec.decode_frame(frame, codec.cluster_id("simulated"))
        assert not isinstance(header, codec.FrameError)
        if header.kind == wire.Kind.DATA and any(payload in frame for payload in late):
            receiver.endpoint.delivery.receive(3, frame, header.body_offset, receiver.clock())
    converge(simulation, 1, 2)
    assert not set(late) & set(payloads(receiver))
    assert receiver.endpoint.outputs.counters["above_cut"] >= 2, "they were not held"
    simulation.network.tap = None
    simulation.heal_all()
    simulation.run_until(lambda: stations(simulation.nodes[3])[-1] == "Evicted", 3000 * MS)
    finish(simulation)


def test_a_restarted_grantor_waits_one_lease_before_it_votes() -> None:
    """Its grants are forgotten, and whoever got one of them may still act."""
    simulation = started()
    simulation.cut_pair(1, 3)
    # 1 and 2 mean to go on without 3, and 2 has just granted it its last lease.
    simulation.run_until(lambda: 3 in simulation.nodes[2].endpoint.gather.stopped, 1000 * MS)
    simulation.cut_pair(2, 3)
    simulation.nodes[2].kill()
    simulation.nodes[2].start()
    converge(simulation, 1, 2)
    acts = simulation.nodes[3].life.acts[-1]
    assert acts.until_ns > simulation.nodes[2].life.started_ns + 200 * MS, "3 could still act"
    finish(simulation)


def test_a_member_that_is_to_be_left_out_is_granted_no_more() -> None:
    """One that only some can reach would else hold its lease, and the change, for ever."""
    simulation = started()
    simulation.cut_pair(2, 3)
    took = converge(simulation, 1, 2)
    timing = simulation.config.timing
    assert took < timing.suspect_ns + 2 * timing.lease_ns
    finish(simulation)


def test_a_suspect_that_answers_again_stays() -> None:
    """On mere suspicion the view works on, and nothing is closed before the grants are out."""
    simulation = started()
    talk = Talk(simulation)
    simulation.isolate(3)
    talk.everybody(320 * MS)
    simulation.heal_all()
    talk.everybody(1000 * MS, step_ns=10 * MS)
    assert [stations(node) for node in simulation.nodes.values()] == [["1 2 3"]] * 3
    finish(simulation)
