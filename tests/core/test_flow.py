"""Windows and queues: one slow reader stops its lane, memory stays bounded."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from phalanx.transport.config import MS, Limits
from phalanx.transport.core.carrying import Carrying
from phalanx.transport.core.outputs import Room, Settled, Transmit
from phalanx.transport.drivers.base import Stream, Writable
from phalanx.transport.drivers.simulator import SimulatedDriver
from phalanx.transport.events import Lane
from phalanx.transport.testing.simulation import Simulation

from .scenes import Talk, casting, converge, finish, payloads, started

LIMITS = Limits(
    message_bytes_max=256 << 10,
    batch_bytes=4 << 10,
    bulk_batch_bytes=4 << 10,
    window_bytes=64 << 10,
    queue_bytes=64 << 10,
    bulk_in_flight_bytes=16 << 10,
)


def fill(simulation: Simulation, node: int, lane: Lane, most: int = 1000) -> int:
    """Send until there is no room any more; returns how many messages went in."""
    sender = simulation.nodes[node]
    for count in range(most):
        if not sender.send(b"%d on %d of %d" % (count, lane, node) + bytes(1000), lane):
            return count
        simulation.run_for(MS // 10)
    return most


@pytest.mark.parametrize("lane", [Lane.FIFO, Lane.ORDERED, Lane.BULK])
def test_a_member_that_does_not_read_stops_its_lane_and_no_other(lane: Lane) -> None:
    """A full window stops the sender of that lane, never other lanes, control or views."""
    simulation = started(limits=LIMITS)
    slow = simulation.nodes[3]
    slow.endpoint.freeze(lane, frozen=True, now_ns=slow.clock())
    count = fill(simulation, 1, lane)
    window = LIMITS.window_bytes + LIMITS.queue_bytes + LIMITS.batch_bytes
    assert 60 < count < window // 1000 + 10
    talk = Talk(simulation)
    others = [other for other in (Lane.FIFO, Lane.ORDERED, Lane.BULK) if other is not lane]
    sent = [talk.say(simulation.nodes[node], other) for node in (1, 2) for other in others]
    simulation.run_for(50 * MS)
    for node in simulation.nodes.values():
        assert set(sent) <= set(payloads(node))
    assert simulation.agreed_on(1, 2, 3)
    slow.endpoint.freeze(lane, frozen=False, now_ns=slow.clock())
    slow.wake_soon()
    simulation.run_for(200 * MS)
    assert [room.lane for room in simulation.nodes[1].told(Room)] == [lane]
    finish(simulation)


def test_a_view_change_does_not_wait_for_a_reader() -> None:
    """The member that does not read is frozen still in the next view, and nothing is lost."""
    simulation = started(limits=LIMITS)
    slow = simulation.nodes[3]
    slow.endpoint.freeze(Lane.FIFO, frozen=True, now_ns=slow.clock())
    fill(simulation, 1, Lane.FIFO)
    simulation.nodes[2].kill()
    assert converge(simulation, 1, 3) < 50 * MS
    slow.endpoint.freeze(Lane.FIFO, frozen=False, now_ns=slow.clock())
    slow.wake_soon()
    finish(simulation)


def test_view_changes_do_not_fill_a_reader_that_does_not_read() -> None:
    """Each view begins with fresh windows: the senders know before that it takes nothing."""
    simulation = started(limits=LIMITS)
    slow = simulation.nodes[3]
    slow.endpoint.freeze(Lane.FIFO, frozen=True, now_ns=slow.clock())
    fill(simulation, 1, Lane.FIFO)
    got = len(payloads(slow))
    for _ in range(4):
        simulation.nodes[2].kill()
        converge(simulation, 1, 3)
        fill(simulation, 1, Lane.FIFO)
        simulation.nodes[2].start()
        converge(simulation, 1, 2, 3)
        fill(simulation, 1, Lane.FIFO)
        fill(simulation, 2, Lane.FIFO)
    assert len(payloads(slow)) == got, "nothing is granted"
    slow.endpoint.freeze(Lane.FIFO, frozen=False, now_ns=slow.clock())
    slow.wake_soon()
    finish(simulation)
    assert len(payloads(slow)) > got


def test_what_is_accepted_for_a_node_that_is_gone_is_reported_by_name() -> None:
    """A sender that waited for room may come too late; its message meets nobody else by mistake."""
    simulation = started(limits=LIMITS)
    sender = simulation.nodes[1]
    simulation.nodes[3].kill()
    converge(simulation, 1, 2)
    token = sender.send(b"late", addressee=3)
    assert token
    simulation.run_for(10 * MS)
    [fate] = [item for item in sender.told(Settled) if item.addressee == 3]
    assert (fate.token, fate.missing) == (token, {3: "not a member of the view"})
    simulation.nodes[3].start()
    converge(simulation, 1, 2, 3)
    again = sender.send(b"again", addressee=3)
    simulation.run_for(10 * MS)
    assert payloads(simulation.nodes[3]) == [b"again"]
    fate = [item for item in sender.told(Settled) if item.addressee == 3][-1]
    assert (fate.token, fate.missing) == (again, {})
    finish(simulation)


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("lane", [Lane.FIFO, Lane.ORDERED, Lane.BULK])
def test_batches_that_all_hold_are_forgotten(nodes: int, lane: Lane) -> None:
    """Whoever runs for a year must not keep every message of it."""
    simulation = started(nodes)
    for count in range(500):
        for node in simulation.nodes.values():
            node.send(b"%d of %d" % (count, node.id), lane)
        simulation.run_for(MS)
    simulation.run_for(100 * MS)
    for node in simulation.nodes.values():
        delivery = node.endpoint.delivery
        assert sum(len(stream.kept) for stream in delivery.ins.values()) <= 8
        assert sum(len(stream.waiting) for stream in delivery.ins.values()) == 0
        assert sum(len(stream.sent) for stream in delivery.out.values()) == 0
        assert len(delivery.epochs.own_ends) <= 16
    finish(simulation)


def test_what_ends_tell_is_acknowledged_by_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """While epochs follow each other; of the last one an acknowledgement says that it is here."""
    simulation = casting(3)
    talk, one = Talk(simulation), simulation.nodes[1]
    acknowledge, told = Carrying.acknowledge, list[bytes]()

    def counted(self: Carrying, common: bytes, own: Mapping[int, bytes]) -> None:
        told.append(common)
        acknowledge(self, common, own)

    monkeypatch.setattr(Carrying, "acknowledge", counted)
    for _ in range(100):
        talk.say(one, Lane.ORDERED)
        simulation.run_for(MS // 2)
    assert told == []
    simulation.run_for(5 * MS)
    assert len(told) == 2, "of each of the others"
    assert not one.endpoint.delivery.out[0, Lane.ORDERED].sent
    finish(simulation)


def test_what_one_peer_cannot_take_is_bounded_and_the_others_go_on() -> None:
    """A node whose cable is gone holds up nobody for longer than its lease, and no memory."""
    simulation = started(limits=LIMITS)
    simulation.cut_pair(1, 3)
    fill(simulation, 1, Lane.FIFO)
    sender = simulation.nodes[1].endpoint
    kept = sum(
        len(sent.frame) for stream in sender.delivery.out.values() for sent in stream.sent.values()
    )
    assert kept < LIMITS.window_bytes + 2 * LIMITS.batch_bytes
    assert sender.peers.peers[3].backlog_bytes < LIMITS.link_backlog_bytes
    converge(simulation, 1, 2)
    assert Talk(simulation).say(simulation.nodes[1]) is not None
    finish(simulation)


@pytest.mark.parametrize("size", [0, 4 << 10, (4 << 10) + 1, 256 << 10])
@pytest.mark.parametrize("lane", [Lane.FIFO, Lane.ORDERED, Lane.BULK])
def test_messages_of_every_size_arrive_on_every_lane(lane: Lane, size: int) -> None:
    """At the size of a batch, one past it, and at the largest message."""
    simulation = started(limits=LIMITS)
    payload = bytes(size)
    simulation.nodes[1].send(payload, lane)
    simulation.run_for(200 * MS)
    for node in simulation.nodes.values():
        assert payloads(node) == [payload]


def test_the_largest_message_of_the_default_limits_arrives() -> None:
    """16 MiB, in pieces, through a window of one."""
    simulation = started()
    payload = bytes(range(256)) * (16 << 12)
    assert len(payload) == simulation.config.limits.message_bytes_max
    simulation.nodes[1].send(payload)
    simulation.nodes[1].send(payload[:-1], addressee=2)
    simulation.run_for(500 * MS)
    assert payloads(simulation.nodes[2]).count(payload) == 1
    assert payloads(simulation.nodes[2]).count(payload[:-1]) == 1
    assert payloads(simulation.nodes[3]) == [payload]


def test_what_waits_for_room_is_not_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be room again before anybody has said so, and control has its order as well."""
    simulation = started()
    node = simulation.nodes[1]
    pump, endpoint, driver = node.pump, node.endpoint, node.driver
    assert pump is not None
    assert isinstance(driver, SimulatedDriver)
    link = endpoint.peers.peers[2].link
    ours, sent, room = (b"first", b"second", b"third"), list[bytes](), False
    transmit = driver.transmit

    def narrow(to: int, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        if frame not in ours:
            return transmit(to, stream, frame, rail=rail)
        if room:
            sent.append(frame)
        return room

    monkeypatch.setattr(driver, "transmit", narrow)
    for frame in ours[:2]:
        endpoint.outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))
        pump.turn()
        room = True
    assert not sent
    endpoint.outputs.transmits.append(Transmit(link, Stream.CONTROL, ours[2]))
    endpoint.notice(Writable(link=link), node.clock())
    pump.turn()
    assert sent == list(ours)
