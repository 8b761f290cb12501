"""Who has the state of a view, who gives it to whom, and what becomes of it when things break."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from phalanx.transport.config import MS, Limits
from phalanx.transport.core.gather import Standing
from phalanx.transport.core.outputs import (
    StateArrived,
    StateAwaited,
    StateTooLarge,
    StateVoid,
    StateWanted,
)
from phalanx.transport.core.parts import Parts, Start, assemble
from phalanx.transport.events import Lane, Member, StateOverdue, View, ViewId, ViewInstalled
from phalanx.transport.testing.simulated_application import SimulatedApplication
from phalanx.transport.testing.simulation import Simulation, Stateful, simulated_config
from phalanx.transport.testing.state_checkers import check_state
from phalanx.transport.wire import NO_VIEW, Record, Row, StateAsk, StatePart, ViewValue

from .scenes import Talk, converge, finish

SMALL = Limits(bulk_batch_bytes=1 << 10, bulk_in_flight_bytes=4 << 10)
READS_NS = 1 * MS


def stateful(
    nodes: int = 3, *, state_bytes: int = 0, limits: Limits | None = None, reads_ns: int = READS_NS
) -> Simulation:
    """A cluster of applications with state, in its first view."""
    config = simulated_config(nodes, limits=limits)
    simulation = Simulation(config, stateful=Stateful((reads_ns,) * nodes, state_bytes))
    simulation.start_all()
    everybody = tuple(simulation.nodes)
    simulation.run_until(lambda: simulation.synced_on(*everybody), 1000 * MS)
    return simulation


def synced(simulation: Simulation, *nodes: int) -> None:
    """Wait until these are in a view and have its state."""
    simulation.run_until(lambda: simulation.synced_on(*nodes), 3000 * MS)


def transferring(simulation: Simulation, node: int) -> None:
    """Wait until a newcomer has some of the state, and not all."""
    mine = simulation.nodes[node]
    simulation.run_until(lambda: mine.view is not None, 3000 * MS)
    donor = mine.told(StateAwaited)[-1].donor
    sent = simulation.nodes[donor].endpoint.outputs.counters
    before = sent["state_parts_sent"]
    simulation.run_until(lambda: sent["state_parts_sent"] >= before + 3, 3000 * MS)
    assert not mine.told(StateArrived), "the state is too small for this scene"


def application_of(simulation: Simulation, node: int) -> SimulatedApplication:
    """The application of a node that runs."""
    application = simulation.nodes[node].application
    assert application is not None
    return application


def end(simulation: Simulation) -> None:
    """All guarantees, and those of state."""
    simulation.run_for(300 * MS)
    finish(simulation)
    check_state(simulation.lives)


# ------------------------------------------------------------------------------- whole clusters


def test_a_newcomer_has_the_same_state_as_the_others() -> None:
    """Snapshot, what followed it, and all that comes later."""
    simulation = stateful(state_bytes=20_000)
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    talk.everybody(20 * MS)
    simulation.nodes[3].start()
    simulation.run_until(lambda: simulation.nodes[3].view is not None, 3000 * MS)
    talk.everybody(20 * MS)
    synced(simulation, 1, 2, 3)
    simulation.nodes[1].kill()
    synced(simulation, 2, 3)
    end(simulation)


def test_parts_that_are_lost_with_an_association_are_asked_for_again() -> None:
    """They are in no stream, so that nobody else repeats them."""
    simulation = stateful(state_bytes=60_000, limits=SMALL)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    simulation.nodes[3].start()
    transferring(simulation, 3)
    simulation.network.reset(1, 3)
    synced(simulation, 1, 2, 3)
    assert len(simulation.nodes[3].told(StateAwaited)) == 1
    end(simulation)


def test_another_gives_the_state_when_the_donor_dies_on_the_way() -> None:
    """The next view names the next donor, and the newcomer begins with that one."""
    simulation = stateful(4, state_bytes=60_000, limits=SMALL)
    talk = Talk(simulation)
    simulation.nodes[4].kill()
    converge(simulation, 1, 2, 3)
    simulation.nodes[4].start()
    transferring(simulation, 4)
    talk.say(simulation.nodes[2])
    simulation.nodes[1].kill()
    synced(simulation, 2, 3, 4)
    first, second = simulation.nodes[4].told(StateAwaited)
    assert (first.donor, second.donor) == (1, 2)
    assert simulation.nodes[4].told(StateVoid) == [StateVoid(view_id=first.view_id)]
    end(simulation)


def test_members_without_state_do_not_go_on_from_a_view() -> None:
    """If all who have the state are gone, a majority of others has nothing to go on from."""
    simulation = stateful()
    for node in (2, 3):
        simulation.nodes[node].kill()
    for node in (2, 3):
        simulation.nodes[node].start()
        application_of(simulation, node).paused = True
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    simulation.nodes[1].kill()
    simulation.run_for(3000 * MS)
    for node in (2, 3):
        view = simulation.nodes[node].view
        assert view is not None
        assert view.members == (1, 2, 3)
        words = simulation.nodes[node].endpoint.gather.explain()
        assert words == f"nobody reached goes on from view {view.id}; not reached: n1 (1)"
    simulation.nodes[1].start()
    for node in (2, 3):
        application_of(simulation, node).paused = False
        application_of(simulation, node).read_soon()
    synced(simulation, 1, 2, 3)
    last = simulation.nodes[2].told(ViewInstalled)[-1]
    assert (last.started_over, last.donor, last.view.continuing) == (True, 0, ())
    end(simulation)


def test_a_start_over_goes_on_with_the_state_that_an_evicted_node_has_kept() -> None:
    """The processes of the others are gone; what one application still has is all there is."""
    simulation = stateful()
    talk = Talk(simulation)
    talk.everybody(20 * MS)
    keeper = simulation.nodes[3]
    kept = keeper.view
    simulation.isolate(3)
    converge(simulation, 1, 2)
    for node in (1, 2):
        simulation.nodes[node].kill()
        simulation.nodes[node].start()
    simulation.heal_all()
    simulation.run_until(lambda: keeper.life.over is not None, 3000 * MS)
    keeper.begin_anew()
    synced(simulation, 1, 2, 3)
    last = keeper.told(ViewInstalled)[-1]
    assert (last.started_over, last.donor, last.view.continuing) == (True, 3, ())
    assert kept is not None
    assert last.view.id > kept.id
    assert len(simulation.nodes[1].told(StateArrived)) == 1
    assert keeper.told(StateArrived) == []
    end(simulation)


def test_a_donor_that_leaves_waits_for_those_that_depend_on_it() -> None:
    """It may be the last that has the state; its deadline counts all the same."""
    simulation = stateful(state_bytes=60_000, limits=SMALL)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    simulation.nodes[3].start()
    transferring(simulation, 3)
    donor = simulation.nodes[1]
    donor.endpoint.leave(donor.clock() + 2000 * MS, donor.clock())
    synced(simulation, 2, 3)
    assert len(simulation.nodes[3].told(StateAwaited)) == 1
    end(simulation)


def test_a_newcomer_says_whom_it_waits_for_again_and_again() -> None:
    """A donor whose application does not read cannot give; the newcomer's must know of it."""
    simulation = stateful()
    donor = application_of(simulation, 1)
    donor.paused = True
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    simulation.nodes[3].start()
    newcomer = simulation.nodes[3]
    simulation.run_until(lambda: newcomer.view is not None, 3000 * MS)
    period_ns = simulation.config.timing.state_timeout_ns
    simulation.run_for(period_ns - 10 * MS)
    assert newcomer.told(StateOverdue) == []
    simulation.run_for(2 * period_ns)
    said = newcomer.told(StateOverdue)
    assert [(event.donor, event.size_bytes) for event in said] == [(1, None)] * 2
    donor.paused = False
    donor.read_soon()
    synced(simulation, 1, 2, 3)
    end(simulation)


