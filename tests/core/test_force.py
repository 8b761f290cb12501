"""A majority is gone for good, and the operator founds the cluster anew: what it does, and not."""

from __future__ import annotations

import pytest

from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core.outputs import RecordLost
from phalanx.transport.events import Evicted, PrimaryLost, ViewId, ViewInstalled
from phalanx.transport.testing.simulation import SimulatedNode, Simulation

from .scenes import Talk, converge, finish, started, stations
from .test_records import come_back


def lose(simulation: Simulation, *nodes: int) -> None:
    """These processes and their disks are gone for good."""
    for node in nodes:
        simulation.nodes[node].kill()
        simulation.nodes[node].disk.lose()


def force(simulation: Simulation, *nodes: int) -> None:
    """The operator starts these nodes with --force."""
    for number in nodes:
        node = simulation.nodes[number]
        if node.running:
            node.kill()
        node.start(force=True)


def explained(node: SimulatedNode) -> str:
    """What a node says that it waits for."""
    return node.endpoint.gather.explain()


def test_a_forced_majority_founds_the_next_era_and_says_that_it_started_over() -> None:
    """Two of three are lost with their disks; the third and one of them begin anew."""
    simulation = started()
    Talk(simulation).everybody(20 * MS)
    lose(simulation, 2, 3)
    simulation.run_for(1000 * MS)
    assert stations(simulation.nodes[1]) == ["1 2 3", "PrimaryLost"]
    force(simulation, 1, 2)
    converge(simulation, 1, 2)
    [event] = simulation.nodes[1].told(ViewInstalled)
    assert event.view.id == ViewId(2, 1)
    assert event.started_over
    assert not simulation.nodes[1].endpoint.acceptor.founding
    Talk(simulation).everybody(20 * MS)
    simulation.nodes[3].start(readmit=True, at_least=9)
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_one_of_three_that_is_forced_is_no_majority() -> None:
    """The operator's word replaces records, not votes."""
    simulation = started()
    lose(simulation, 2, 3)
    force(simulation, 1)
    simulation.run_for(3000 * MS)
    assert simulation.nodes[1].view is None
    assert explained(simulation.nodes[1]) == (
        "started with --force: waits for a majority of the votes to be started so; "
        "not yet: n2 (2), n3 (3)"
    )


def test_nodes_that_lost_their_disks_count_when_they_are_forced() -> None:
    """All disks of a majority are gone, and none of the two knows which era it was."""
    simulation = started()
    lose(simulation, 2, 3)
    simulation.nodes[1].kill()
    force(simulation, 2, 3)
    converge(simulation, 2, 3)
    assert simulation.nodes[2].told(ViewInstalled)[0].view.id == ViewId(2, 1)
    simulation.nodes[1].start()
    simulation.run_until(lambda: stations(simulation.nodes[2])[-1] == "1 2 3", 2000 * MS)
    assert not simulation.nodes[2].told(RecordLost), "a number that nobody can remember"
    finish(simulation)


def test_a_forced_node_waits_one_lease_before_it_votes() -> None:
    """Its former process may have granted one, and who got it may still act."""
    simulation = started()
    simulation.cut_pair(1, 3)
    simulation.run_for(100 * MS)
    force(simulation, 1, 2)
    converge(simulation, 1, 2)
    began = min(act.from_ns for act in simulation.nodes[2].life.acts)
    assert began - simulation.nodes[2].life.started_ns >= simulation.config.timing.lease_ns
    finish(simulation)


