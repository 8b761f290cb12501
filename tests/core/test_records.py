"""Disks: slow, full, damaged, deleted. A record is obeyed or found out, never guessed."""

from __future__ import annotations

import pytest

from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core.outputs import RecordLost
from phalanx.transport.drivers.simulator import NetworkOptions
from phalanx.transport.errors import RecordUnusable
from phalanx.transport.events import Evicted, Member
from phalanx.transport.testing.simulated_node import FSYNC_NS
from phalanx.transport.testing.simulation import SimulatedNode, Simulation, simulated_config

from .scenes import Talk, converge, finish, started


def test_a_slow_disk_makes_a_view_change_slow_and_nothing_else() -> None:
    """Nothing is said before it is durable."""
    simulation = started()
    for node in simulation.nodes.values():
        node.disk.delay_ns = 100 * MS
    simulation.nodes[3].kill()
    took = converge(simulation, 1, 2)
    assert 200 * MS <= took < 1000 * MS
    finish(simulation)


@pytest.mark.parametrize("delay_ms", [199, 200, 300, 1000])
def test_a_disk_slower_than_a_phase_still_gives_a_view(delay_ms: int) -> None:
    """Busy disks take a second; the time-out of a phase must give them that."""
    simulation = started()
    for node in simulation.nodes.values():
        node.disk.delay_ns = delay_ms * MS
    simulation.nodes[3].kill()
    converge(simulation, 1, 2, limit_ns=15_000 * MS)
    finish(simulation)


def test_waiting_for_a_disk_takes_no_turns() -> None:
    """A hung disk must not cost a whole processor."""
    simulation = started()
    turns = 0

    def count(_: object) -> None:
        nonlocal turns
        turns += 1

    simulation.nodes[2].disk.delay_ns = 2000 * MS
    simulation.isolate(3)
    simulation.after_turn.append(count)
    simulation.run_for(2000 * MS)
    assert turns < 5000


def test_one_full_disk_of_three_stops_nobody() -> None:
    """It reports without vote; the other two are a majority of votes."""
    simulation = started()
    talk = Talk(simulation)
    simulation.nodes[2].disk.failing = True
    simulation.nodes[3].kill()
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    talk.everybody(20 * MS)
    simulation.nodes[2].disk.failing = False
    finish(simulation)


def test_without_a_quorum_of_disks_nothing_is_decided() -> None:
    """A vote that cannot be made durable is none; when a disk works again the view comes."""
    simulation = started()
    simulation.nodes[2].disk.failing = True
    simulation.nodes[3].kill()
    simulation.run_for(2000 * MS)
    assert not simulation.agreed_on(1, 2)
    view = simulation.nodes[1].view
    assert view is not None
    assert view.members == (1, 2, 3)
    simulation.nodes[2].disk.failing = False
    converge(simulation, 1, 2)
    finish(simulation)


@pytest.mark.parametrize("starts", [1, 3])
def test_a_deleted_record_is_found_out_by_the_peers(starts: int) -> None:
    """Its promises are forgotten: it may come back only as a newcomer without a vote.

    Also with the number of its first start, which a fresh record takes again.
    """
    simulation = started()
    node = simulation.nodes[3]
    for _ in range(starts - 1):
        node.kill()
        node.start()
        converge(simulation, 1, 2, 3)
    node.kill()
    node.disk.lose()
    node.start()
    simulation.run_until(lambda: bool(node.told(RecordLost)), 1000 * MS)
    assert node.told(RecordLost)[0].seen == starts
    assert node.view is None
    node.begin_anew(at_least=node.told(RecordLost)[0].seen + 1, keep_record=False)
    assert not node.endpoint.acceptor.record.voter
    converge(simulation, 1, 2, 3)
    assert node.endpoint.acceptor.record.voter
    finish(simulation)


def test_a_node_without_memory_does_not_help_to_decide_before_it_is_admitted() -> None:
    """A, B, C; C is away, B loses its record: A and B alone are no quorum of memories."""
    simulation = started()
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    node = simulation.nodes[2]
    node.kill()
    node.disk.lose()
    node.start(readmit=True, at_least=9)
    simulation.run_for(3000 * MS)
    assert node.view is None
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_a_damaged_record_is_refused() -> None:
    """Found out by its checksum; an operator decides."""
    simulation = started()
    node = simulation.nodes[2]
    node.kill()
    node.disk.tear()
    with pytest.raises(RecordUnusable):
        node.start()
    node.start(readmit=True, at_least=2)
    converge(simulation, 1, 2, 3)
    finish(simulation)