def test_what_is_held_back_for_lack_of_state_stops_the_senders_and_not_the_state() -> None:
    """The queue of a newcomer is bounded; the state is what empties it, so it is not in a lane."""
    limits = replace(SMALL, batch_bytes=1 << 10, window_bytes=8 << 10, receive_queue_bytes=4 << 10)
    simulation = stateful(state_bytes=60_000, limits=limits)
    donor = application_of(simulation, 1)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    donor.paused = True
    simulation.nodes[3].start()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    talk = Talk(simulation)
    stream = simulation.nodes[2].endpoint.delivery.out[0, Lane.BULK]
    for _ in range(30):
        talk.say(simulation.nodes[2], lane=Lane.BULK, size=900)
        simulation.run_for(2 * MS)
    simulation.run_for(100 * MS)
    assert stream.queue, "the window of a newcomer that cannot read is full"
    donor.paused = False
    donor.read_soon()
    synced(simulation, 1, 2, 3)
    simulation.run_for(300 * MS)
    assert not stream.queue
    end(simulation)


# --------------------------------------------------------------------------------- one node

ME = 2
DONOR = 1
V1, V2, V3 = ViewId(1, 1), ViewId(1, 2), ViewId(1, 3)


def value(view_id: ViewId, continuing: tuple[int, ...], donor: int) -> ViewValue:
    """A decided view of nodes 1 to 3."""
    return ViewValue(
        era=view_id.era,
        k=view_id.k,
        members=tuple(Member(node, 1) for node in (1, 2, 3)),
        continuing=continuing,
        donor=donor,
        cut=(),
        reasons={},
    )


