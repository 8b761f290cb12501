"""Datagrams and meetings on whole nodes: few frames if all is well, nothing lost if it is not."""

from __future__ import annotations

from collections import Counter

import pytest

from phalanx._native import codec
from phalanx.barrier.testing.meetings import arrive
from phalanx.transport import wire
from phalanx.transport.config import MS
from phalanx.transport.core import casting as casting_module
from phalanx.transport.core import spread
from phalanx.transport.core.batches import Arrived
from phalanx.transport.core.casting import FAILURES_MAX
from phalanx.transport.core.framing import HEADER_BYTES, unbundle
from phalanx.transport.core.meetings import Meetings
from phalanx.transport.core.outputs import Delivered, Ordered
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.events import Lane
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome
from phalanx.transport.testing.simulation import SimulatedNode, Simulation
from phalanx.transport.wire_data import Data, Meeting

from .scenes import Talk, casting, finish

EVERYBODY = (1 << 64) - 1


def meet(simulation: Simulation, limit_ns: int) -> tuple[int, Counter[str]]:
    """All arrive at once; returns how long it takes, and the frames of the ordered lane."""
    frames: Counter[str] = Counter()

    def tap(_source: int, frame: bytes) -> None:
        kind = codec.decode_frame(frame, codec.cluster_id(simulation.config.name))
        assert not isinstance(kind, codec.FrameError)
        if kind.kind in (wire.Kind.DATA, wire.Kind.BUNDLE, wire.Kind.ROLL):
            frames[wire.Kind(kind.kind).name] += 1
        elif kind.kind == wire.Kind.CONTROL:
            message = wire.decode_control(memoryview(frame)[HEADER_BYTES:])
            if isinstance(message, wire.End):
                frames["END"] += 1

    before = {node.id: len(node.told(Outcome)) for node in simulation.nodes.values()}
    for node in simulation.nodes.values():
        arrive(node, "x", None)
    simulation.network.tap = tap
    took_ns = simulation.run_until(
        lambda: all(len(n.told(Outcome)) > before[n.id] for n in simulation.nodes.values()),
        limit_ns,
    )
    simulation.network.tap = None
    return took_ns, frames


def end(simulation: Simulation) -> None:
    """All were released, and every guarantee held."""
    assert all(o.verdict == "released" for n in simulation.nodes.values() for o in n.told(Outcome))
    finish(simulation, BARRIERS)


def test_a_barrier_of_three_is_one_datagram_from_each_to_each() -> None:
    """No END of its own, no acknowledgement, one way."""
    simulation = casting(3)
    for _ in range(20):
        took_ns, frames = meet(simulation, 5 * MS)
        assert frames == {"DATA": 6}
        assert took_ns < 2 * simulation.network.options.delay_ns
    assert not any(n.endpoint.outputs.counters["recasts"] for n in simulation.nodes.values())
    end(simulation)


@pytest.mark.parametrize("nodes", [4, 8])
def test_beyond_a_few_one_tells_the_others(nodes: int) -> None:
    """Two ways, and 2 (n - 1) frames; each is a batch of the agreed order all the same."""
    assert spread.choose(nodes, nodes) is spread.Kind.COORDINATOR
    simulation = casting(nodes)
    for _ in range(5):
        took_ns, frames = meet(simulation, 5 * MS)
        assert frames == {"DATA": nodes - 1, "ROLL": nodes - 1}
        assert took_ns < 4 * simulation.network.options.delay_ns
    end(simulation)


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("lost", [0.05, 0.5])
def test_what_is_lost_goes_again_over_the_association(nodes: int, lost: float) -> None:
    """A datagram is a hint that it will be there sooner, and nothing relies on it."""
    simulation = casting(nodes, DatagramTrouble(lost=lost, doubled=0.2, late=0.2))
    for _ in range(20):
        meet(simulation, 400 * MS)
    talk = Talk(simulation)
    talk.everybody(50 * MS)
    end(simulation)