@pytest.mark.parametrize("delay_us", range(0, 4000, 400))
def test_a_crash_at_any_moment_of_a_write_leaves_the_old_record_or_the_new(delay_us: int) -> None:
    """Two of three restart in the middle of a view change; what was decided stays decided."""
    simulation = started()
    Talk(simulation).everybody(10 * MS)
    simulation.nodes[3].kill()
    simulation.run_for(delay_us * 1000 + 1)
    simulation.nodes[2].kill()
    simulation.nodes[2].start()
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def test_who_takes_the_number_of_the_dead_again_hears_of_its_record_and_not_of_that_death() -> None:
    """`Evicted` would let it come back by itself; a lost record is for an operator to decide."""
    simulation = started()
    node = simulation.nodes[1]  # which dials, so that it is turned away and answered
    node.kill()
    converge(simulation, 2, 3)
    node.disk.lose()
    node.start()
    simulation.run_for(2000 * MS)
    assert node.life.member == Member(1, 1)
    assert node.told(RecordLost)
    assert not node.told(Evicted)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("step", ["promise", "accept"])
def test_a_crash_between_beginning_and_end_of_a_write_does_it_or_not(step: str, done: bool) -> None:
    """The disk may have it already, though nobody was told: both records must be lived with."""
    for seed in range(20):
        simulation = with_a_write_under_way(seed, step)
        node = simulation.nodes[2]
        assert not is_written(node, step), "the write is under way"
        before = node.disk.content
        node.kill()
        if is_written(node, step) is done:
            break
    else:
        pytest.fail("chance has never had it so")
    assert (node.disk.content == before) is not done
    simulation.run_for(20 * MS)
    assert is_written(node, step) is done, "what was not done when it died is done by nobody"
    node.start()
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def with_a_write_under_way(seed: int, step: str) -> Simulation:
    """3 has died, and half of the write is over with which 2 promises, or accepts."""
    options = NetworkOptions(jitter_ns=0)
    simulation = Simulation(simulated_config(3), seed=seed, options=options)
    simulation.start_all()
    converge(simulation, 1, 2, 3)
    simulation.run_for(60 * MS)
    simulation.nodes[3].kill()
    # An end of file and PREPARE; then that write, PROMISE and ACCEPT.
    link_ns, half_ns = options.delay_ns, FSYNC_NS // 2
    simulation.run_for(2 * link_ns + half_ns)
    if step == "accept":
        simulation.run_for(FSYNC_NS + 2 * link_ns)
    return simulation


def is_written(node: SimulatedNode, step: str) -> bool:
    """Whether the record on the disk of a node has its promise, or what it accepted."""
    assert node.disk.content is not None, "it has started once"
    record = wire.decode_record(node.disk.content)
    assert record is not None, "a record is whole"
    if step == "accept":
        return record.accepted is not None
    return record.promised != wire.NO_BALLOT


def test_a_number_that_another_start_had_in_the_view_is_noticed() -> None:
    """A record is lost, and the only peer at hand has not met the last start of the node.

    So the number is taken again; but who is a member has closed its view for that instance.
    """
    simulation = started(3)
    nodes = simulation.nodes
    simulation.after_turn.append(come_back)
    simulation.isolate(3)
    converge(simulation, 1, 2)
    nodes[2].kill()
    simulation.run_for(20 * MS)
    nodes[2].start()
    converge(simulation, 1, 2)
    simulation.heal_pair(1, 3)  # 3 learns of the view with the second start of 2
    simulation.run_for(1500 * MS)
    simulation.isolate(1)
    nodes[2].kill()
    nodes[2].disk.lose()
    simulation.heal_pair(2, 3)
    nodes[2].start()
    simulation.run_for(3000 * MS)
    assert nodes[2].life.member.incarnation == 3
    assert nodes[2].view is None, "nobody whom it meets continues the view"
    simulation.heal_all()
    converge(simulation, 1, 2, 3)
    finish(simulation)


def come_back(node: SimulatedNode) -> None:
    """What a cluster does that is joined with rejoin and readmit."""
    over = node.life.over
    if over is None:
        return
    life, lost = node.life, over.seen if isinstance(over, RecordLost) else 0

    def begin() -> None:
        if node.life is life and node.running:
            node.begin_anew(at_least=lost + 1, keep_record=not lost)

    node.simulation.network.after(1, begin)