class Node:
    """The parts of node 2, to which views happen."""

    def __init__(self, *, stateful: bool = True, kept: ViewId = NO_VIEW) -> None:
        self.config = simulated_config(3, limits=replace(SMALL, state_bytes_max=4000))
        self.parts: Parts = assemble(
            Start(
                config=self.config,
                node=ME,
                incarnation=1,
                nonce=1,
                record=Record(cluster=self.config.name, node=ME, incarnation=1),
                config_hash="",
                key_hashes={},
                rails=("a", "b"),
                now_ns=0,
                jitter=lambda: 0.0,
                stateful=stateful,
                synced=kept,
            )
        )
        self.state = self.parts.state
        self.standing: Standing = self.parts.standing

    def install(self, view_id: ViewId, continuing: tuple[int, ...], donor: int) -> list[object]:
        """A view is installed; returns the marks that are put before it."""
        decided = value(view_id, continuing, donor)
        self.state.installed(decided, 0)
        self.standing.view = View(
            id=view_id, incarnations=decided.members, continuing=decided.continuing
        )
        return self.marks()

    def marks(self) -> list[object]:
        """What was put out since the last time."""
        marks, self.parts.outputs.stream = self.parts.outputs.stream, []
        return list(marks)

    def part(self, view_id: ViewId, state: bytes, *, offset: int = 0, size: int = -1) -> None:
        """The donor answers."""
        self.state.received(
            DONOR,
            StatePart(
                view_id=view_id,
                offset=offset,
                size=size if size >= 0 else len(state),
                given=True,
                part=state,
            ),
            0,
        )

    @property
    def is_synced(self) -> bool:
        return self.standing.is_synced


def test_a_founder_and_who_continues_have_state_and_others_wait_for_it() -> None:
    """The value says who has state: nobody decides that for himself."""
    founder = Node()
    assert founder.install(V1, (), 0) == []
    assert founder.is_synced
    assert founder.install(V2, (1, 2, 3), 1) == []
    assert founder.is_synced
    newcomer = Node()
    assert newcomer.install(V2, (1, 3), 1) == [StateAwaited(view_id=V2, donor=1)]
    assert not newcomer.is_synced
    without = Node(stateful=False)
    assert without.install(V2, (1, 3), 1) == []
    assert without.is_synced, "there is nothing that it could lack"


def test_the_state_is_there_when_the_application_says_so() -> None:
    """What has arrived is not yet what the application has made its own."""
    node = Node()
    node.install(V2, (1, 3), 1)
    node.marks()
    node.part(V2, b"state")
    assert node.marks() == [StateArrived(view_id=V2, state=b"state")]
    assert not node.is_synced
    assert not node.state.synced(V1)
    assert node.state.synced(V2)
    assert node.is_synced


def test_a_state_that_has_arrived_serves_for_the_next_view_as_well() -> None:
    """What came after it is in the queue behind it, for this node goes on like the others."""
    node = Node()
    node.install(V2, (1, 3), 1)
    node.part(V2, b"state")
    node.marks()
    assert node.install(V3, (1, 3), 1) == []
    assert not node.is_synced
    assert node.state.synced(V2)
    assert node.standing.synced == V3


def test_one_that_was_synced_after_it_had_reported_keeps_its_state() -> None:
    """A value that was chosen before says otherwise; its stream is unbroken all the same."""
    node = Node()
    node.install(V2, (1, 3), 1)
    node.part(V2, b"state")
    node.state.synced(V2)
    node.marks()
    assert node.install(V3, (1, 3), 1) == []
    assert node.standing.synced == V3


@pytest.mark.parametrize("arrived", [False, True])
def test_a_start_over_voids_what_is_of_a_view_before(arrived: bool) -> None:
    """The state of the donor that the value names is the only one from there on."""
    node = Node()
    node.install(V2, (1, 3), 1)
    if arrived:
        node.part(V2, b"state")
    node.marks()
    assert node.install(V3, (), 3) == [StateVoid(view_id=V2), StateAwaited(view_id=V3, donor=3)]
    assert not node.state.synced(V2)


def test_a_part_of_a_state_is_of_no_use_in_the_next_view() -> None:
    """The donor keeps one snapshot, that of the newest view."""
    node = Node()
    node.install(V2, (1, 3), 1)
    node.part(V2, b"sta", size=5)
    assert node.install(V3, (1, 3), 1) == [
        StateVoid(view_id=V2),
        StateAwaited(view_id=V3, donor=1),
    ]
    node.part(V2, b"te", offset=3, size=5)
    assert node.marks() == []


