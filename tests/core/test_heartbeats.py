"""Most heartbeats are datagrams, and what they say is still true of the association."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from phalanx._native import codec
from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core.framing import HEADER_BYTES
from phalanx.transport.core.hearing import ASK_INTERVALS, TRUST_INTERVALS
from phalanx.transport.core.heartbeats import TOGETHER_AFTER
from phalanx.transport.core.paths import CAST_IN_A_ROW
from phalanx.transport.drivers.simulator import SimulatedDriver
from phalanx.transport.events import Member, PathChanged, RailState
from phalanx.transport.testing.simulation import Simulation, simulated_config
from phalanx.transport.wire_probe import Probe, decode_probes

from .scenes import casting, converge

SETTLED_NS = 600 * MS
"""By then everybody knows where datagrams arrive."""


def started(nodes: int) -> Simulation:
    """A cluster whose heartbeats go as they do when all is well."""
    simulation = Simulation(simulated_config(nodes, rails=("a", "b")))
    simulation.start_all()
    converge(simulation, *simulation.nodes)
    simulation.run_for(SETTLED_NS)
    return simulation


def heartbeats(simulation: Simulation, duration_ns: int) -> Counter[str]:
    """How many are sent in that time, by carrier; echoes too."""
    found: Counter[str] = Counter()

    def count(_source: int, _target: int, frame: bytes, rail: str | None) -> None:
        header = codec.decode_frame(frame, codec.cluster_id(simulation.config.name))
        if not isinstance(header, codec.FrameError) and header.kind == wire.Kind.PROBE:
            found["datagrams" if rail is None else "association"] += 1

    simulation.network.watches.append(count)
    simulation.run_for(duration_ns)
    simulation.network.watches.remove(count)
    return found


def changes(simulation: Simulation, since_ns: int) -> dict[int, list[tuple[str, RailState]]]:
    """What each node was told of its paths since then."""
    return {
        node.id: [
            (item.rail, item.state)
            for at_ns, item in node.life.history
            if isinstance(item, PathChanged) and at_ns >= since_ns
        ]
        for node in simulation.nodes.values()
    }


class Deaf:
    """Swallows what goes over the association on one rail, and no datagram."""

    def __init__(self, driver: SimulatedDriver, rail: str) -> None:
        self._transmit, self._rail = driver.transmit, rail
        driver.transmit = self.transmit

    def transmit(self, link: int, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        """Swallow or pass on."""
        return rail == self._rail or self._transmit(link, stream, frame, rail=rail)


def test_one_of_a_few_heartbeats_goes_over_the_association() -> None:
    """The others cost a third of it."""
    found = heartbeats(started(2), 2000 * MS)
    share = found["association"] / found.total()
    assert found.total() >= 2 * 2 * 2 * 35
    assert abs(share - 1 / (CAST_IN_A_ROW + 1)) < 0.03


def test_where_datagrams_do_not_arrive_nobody_is_taken_for_silent() -> None:
    """A firewall that drops them costs processor time, and nothing else."""
    simulation = started(3)
    now_ns = simulation.network.now_ns
    for source, target in ((1, 2), (2, 1), (3, 1)):
        simulation.network.block_datagrams(source, target)
    blocked = heartbeats(simulation, 3000 * MS)
    assert blocked["association"] > blocked["datagrams"]
    assert changes(simulation, now_ns) == {1: [], 2: [], 3: []}
    assert all(len(node.view.members) == 3 for node in simulation.nodes.values() if node.view)


@pytest.mark.parametrize("tried", [False, True])
def test_a_path_that_carries_datagrams_alone_is_found_down(tried: bool) -> None:
    """Data would be sent over it when the other rail fails; a datagram on trial is no help."""
    simulation = started(2)
    timing = simulation.config.timing
    if tried:
        simulation.network.block_datagrams(1, 2)
        simulation.run_for((TRUST_INTERVALS + 1) * timing.heartbeat_ns)
        simulation.network.pass_datagrams(1, 2)
    now_ns = simulation.network.now_ns
    for node in simulation.nodes.values():
        assert isinstance(node.driver, SimulatedDriver)
        Deaf(node.driver, "b")
    simulation.run_for((CAST_IN_A_ROW + 1) * timing.heartbeat_ns + 3 * timing.path_suspect_ns)
    states = [("b", RailState.SUSPECT), ("b", RailState.DOWN)]
    assert changes(simulation, now_ns) == {1: states, 2: states}
    simulation.run_for(2000 * MS)
    assert changes(simulation, now_ns) == {1: states, 2: states}, "datagrams bring it back"


def test_datagrams_are_used_again_when_they_arrive_again() -> None:
    """A firewall that was closed for a while costs nothing when it is open."""
    simulation = started(2)
    timing = simulation.config.timing
    simulation.network.block_datagrams(1, 2)
    simulation.run_for((TRUST_INTERVALS + 1) * timing.heartbeat_ns)
    simulation.network.pass_datagrams(1, 2)
    simulation.run_for((ASK_INTERVALS + 1) * timing.heartbeat_ns)
    found = heartbeats(simulation, 2000 * MS)
    assert found["datagrams"] > 2 * found["association"]


def test_a_heartbeat_on_another_rail_than_it_names_is_garbage() -> None:
    """It would say of one rail what is true of another."""
    simulation = started(2)
    one, two = simulation.nodes[1].endpoint, simulation.nodes[2].endpoint
    now_ns = simulation.network.now_ns
    frame = two.framer.probes([Probe(rail=1, sent_ns=1, view_id=wire.NO_VIEW)])
    one.outputs.casts.clear()
    one.receive_datagram(2, "a", frame, now_ns)
    one.settle(now_ns)
    assert one.outputs.counters["malformed_probe"] == 1
    assert not one.outputs.casts
    one.receive_datagram(2, "b", frame, now_ns)
    one.settle(now_ns)
    assert [cast.rail for cast in one.outputs.casts] == ["b"]


def test_a_datagram_counts_only_at_its_addressee_and_from_who_sent_it() -> None:
    """As over an association: whose frame it is stands in its header."""
    simulation = casting(3)
    one, two, three = (simulation.nodes[n].endpoint for n in (1, 2, 3))
    ours = [Probe(rail=0, sent_ns=1, view_id=wire.NO_VIEW)]
    theirs = [Probe(rail=0, sent_ns=1, view_id=wire.NO_VIEW, addressee=3)]
    now_ns = simulation.network.now_ns
    one.outputs.casts.clear()
    one.receive_datagram(2, "a", two.framer.probes(theirs), now_ns)
    one.receive_datagram(2, "a", three.framer.probes(ours), now_ns)
    one.settle(now_ns)
    assert one.outputs.counters["datagram_of_other_node"] == 1
    assert not one.outputs.casts
    one.receive_datagram(2, "a", two.framer.probes(ours), now_ns)
    one.settle(now_ns)
    assert [cast.nodes for cast in one.outputs.casts] == [(2,)]


def test_all_nodes_send_their_heartbeats_in_the_same_moment() -> None:
    """Each would otherwise be woken by every other one at another time."""
    simulation = started(5)
    timing = simulation.config.timing
    sent: dict[int, set[int]] = {node: set() for node in simulation.nodes}

    def note(source: int, target: int, frame: bytes, _rail: str | None) -> None:
        header = codec.decode_frame(frame, codec.cluster_id(simulation.config.name))
        if not isinstance(header, codec.FrameError) and header.kind == wire.Kind.PROBE:
            probes = decode_probes(frame, header.body_offset, target) or ()
            if any(not probe.echo for probe in probes):
                sent[source].add(simulation.network.now_ns)

    simulation.network.watches.append(note)
    simulation.run_for(20 * timing.heartbeat_ns)
    rounds = [sorted(times) for times in sent.values()]
    assert {len(times) for times in rounds} == {20}
    for times in zip(*rounds, strict=True):
        assert max(times) - min(times) < 5 * MS
    for times in rounds:
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert max(gaps) <= timing.heartbeat_ns + 2 * MS
        assert min(gaps) >= timing.heartbeat_ns * TOGETHER_AFTER // 100


def test_what_several_have_asked_is_answered_with_one_frame() -> None:
    """And with it go the own heartbeats, if it is time for them."""
    simulation = started(4)
    one, interval_ns = simulation.nodes[1].endpoint, simulation.config.timing.heartbeat_ns
    simulation.run_for(interval_ns)  # the next ones do not go over the association
    now_ns = simulation.network.now_ns + interval_ns // 2
    one.outputs.casts.clear()
    for node in (2, 3, 4):
        asked = [Probe(rail=0, sent_ns=node, view_id=wire.NO_VIEW)]
        frame = simulation.nodes[node].endpoint.framer.probes(asked)
        one.receive_datagram(node, "a", frame, now_ns)
    one.wake(now_ns)
    casts = [cast for cast in one.outputs.casts if cast.rail == "a"]
    assert len(casts) == 1
    assert sorted(casts[0].nodes) == [2, 3, 4]
    for node in (2, 3, 4):
        told = decode_probes(casts[0].frame, HEADER_BYTES, node)
        assert told is not None
        assert [(it.echo, it.sent_ns) for it in told] == [(False, now_ns), (True, node)]


def test_who_has_closed_the_view_meanwhile_grants_nothing() -> None:
    """The answer waits for the end of the turn, in which the view may be closed."""
    simulation = started(3)
    one = simulation.nodes[1].endpoint
    assert one.view is not None
    now_ns = simulation.network.now_ns
    asked = [Probe(rail=0, sent_ns=1, view_id=one.view.id)]
    for closed, granted in ((0, True), (one.view.id.k + 1, False)):
        one.outputs.casts.clear()
        frame = simulation.nodes[2].endpoint.framer.probes(asked)
        one.receive_datagram(2, "a", frame, now_ns)
        one.standing.closed_for = closed
        one.heartbeats.send()
        answers = decode_probes(one.outputs.casts[0].frame, HEADER_BYTES, 2)
        assert answers is not None
        assert [answer.granted for answer in answers if answer.echo] == [granted]


def test_who_is_to_be_left_out_since_this_turn_is_granted_nothing() -> None:
    """What the turn has brought is looked at first: by it the answer is given, or is not."""
    simulation = started(3)
    one, two = simulation.nodes[1].endpoint, simulation.nodes[2].endpoint
    assert one.view is not None
    now_ns = simulation.network.now_ns
    for slow, granted in ((set[Member](), True), ({two.me}, False)):
        one.outputs.casts.clear()
        frame = two.framer.probes([Probe(rail=0, sent_ns=1, view_id=one.view.id)])
        one.receive_datagram(2, "a", frame, now_ns)
        one.gather.slow, one.changed = slow, True
        one.settle(now_ns)
        answers = decode_probes(one.outputs.casts[0].frame, HEADER_BYTES, 2)
        assert answers is not None
        assert [answer.granted for answer in answers if answer.echo] == [granted]
        assert one.gather.stopped == {member.node for member in slow}