def test_a_member_of_the_old_era_that_was_cut_off_is_evicted_and_joins_anew() -> None:
    """It has no part in founding the era, learns of it, and comes as a newcomer."""
    simulation = started()
    simulation.isolate(3)
    converge(simulation, 1, 2)
    lose(simulation, 1)
    force(simulation, 1, 2)
    converge(simulation, 1, 2)
    assert simulation.nodes[3].view is not None
    assert simulation.nodes[3].view.id == ViewId(1, 1)
    simulation.heal_all()
    simulation.run_until(lambda: bool(simulation.nodes[3].told(Evicted)), 2000 * MS)
    assert simulation.nodes[3].told(Evicted)[0].view_id.era == 2
    simulation.nodes[3].begin_anew()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_a_living_member_of_the_old_era_is_no_founder() -> None:
    """Three of five are lost; of the four that are there, three are forced: those alone found."""
    simulation = started(5)
    simulation.after_turn.append(come_back)
    lose(simulation, 3, 4, 5)
    simulation.run_for(1000 * MS)
    force(simulation, 2, 3, 4)
    simulation.run_until(lambda: simulation.nodes[2].view is not None, 3000 * MS)
    first = simulation.nodes[2].told(ViewInstalled)[0]
    assert (first.view.id, first.view.members) == (ViewId(2, 1), (2, 3, 4))
    converge(simulation, 1, 2, 3, 4)
    finish(simulation)


def test_force_against_a_living_majority_waits_says_so_and_is_taken_back_by_readmit() -> None:
    """A slip of the operator: the others go on, and nothing is lost but the node's own memory."""
    simulation = started()
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    force(simulation, 3)
    converge(simulation, 1, 2)
    talk.everybody(2000 * MS, step_ns=20 * MS)
    assert stations(simulation.nodes[1]) == ["1 2 3", "1 2"]
    assert simulation.nodes[3].view is None
    assert explained(simulation.nodes[3]) == (
        "started with --force: waits for a majority of the votes to be started so; "
        "not yet: n1 (1), n2 (2), and of these 2 live in a view of era 1 without it "
        "(start with --readmit to join them)"
    )
    assert explained(simulation.nodes[1]).endswith(
        "started with --force and so apart from the others: n3 (3)"
    )
    simulation.nodes[3].kill()
    simulation.nodes[3].start()
    simulation.run_for(1000 * MS)
    assert simulation.nodes[3].view is None, "started as usual it is bound by what it was told"
    simulation.nodes[3].kill()
    simulation.nodes[3].start(readmit=True)
    converge(simulation, 1, 2, 3)
    assert simulation.nodes[3].endpoint.acceptor.record.voter
    assert simulation.nodes[1].view is not None
    assert simulation.nodes[1].view.id.era == 1
    finish(simulation)


def test_force_that_was_taken_back_and_comes_again_founds_a_higher_era() -> None:
    """It may have voted in the first one, and has forgotten how."""
    simulation = started()
    lose(simulation, 2, 3)
    node = simulation.nodes[1]
    force(simulation, 1)
    assert node.endpoint.acceptor.founding == 2
    node.kill()
    node.start(readmit=True)
    assert node.endpoint.acceptor.founding == 0
    assert not node.endpoint.acceptor.record.voter
    node.kill()
    node.start(force=True)
    assert node.endpoint.acceptor.founding == 3


def test_force_twice_before_a_decision_changes_nothing() -> None:
    """Votes that were given in the founding stay given."""
    simulation = started()
    lose(simulation, 2, 3)
    force(simulation, 1, 2)
    node = simulation.nodes[1]
    simulation.run_until(lambda: node.endpoint.acceptor.record.accepted is not None, 2000 * MS)
    simulation.nodes[2].disk.delay_ns = 100 * MS  # nothing is decided before this is written
    simulation.run_for(50 * MS)
    before = node.endpoint.acceptor.record
    assert before.founding
    force(simulation, 1)
    after = node.endpoint.acceptor.record
    assert (after.accepted, after.promised) == (before.accepted, before.promised)
    assert (after.era, after.founding) == (2, True)
    simulation.nodes[2].disk.delay_ns = 1 * MS
    simulation.after_turn.append(come_back)
    converge(simulation, 1, 2)
    assert stations(simulation.nodes[2])[0] == "1 2"
    finish(simulation)


