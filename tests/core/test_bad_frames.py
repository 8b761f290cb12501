"""What the network sends is never trusted: garbage is counted, and nothing else happens."""

from __future__ import annotations

import random

import pytest

from phalanx._native import codec
from phalanx.transport.config import MS
from phalanx.transport.core.outputs import Delivered
from phalanx.transport.drivers.base import STREAMS, Received
from phalanx.transport.testing.simulation import Simulation, simulated_config
from phalanx.transport.wire import Kind

ROUNDS = 400


def mutated(frame: bytes, chance: random.Random) -> bytes:
    """A frame with one thing wrong: a bit, its length, or everything behind the header."""
    kind = chance.randrange(4)
    if kind == 0:
        return frame[: chance.randrange(len(frame))] or b"\0"
    at = chance.randrange(len(frame))
    if kind == 1:
        return frame[:at] + bytes([frame[at] ^ (1 << chance.randrange(8))]) + frame[at + 1 :]
    if kind == 2:
        return chance.randbytes(chance.randrange(1, 300))
    return frame + chance.randbytes(chance.randrange(1, 9))


def resealed(simulation: Simulation, node: int, chance: random.Random) -> bytes:
    """A frame with a good header and checksum of a real member, and garbage in its body."""
    sender = simulation.nodes[node]
    body = chance.randbytes(chance.randrange(200))
    if chance.randrange(2):
        # Close to a real one: a valid tag and some fields, then nothing that fits.
        body = bytes([0x90 | chance.randrange(16), chance.randrange(20)]) + body
    return codec.encode_frame(
        chance.choice([*Kind, 0, 77]),
        0,
        sender.endpoint.framer.cluster,
        sender.endpoint.me.incarnation,
        node,
        chance.choice([0, 1, 2, 3, 99]),
        body,
    )


@pytest.mark.parametrize("seed", range(8))
def test_garbage_on_a_living_association_is_counted_and_changes_nothing(seed: int) -> None:
    """A flipped bit that SCTP let through must not break a view, an order or the process."""
    simulation = Simulation(simulated_config(3), seed=seed)
    simulation.start_all()
    simulation.run_until(lambda: simulation.agreed_on(1, 2, 3), 3000 * MS)
    chance = random.Random(seed)
    view = simulation.nodes[1].view
    seen: list[bytes] = [b"\0" * 100]
    sent = 0
    for number in range(ROUNDS):
        victim = simulation.nodes[chance.choice([1, 2, 3])]
        other = chance.choice([node for node in (1, 2, 3) if node != victim.id])
        link = victim.endpoint.peers.peers[other].link
        if chance.randrange(2):
            frame = resealed(simulation, other, chance)
            seen.append(frame)
        else:
            frame = mutated(chance.choice(seen), chance)
        received = Received(link, chance.randrange(STREAMS), frame)
        victim.endpoint.receive(received, simulation.network.now_ns)
        victim.wake_soon()
        if number % 4 == 0:
            sent += bool(victim.send(b"%d" % number))
        simulation.run_for(1 * MS)
    simulation.run_for(100 * MS)
    assert simulation.agreed_on(1, 2, 3)
    for node in simulation.nodes.values():
        assert node.view == view
        delivered = [
            payload
            for _, item in node.history
            if isinstance(item, Delivered)
            for payload in item.payloads
        ]
        assert len(delivered) == len(set(delivered)) == sent
    counted = sum(
        count
        for node in simulation.nodes.values()
        for name, count in node.endpoint.outputs.counters.items()
        if name.startswith(("frame_", "malformed_")) or "other" in name
    )
    assert counted > ROUNDS // 2


def test_frames_of_another_cluster_or_version_are_counted_by_name() -> None:
    """Somebody else's cluster on the same network is a neighbour, not an error."""
    simulation = Simulation(simulated_config(2), seed=1)
    simulation.start_all()
    simulation.run_until(lambda: simulation.agreed_on(1, 2), 3000 * MS)
    victim = simulation.nodes[1]
    link = victim.endpoint.peers.peers[2].link
    good = codec.encode_frame(
        Kind.CONTROL, 0, victim.endpoint.framer.cluster, 1, 2, 0, b"\x91\x0a\x01"
    )
    foreign = codec.encode_frame(Kind.CONTROL, 0, codec.cluster_id("another"), 1, 2, 0, b"")
    newer = bytearray(good)
    newer[2:4] = bytes([codec.WIRE_VERSION + 7, codec.WIRE_VERSION + 7])
    for frame in (foreign, bytes(newer), b"\0"):
        victim.endpoint.receive(Received(link, 0, frame), simulation.network.now_ns)
    counters = victim.endpoint.outputs.counters
    assert counters["frame_other_cluster"] == 1
    assert counters["frame_bad_version"] == 1
    assert counters["frame_too_short"] == 1
