"""Rolls: the batches that they stand for and no others, at once or one by one, and never lost."""

from __future__ import annotations

import pytest

from phalanx.barrier.testing.meetings import arrive
from phalanx.transport import wire_data
from phalanx.transport.config import MS
from phalanx.transport.core import rolls
from phalanx.transport.core.delivery import Delivery
from phalanx.transport.core.outputs import Ordered
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.events import Lane, ViewId
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome
from phalanx.transport.testing.simulation import Simulation
from phalanx.transport.wire_data import Meeting, StreamKey, encode_data
from phalanx.transport.wire_roll import ROWS_MAX, Roll, decode_roll, encode_roll

from .scenes import Talk, casting, finish

MEETING = Meeting(7, 3, 0b111)


def body(
    origin: int, sequence: int, *, done: int = 4, text: bytes = b"same", lane: Lane = Lane.ORDERED
) -> bytes:
    """What a member says at a meeting."""
    head = encode_data(
        ViewId(1, 3),
        StreamKey(origin, 0, lane),
        flags=wire_data.END,
        epoch=5,
        sequence=sequence,
        mark_fifo=10 * origin,
        mark_bulk=20 * origin,
        channel=b"!barrier",
        done=done,
        meeting=MEETING,
    )
    return head + text


# --------------------------------------------------------------------------------- on the wire


def test_a_roll_is_the_bodies_that_it_was_made_of() -> None:
    """Whose each is, and its numbers, are all in which they differ."""
    bodies = [body(1, 8), body(3, 2, done=3), body(2**32 - 1, 2**64 - 1)]
    encoded = encode_roll(bodies)
    assert encoded is not None
    frame = b"header" + encoded
    roll = decode_roll(frame, 6)
    assert roll is not None
    assert roll.bodies() == bodies
    assert roll.body_of(roll.rows[1]) == bodies[1]
    assert (roll.data.origin, roll.data.sequence, roll.data.meeting) == (1, 8, MEETING)
    assert len(frame) < sum(map(len, bodies))


@pytest.mark.parametrize(
    "bodies",
    [
        [body(1, 1), body(2, 1, text=b"other")],
        [body(1, 1), body(2, 1, text=b"same and more")],
        [body(1, 1, lane=Lane.FIFO), body(2, 1, lane=Lane.FIFO)],
        [body(origin, 1) for origin in range(1, ROWS_MAX + 2)],
    ],
)
def test_what_differs_in_more_is_no_roll(bodies: list[bytes]) -> None:
    """It goes as a bundle."""
    assert encode_roll(bodies) is None


def test_what_is_cut_short_is_refused_or_is_one_batch_cut_short() -> None:
    """Nothing that comes from the network raises."""
    frame = encode_roll([body(1, 8), body(2, 2)])
    assert frame is not None
    whole = decode_roll(frame, 0)
    assert whole is not None
    shortest = len(frame) - len(b"same")
    for size in range(len(frame)):
        roll = decode_roll(frame[:size], 0)
        assert (roll is None) is (size < shortest)
        assert roll is None or roll.rows == whole.rows
    assert decode_roll(bytes([0]) + frame[1:], 0) is None
    for place in range(len(frame)):
        decode_roll(frame[:place] + bytes([frame[place] ^ 0xFF]) + frame[place + 1 :], 0)


# ------------------------------------------------------------------------------ whole nodes


def meet(simulation: Simulation, *, within_ns: int = 50 * MS) -> None:
    """All that run arrive at once, and are released."""
    nodes = simulation.running()
    before = {node.id: len(node.told(Outcome)) for node in nodes}
    for node in nodes:
        arrive(node, "x", None)
    simulation.run_until(
        lambda: all(len(node.told(Outcome)) > before[node.id] for node in nodes), within_ns
    )
    assert all(node.told(Outcome)[-1].verdict == "released" for node in nodes)


def orders(simulation: Simulation) -> dict[int, list[Ordered]]:
    """What each node has delivered of the agreed order."""
    return {node.id: node.told(Ordered) for node in simulation.nodes.values()}


@pytest.mark.parametrize("nodes", [4, 7])
def test_an_epoch_at_once_is_what_its_batches_are_one_by_one(
    nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same entries in the same order with the same marks, in the middle of other traffic."""
    taken: list[bool] = []
    original = rolls.take_roll

    def scene() -> dict[int, list[Ordered]]:
        simulation = casting(nodes)
        talk = Talk(simulation)
        for turn in range(12):
            meet(simulation)
            if turn % 3 == 2:
                talk.everybody(4 * MS)
        finish(simulation, BARRIERS)
        return orders(simulation)

    def counted(here: Delivery, roll: Roll, now_ns: int) -> bool:
        taken.append(original(here, roll, now_ns))
        return taken[-1]

    def never(_here: Delivery, _roll: Roll, _now_ns: int) -> bool:
        return False

    monkeypatch.setattr(rolls, "take_roll", counted)
    at_once = scene()
    assert taken.count(True) > 6 * (nodes - 1)
    monkeypatch.setattr(rolls, "take_roll", never)
    assert scene() == at_once


@pytest.mark.parametrize("seed", range(3))
def test_among_datagrams_that_are_lost_doubled_and_late_nothing_is(seed: int) -> None:
    """Where a batch came before the roll, or is missing before it, it is taken batch by batch."""
    simulation = casting(5, DatagramTrouble(lost=0.2 + 0.1 * seed, doubled=0.3, late=0.3))
    for _ in range(15):
        meet(simulation, within_ns=600 * MS)
    finish(simulation, BARRIERS)


def test_who_lacks_a_batch_of_a_dead_member_gets_it_from_a_roll() -> None:
    """Those who have the roll keep it until all are known to hold what is in it."""
    simulation = casting(4)
    meet(simulation)
    simulation.network.block_datagrams(1, 4)
    held = {node.id: len(node.told(Ordered)) for node in simulation.nodes.values()}
    for node in simulation.nodes.values():
        arrive(node, "x", None)
    simulation.run_until(
        lambda: all(len(simulation.nodes[it].told(Ordered)) == held[it] + 4 for it in (2, 3)),
        5 * MS,
    )
    assert len(simulation.nodes[4].told(Ordered)) == held[4]
    simulation.nodes[1].kill()
    simulation.run_until(lambda: len(simulation.nodes[4].told(Ordered)) == held[4] + 4, 1000 * MS)
    after = orders(simulation)
    assert after[2] == after[3] == after[4]
    assert sum(node.endpoint.outputs.counters["repaired"] for node in simulation.running()) >= 1
    finish(simulation, BARRIERS)


def test_an_epoch_over_a_gap_is_not_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a member said before, and is not here, may belong to it too."""
    original, seen = rolls.take_roll, list[bool]()

    def looked_at(here: Delivery, roll: Roll, now_ns: int) -> bool:
        if here.ordered.lacks(roll):
            for place, row in enumerate(roll.rows):
                if row[0] != here.node:
                    later = [*roll.rows]
                    later[place] = (row[0], row[1] + 1, *row[2:])
                    seen.append(here.ordered.lacks(Roll(roll.data, later, roll.frame, roll.words)))
        return original(here, roll, now_ns)

    monkeypatch.setattr(rolls, "take_roll", looked_at)
    simulation = casting(4)
    for _ in range(3):
        meet(simulation)
    assert len(seen) > 6
    assert not any(seen)
