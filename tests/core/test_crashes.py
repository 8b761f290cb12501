"""Processes die, one or two at a time, at every step of a view change."""

from __future__ import annotations

import pytest

from phalanx._native import codec
from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Settled
from phalanx.transport.events import Lane, Member, ViewInstalled
from phalanx.transport.testing.simulation import ProcessEnded, Simulation

from .scenes import Talk, converge, finish, payloads, started, stations


def die_before(simulation: Simulation, victim: int, kind: type[wire.Control], nth: int = 1) -> None:
    """The process of a node dies when it is about to send its n-th message of a kind."""
    left = nth

    def tap(node: int, frame: bytes) -> None:
        nonlocal left
        if node != victim or left == 0:
            return
        header = codec.decode_frame(frame, codec.cluster_id("simulated"))
        assert not isinstance(header, codec.FrameError)
        if header.kind != wire.Kind.CONTROL:
            return
        if isinstance(wire.decode_control(frame[header.body_offset :]), kind):
            left -= 1
            if left == 0:
                raise ProcessEnded

    simulation.network.tap = tap


@pytest.mark.parametrize("victim", [1, 2, 3])
def test_a_killed_member_is_replaced_by_a_view_within_milliseconds(victim: int) -> None:
    """The end of its lifelines proves it: nobody has to wait for a lease."""
    simulation = started()
    talk = Talk(simulation)
    talk.everybody(50 * MS)
    simulation.nodes[victim].kill()
    rest = [node for node in (1, 2, 3) if node != victim]
    assert converge(simulation, *rest) < 10 * MS
    [event] = [i for i in simulation.nodes[rest[0]].told(ViewInstalled) if i.view.id.k == 2]
    assert event.left == {victim: "its process died"}
    talk.everybody(20 * MS)
    finish(simulation)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    "kind", [wire.Prepare, wire.Promise, wire.HeldAll, wire.Hold, wire.Accept, wire.Install]
)
@pytest.mark.parametrize("victim", [1, 2])
def test_a_crash_at_any_step_of_a_view_change_leaves_a_view(
    victim: int, kind: type[wire.Control], nth: int
) -> None:
    """Others broke exactly there: a change that nobody finishes, or that two finish differently."""
    simulation = started(5)
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    die_before(simulation, victim, kind, nth)
    # Unequal holdings make the change fetch; the sender's death makes it necessary.
    simulation.cut_pair(5, 3)
    talk.everybody(4 * MS)
    simulation.nodes[5].kill()
    simulation.run_for(700 * MS)
    simulation.network.tap = None
    simulation.heal_all()
    alive = [node.id for node in simulation.running()]
    converge(simulation, *alive)
    talk.everybody(20 * MS)
    for node in simulation.nodes.values():
        if not node.running:
            node.start()
    converge(simulation, 1, 2, 3, 4, 5)
    talk.everybody(20 * MS)
    finish(simulation)


def test_two_of_five_die_at_once_and_the_rest_goes_on() -> None:
    """Three of five votes are a majority."""
    simulation = started(5)
    talk = Talk(simulation)
    talk.everybody(30 * MS)
    simulation.nodes[1].kill()
    simulation.nodes[2].kill()
    assert converge(simulation, 3, 4, 5) < 20 * MS
    finish(simulation)


def test_survivors_deliver_the_same_of_a_dead_sender_that_reached_only_one() -> None:
    """View synchrony is this case: the one that holds it gives it to the others."""
    simulation = started()
    talk = Talk(simulation)
    simulation.cut_pair(3, 2)
    told = [talk.say(simulation.nodes[3], lane) for lane in (Lane.FIFO, Lane.ORDERED, Lane.BULK)]
    simulation.run_for(5 * MS)
    assert not set(told) & set(payloads(simulation.nodes[2]))
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    assert set(told) <= set(payloads(simulation.nodes[1]))
    assert set(told) <= set(payloads(simulation.nodes[2]))
    finish(simulation)


def test_a_message_of_many_pieces_survives_a_crash_whole_or_not_at_all() -> None:
    """Half of a message is never delivered; the survivors' own goes again in the next view."""
    simulation = started()
    talk = Talk(simulation)
    sent = talk.say(simulation.nodes[1], size=5 << 20)
    simulation.run_for(1 * MS)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    simulation.run_for(500 * MS)
    assert payloads(simulation.nodes[2]).count(sent) == 1
    talk.say(simulation.nodes[1], size=5 << 20)
    simulation.run_for(1 * MS)
    simulation.nodes[1].kill()
    simulation.nodes[1].start()
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


@pytest.mark.parametrize("pause_ms", [0, 5, 100, 600, 2000])
def test_a_restarted_node_comes_back_as_another_incarnation(pause_ms: int) -> None:
    """Sooner than its death is noticed, within its lease, and after it."""
    simulation = started()
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    node = simulation.nodes[2]
    node.kill()
    simulation.run_for(pause_ms * MS + 1)
    node.start()
    assert node.life.member == Member(2, 2)
    assert converge(simulation, 1, 2, 3) < 1000 * MS
    talk.everybody(20 * MS)
    finish(simulation)


def test_two_that_crash_before_they_learn_the_first_view_can_come_back() -> None:
    """They have accepted it durably: their votes count, or nobody could ever go on."""
    simulation = Simulation(started().config)
    simulation.start_all()
    simulation.run_until(lambda: simulation.nodes[1].view is not None, 1000 * MS)
    for node in (2, 3):
        assert simulation.nodes[node].view is None
        simulation.nodes[node].kill()
        simulation.nodes[node].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_all_crash_at_once_and_start_over() -> None:
    """Nobody carries the state: only all of them together may begin anew, and are told so."""
    simulation = started()
    Talk(simulation).everybody(20 * MS)
    for node in simulation.nodes.values():
        node.kill()
    for node in (1, 2):
        simulation.nodes[node].start()
    simulation.run_for(2000 * MS)
    assert all(simulation.nodes[node].view is None for node in (1, 2))
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    assert simulation.nodes[1].told(ViewInstalled)[-1].started_over
    finish(simulation)


def test_receipts_to_a_node_that_came_back_count_on() -> None:
    """A token given twice would make a receipt of the new message say what became of the old."""
    simulation = started()
    talk = Talk(simulation)
    node = simulation.nodes[1]
    for _ in range(3):
        talk.say(node, addressee=3)
    simulation.run_for(20 * MS)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    talk.say(node, addressee=3)
    assert node.life.sent[-1].token == 4
    simulation.run_for(20 * MS)
    assert [item.token for item in node.told(Settled) if item.addressee == 3][-1] == 4
    finish(simulation)


def test_a_directed_message_to_the_dead_is_reported_by_name() -> None:
    """Nothing is dropped silently."""
    simulation = started()
    simulation.isolate(3)
    talk = Talk(simulation)
    talk.say(simulation.nodes[1], addressee=3)
    talk.say(simulation.nodes[1])
    converge(simulation, 1, 2)
    fates = {item.addressee: item for item in simulation.nodes[1].told(Settled)}
    assert fates[3].missing == {3: "unreachable"}
    assert fates[0].missing == {3: "unreachable"}
    assert stations(simulation.nodes[3]) == ["1 2 3", "PrimaryLost"]
    simulation.heal_all()
    simulation.run_for(1000 * MS)
    assert stations(simulation.nodes[3])[-1] == "Evicted"
    finish(simulation)