@pytest.mark.parametrize("victim", [1, 2])
@pytest.mark.parametrize("delay_us", range(0, 6000, 600))
def test_a_crash_at_any_moment_of_the_founding_is_got_over(victim: int, delay_us: int) -> None:
    """The record remembers what it was told; it is not to be said again."""
    simulation = started()
    simulation.after_turn.append(come_back)
    lose(simulation, 2, 3)
    force(simulation, 1, 2)
    simulation.run_until(
        lambda: any(simulation.nodes[n].endpoint.standing.closed_for for n in (1, 2)), 3000 * MS
    )
    simulation.run_for(delay_us * 1000 + 1)
    simulation.nodes[victim].kill()
    simulation.nodes[victim].start()
    converge(simulation, 1, 2)
    assert {view.id.era for n in (1, 2) for view in simulation.nodes[n].views()} == {2}
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_nodes_that_knew_different_eras_found_the_highest() -> None:
    """One was away while an era was founded, and lived, and was lost."""
    simulation = started()
    simulation.after_turn.append(come_back)
    simulation.nodes[1].kill()
    lose(simulation, 3)
    force(simulation, 2, 3)
    converge(simulation, 2, 3)
    lose(simulation, 3)
    simulation.nodes[2].kill()
    simulation.nodes[2].start()
    simulation.run_for(500 * MS)
    force(simulation, 1)
    assert simulation.nodes[1].endpoint.acceptor.founding == 2
    force(simulation, 2)
    assert simulation.nodes[2].endpoint.acceptor.founding == 3
    converge(simulation, 1, 2)
    assert simulation.nodes[1].told(ViewInstalled)[0].view.id == ViewId(3, 1)
    finish(simulation)


def test_an_old_era_that_a_founder_without_record_meets_costs_it_its_vote() -> None:
    """Nobody of the forced knew the era, so that it was to be founded again: they found the next.

    One view must never be two: the operator has to say it once more, and then they know.
    """
    simulation = started()
    simulation.after_turn.append(come_back)
    lose(simulation, 3)
    simulation.nodes[1].kill()
    force(simulation, 2, 3)
    converge(simulation, 2, 3)
    simulation.nodes[1].start()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    lose(simulation, 2, 3)  # 1 is the last one that knows the second era
    force(simulation, 2, 3)
    simulation.run_for(2000 * MS)
    assert simulation.nodes[2].view is None
    assert simulation.nodes[3].view is None
    assert not simulation.nodes[2].endpoint.acceptor.record.voter
    assert explained(simulation.nodes[2]) == (
        "no majority may vote; their records are lost or not to be written: n2 (2), n3 (3)"
    )
    force(simulation, 2, 3)
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    assert simulation.nodes[2].told(ViewInstalled)[0].view.id == ViewId(3, 1)
    finish(simulation)


def test_everybody_there_and_nobody_knows_a_view_is_a_first_start_for_all() -> None:
    """One is forced; the records of the others are gone, and they are there: all there is."""
    simulation = started()
    simulation.after_turn.append(come_back)
    for node in simulation.nodes.values():
        node.kill()
    for number in (2, 3):
        simulation.nodes[number].disk.lose()
        simulation.nodes[number].start(readmit=True, at_least=9)
    simulation.run_for(1000 * MS)
    assert simulation.nodes[2].view is None
    force(simulation, 1)
    converge(simulation, 1, 2, 3)
    assert simulation.nodes[2].told(ViewInstalled)[0].view.id == ViewId(2, 1)
    finish(simulation)


def test_a_majority_that_is_forced_while_a_member_acts_never_acts_beside_it() -> None:
    """The old view's last member loses its lease before the first founder may vote."""
    simulation = started(5)
    Talk(simulation).everybody(20 * MS)
    force(simulation, 3, 4, 5)
    converge(simulation, 3, 4, 5)
    assert simulation.nodes[1].told(PrimaryLost) or simulation.nodes[1].told(Evicted)
    finish(simulation)


def test_what_a_founder_left_behind_is_not_obeyed() -> None:
    """A view of an older era comes late: who founds a later one has dropped it for good."""
    simulation = started()
    lose(simulation, 2, 3)
    old = simulation.nodes[1].endpoint.acceptor.decided
    assert old is not None
    force(simulation, 1)
    endpoint = simulation.nodes[1].endpoint
    endpoint.membership.receive(2, wire.Install(value=old), simulation.nodes[1].clock())
    assert endpoint.acceptor.decided is None
    assert endpoint.acceptor.founding == 2