def test_the_donor_of_a_start_over_keeps_its_state_and_is_asked_for_it() -> None:
    """It has the newest that is left."""
    node = Node(kept=V1)
    assert node.standing.synced == V1
    assert node.install(V3, (), ME) == [StateWanted(view_id=V3)]
    assert node.is_synced
    assert node.state.wanted(V3)


def test_who_waits_keeps_what_it_had_for_a_start_over() -> None:
    """Until it has taken another's state in, its own may be the newest that is left."""
    node = Node(kept=V1)
    node.install(V2, (1, 3), 1)
    assert node.standing.synced == V1
    assert node.install(V3, (), ME) == [StateVoid(view_id=V2), StateWanted(view_id=V3)]


def test_what_it_had_of_a_cluster_that_was_founded_anew_is_nothing() -> None:
    """Numbers of views begin again then: one must not be taken for another."""
    node = Node(kept=V3)
    node.install(V2, (1, 3), 1)
    assert node.standing.synced == NO_VIEW
    node.install(V3, (1, 3), 1)
    assert not node.is_synced


def test_the_application_is_asked_only_if_somebody_needs_it_still() -> None:
    """A snapshot may be dear; who has the state by its row, or another view, needs none."""
    node = Node()
    node.install(V1, (), 0)
    assert node.install(V2, (1, 2), 1) == [], "another gives"
    assert not node.state.wanted(V2)
    node = Node()
    node.install(V1, (), 0)
    assert node.install(V2, (2,), 2) == [StateWanted(view_id=V2)]
    row = Row(
        incarnation=1,
        reach=(),
        dead=(),
        left=(),
        decided=V2,
        installed=True,
        synced=False,
        leaving=False,
        votes_in_ns=0,
        closed=0,
        ballot=(0, 0),
        grants={},
    )
    node.state.row_received(1, structs.replace(row, synced=True))
    node.state.row_received(3, row)
    assert node.state.wanted(V2)
    node.state.give(V2, b"state")
    assert not node.state.wanted(V2), "it is there"
    assert node.state.owed(())
    assert not node.state.owed({3})
    node.state.row_received(3, structs.replace(row, synced=True))
    assert not node.state.owed(())
    node.state.give(V2, b"again")
    assert node.parts.outputs.counters["state_parts_sent"] == 1


FITS = StatePart(view_id=V2, offset=0, size=5, given=True, part=b"sta")


@pytest.mark.parametrize(
    ("counter", "sender", "part"),
    [
        ("state_of_other_view", 3, FITS),
        ("state_of_other_view", DONOR, structs.replace(FITS, view_id=V1)),
        ("state_parts_twice", DONOR, structs.replace(FITS, offset=3)),
        ("malformed_state", DONOR, structs.replace(FITS, size=2)),
        ("malformed_state", DONOR, structs.replace(FITS, part=b"")),
    ],
)
def test_parts_that_fit_nowhere_are_counted_and_change_nothing(
    counter: str, sender: int, part: StatePart
) -> None:
    """A stale or damaged part in the state would make the applications differ for ever."""
    node = Node()
    node.install(V2, (1, 3), 1)
    node.marks()
    node.state.received(sender, part, 0)
    assert node.parts.outputs.counters[counter] == 1
    assert node.marks() == []
    node.part(V2, b"state")
    assert node.marks() == [StateArrived(view_id=V2, state=b"state")]


def test_the_largest_state_is_taken_and_one_byte_more_is_not() -> None:
    """The newcomer is asked to hold it all at once."""
    node = Node()
    node.install(V2, (1, 3), 1)
    node.marks()
    node.part(V2, b"x", size=4001)
    assert node.marks() == [StateTooLarge(donor=1, size=4001)]
    node.part(V2, bytes(4000))
    assert node.marks() == [StateArrived(view_id=V2, state=bytes(4000))]


def test_whoever_needs_no_state_asks_in_vain() -> None:
    """A member that continues, a stranger, or one that asks for a view before."""
    node = Node()
    node.install(V1, (), 0)
    node.install(V2, (2, 3), 2)
    node.state.give(V2, b"state")
    for sender, view_id in ((3, V2), (1, V1)):
        node.state.asked(sender, StateAsk(view_id=view_id, offset=0, size=9, again=False))
    assert node.parts.outputs.counters["state_asked_in_vain"] == 2
    node.state.asked(1, StateAsk(view_id=V2, offset=9, size=9, again=True))
    assert node.parts.outputs.counters["state_parts_sent"] == 2