@pytest.mark.parametrize("way", [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_all_learn_what_all_hold_though_what_was_said_of_it_is_lost(way: tuple[int, int]) -> None:
    """Nobody says anything more, so that nothing else would tell: it is asked for."""
    simulation = casting(3)
    meet(simulation, 50 * MS)
    simulation.run_for(300 * MS)
    simulation.network.block_datagrams(*way)
    simulation.nodes[1].send(b"safe", Lane.ORDERED, safe=True)
    simulation.run_for(200 * MS)
    orders = [node.endpoint.delivery.epochs for node in simulation.nodes.values()]
    assert {(order.complete, order.stable) for order in orders} == {(2, 2)}
    simulation.network.pass_datagrams(*way)
    end(simulation)


def test_where_no_datagram_arrives_none_is_sent() -> None:
    """A firewall is found out before anything is sent, and again when it begins to bite."""
    simulation = casting(3, DatagramTrouble(lost=1.0))
    assert all(not node.endpoint.casting.rails for node in simulation.nodes.values())
    took_ns, _ = meet(simulation, 20 * MS)
    assert took_ns < 10 * MS
    simulation = casting(3)
    assert all(len(node.endpoint.casting.rails) == 2 for node in simulation.nodes.values())
    simulation.network.block_datagrams(1, 2)
    for _ in range(FAILURES_MAX + 1):  # Once over one rail, and then over the other.
        meet(simulation, 600 * MS)
    assert 2 not in simulation.nodes[1].endpoint.casting.rails
    took_ns, _ = meet(simulation, 20 * MS)
    assert took_ns < 10 * MS
    simulation.network.pass_datagrams(1, 2)
    simulation.run_for(1000 * MS)
    assert 2 in simulation.nodes[1].endpoint.casting.rails
    end(simulation)


def test_who_never_comes_costs_a_moment_and_no_more() -> None:
    """The epoch is left open for those who are expected, but nobody else waits for it."""
    simulation = casting(3)
    lazy_ns = simulation.config.timing.lazy_end_ns
    arrive(simulation.nodes[1], "x", None)
    simulation.run_for(lazy_ns // 2)
    assert simulation.nodes[2].endpoint.delivery.epochs.lazy
    simulation.nodes[3].send(b"urgent", Lane.ORDERED)
    simulation.run_for(2 * MS)
    assert not simulation.nodes[2].endpoint.delivery.epochs.lazy
    arrive(simulation.nodes[1], "y", None)
    simulation.run_for(lazy_ns + 2 * MS)
    assert not any(node.endpoint.delivery.epochs.lazy for node in simulation.nodes.values())
    assert not any(stream.waiting for stream in simulation.nodes[2].endpoint.delivery.ins.values())
    for node in simulation.nodes.values():
        for name in ("x", "y"):
            arrive(node, name, None)
    simulation.run_for(5 * MS)
    end(simulation)


# ------------------------------------------------------------------------------ large batches


LARGE = 16_000
"""Of a message: many packets, and less than a batch of either lane."""


def cast_bytes(node: SimulatedNode) -> int:
    """What a node has sent as datagrams."""
    assert node.datagrams is not None, "it has some in every scene here"
    return node.datagrams.stats()["bytes_sent"]


def in_flight(simulation: Simulation, lane: Lane) -> list[int]:
    """What the first node has on its way to each of the others on a lane."""
    stream = simulation.nodes[1].endpoint.delivery.out[0, lane]
    return [stream.in_flight_bytes(node) for node in stream.progress]


@pytest.mark.parametrize("lane", [Lane.ORDERED, Lane.BULK])
def test_a_large_batch_is_a_datagram_to_each(lane: Lane) -> None:
    """No association carries it: its packets are the driver's business."""
    simulation = casting(3)
    node = simulation.nodes[1]
    before = cast_bytes(node)
    Talk(simulation).say(node, lane, size=LARGE)
    simulation.run_for(1 * MS)
    assert 2 * LARGE < cast_bytes(node) - before < 2 * LARGE + 5000
    assert simulation.nodes[2].told(Delivered if lane is Lane.BULK else Ordered)
    simulation.run_for(100 * MS)
    assert node.endpoint.outputs.counters["recasts"] == 0
    assert in_flight(simulation, lane) == [0, 0]
    finish(simulation)


@pytest.mark.parametrize("lane", [Lane.ORDERED, Lane.BULK])
def test_so_many_bytes_are_on_their_way_and_more_when_all_arrive(lane: Lane) -> None:
    """The window to a peer opens while it is full, up to its end."""
    simulation = casting(3)
    node, talk = simulation.nodes[1], Talk(simulation)
    casting_to = node.endpoint.casting
    first = casting_module.WINDOW_FIRST_BYTES
    for _ in range(50):
        talk.say(node, lane, size=LARGE)
    simulation.run_for(100_000)
    # Batches are taken whole.
    batch = simulation.config.limits.batch_bytes
    assert all(first - batch < flying <= first for flying in in_flight(simulation, lane))
    for _ in range(20):
        simulation.run_for(50 * MS)
        for _ in range(50):
            talk.say(node, lane, size=LARGE)
    bulk_most = simulation.config.limits.bulk_in_flight_bytes
    most = casting_module.WINDOW_MOST_BYTES if lane is Lane.ORDERED else bulk_most
    assert casting_to.window_bytes(2) == most
    assert node.endpoint.outputs.counters["recasts"] == 0
    finish(simulation)


@pytest.mark.parametrize("lane", [Lane.ORDERED, Lane.BULK])
def test_large_batches_that_are_lost_come_over_the_association(lane: Lane) -> None:
    """Less is on its way then, and what is behind waits for what is missing."""
    simulation = casting(3)
    node, talk = simulation.nodes[1], Talk(simulation)
    simulation.network.block_datagrams(1, 2)
    for _ in range(4):
        talk.say(node, lane, size=LARGE)
    simulation.run_for(60 * MS)
    assert node.endpoint.outputs.counters["recasts"] == 1
    assert node.endpoint.casting.window_bytes(2) == casting_module.WINDOW_FIRST_BYTES // 2
    assert node.endpoint.casting.window_bytes(3) == casting_module.WINDOW_FIRST_BYTES
    assert in_flight(simulation, lane) == [0, 0]
    simulation.network.pass_datagrams(1, 2)
    finish(simulation)


def test_bulk_to_one_member_goes_as_datagrams_and_is_mended_over_the_association() -> None:
    """Small and large, and in its order; what is behind a loss waits for it."""
    simulation = casting(3)
    node, talk = simulation.nodes[1], Talk(simulation)
    said = [talk.say(node, Lane.BULK, 2, size) for size in (10, LARGE, 20)]
    simulation.run_for(10 * MS)
    assert directed(simulation.nodes[2]) == said
    assert not node.endpoint.outputs.counters["recasts"]
    simulation.network.block_datagrams(1, 2)
    said += [talk.say(node, Lane.BULK, 2, size) for size in (10, LARGE)]
    simulation.run_for(10 * MS)
    assert len(directed(simulation.nodes[2])) == 3
    simulation.run_for(60 * MS)
    assert directed(simulation.nodes[2]) == said
    assert node.endpoint.outputs.counters["recasts"] >= 1
    assert directed(simulation.nodes[3]) == []
    simulation.network.pass_datagrams(1, 2)
    finish(simulation)


@pytest.mark.parametrize("multicast", [False, True])
@pytest.mark.parametrize("lost", [0.05, 0.4])
def test_bulk_to_one_member_survives_loss_among_bulk_to_all(lost: float, multicast: bool) -> None:
    """Also where what goes to all goes to a group."""
    trouble = DatagramTrouble(lost=lost, doubled=0.2, late=0.2)
    simulation = casting(3, trouble, multicast=multicast)
    talk = Talk(simulation)
    said: list[bytes] = []
    for turn in range(30):
        for node in simulation.nodes.values():
            talk.say(node, Lane.BULK, size=turn * 300)
        said.append(talk.say(simulation.nodes[1], Lane.BULK, 3, turn * 700))
        simulation.run_for(2 * MS)
    simulation.run_for(2000 * MS)
    assert directed(simulation.nodes[3]) == said
    finish(simulation)


def directed(node: SimulatedNode) -> list[bytes]:
    """What was sent to this node alone, in the order in which it was told."""
    return [p for item in node.told(Delivered) if item.directed for p in item.payloads]


@pytest.mark.parametrize("lost", [0.05, 0.5])
def test_large_batches_survive_loss_and_disorder(lost: float) -> None:
    """On both lanes at once, at all members."""
    simulation = casting(3, DatagramTrouble(lost=lost, doubled=0.2, late=0.2))
    talk = Talk(simulation)
    for _ in range(40):
        for node in simulation.nodes.values():
            for lane in (Lane.ORDERED, Lane.BULK):
                talk.say(node, lane, size=LARGE)
        simulation.run_for(10 * MS)
    finish(simulation)


# ---------------------------------------------------------------------------------- meetings


def batch(origin: int, sequence: int, meeting: Meeting, size: int = 10) -> Arrived:
    """A batch of a meeting."""
    data = Data(1, 1, origin, 0, Lane.ORDERED, 0, 1, sequence, 0, 0, "!x", 0, 0, meeting)
    return Arrived(data, bytes([origin]) * size, 0)


def test_the_relay_waits_for_as_many_as_meet() -> None:
    """Members that are none of them do not count, nor does another meeting."""
    relay = Meetings(members=range(1, 9), node=1)
    meeting, other = Meeting(7, 3, EVERYBODY), Meeting(8, 3, EVERYBODY)
    assert relay.heard(meeting, 2, 1, batch(2, 1, meeting)) == ()
    assert relay.heard(other, 3, 1, batch(3, 1, other)) == ()
    assert relay.said(meeting, 1, batch(1, 1, meeting)) == ()
    [bundle] = relay.heard(meeting, 4, 1, batch(4, 1, meeting))
    assert list(bundle.nodes) == [2, 3, 4, 5, 6, 7, 8]
    assert [body[0] for body in bundle.bodies] == [1, 2, 4]
    assert relay.relaying
    [rest] = relay.give_up()
    assert [body[0] for body in rest.bodies] == [3]
    assert not relay.relaying


def test_what_somebody_waits_for_is_passed_on_at_once() -> None:
    """An epoch may hold up the messages of others."""
    relay = Meetings(members=range(1, 9), node=1)
    meeting = Meeting(7, 8, EVERYBODY)
    relay.heard(meeting, 2, 5, batch(2, 1, meeting))
    assert relay.asked(4) == []
    [bundle] = relay.asked(5)
    assert [body[0] for body in bundle.bodies] == [2]
    # Whoever comes later is passed on with the last, without those who were.
    for origin in range(3, 9):
        assert relay.heard(meeting, origin, 6, batch(origin, 1, meeting)) == ()
    last = relay.said(meeting, 6, batch(1, 1, meeting))
    assert last is not None
    assert [body[0] for body in last[0].bodies] == [1, 3, 4, 5, 6, 7, 8]


def test_large_batches_go_from_each_to_each() -> None:
    """One would carry the load of all."""
    meeting = Meeting(7, 8, EVERYBODY)
    member = Meetings(members=range(1, 9), node=3)
    assert member.said(meeting, 1, batch(3, 1, meeting, size=2000)) is None
    small = member.said(Meeting(8, 8, EVERYBODY), 1, batch(3, 2, meeting))
    assert small is not None
    assert [list(bundle.nodes) for bundle in small] == [[1]]
    assert small[0].frame == bytes([3]) * len(small[0].frame), "its own goes as it is"


def test_who_has_spoken_is_not_expected_again() -> None:
    """What comes late has nobody to wait for."""
    meetings = Meetings(members=(1, 2, 3), node=2)
    first = Meeting(7, 3, EVERYBODY)
    assert meetings.expects(first)
    assert not meetings.expects(Meeting(9, 1, 0b101))
    meetings.said(first, 1, batch(2, 1, first))
    assert not meetings.expects(first)


def test_a_bundle_is_its_bodies_or_nothing() -> None:
    """What is cut short is refused."""
    simulation = casting(2)
    framer = simulation.nodes[1].endpoint.framer
    bodies = [b"a", b"", b"c" * 1000]
    frame = framer.bundle(bodies)
    assert unbundle(frame, HEADER_BYTES) == bodies
    assert unbundle(frame[:-1], HEADER_BYTES) is None
    assert unbundle(frame + b"\0", HEADER_BYTES) is None
