"""One batch of messages, and one barrier, from end to end in one process; raw sockets beside."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.transport.core.outputs import Delivered, Ordered
from phalanx.transport.events import Lane
from phalanx.transport.testing.barrier_checkers import Outcome
from phalanx.transport.testing.simulation import Simulation, simulated_config

MS = 1_000_000
MESSAGES, MESSAGE_BYTES = 500, 64
PAYLOADS = [bytes(MESSAGE_BYTES)] * MESSAGES
LIMIT_NS = 1000 * MS


def settled(nodes: int) -> Simulation:
    """A cluster in virtual time that knows that datagrams arrive."""
    simulation = Simulation(simulated_config(nodes))
    use_barriers(simulation)
    simulation.start_all()
    simulation.run_until(lambda: simulation.agreed_on(*simulation.nodes), LIMIT_NS)
    simulation.run_for(600 * MS)
    return simulation


def batches(simulation: Simulation, lane: Lane) -> Callable[[], None]:
    """Node 1 sends a batch to all, and all are given it; each call does it once more."""
    kind = Ordered if lane is Lane.ORDERED else Delivered
    given = dict.fromkeys(simulation.nodes, 0)

    def come() -> bool:
        for node in simulation.nodes.values():
            given[node.id] += sum(len(item.payloads) for item in node.told(kind))
            node.history.clear()
        return all(count >= MESSAGES for count in given.values())

    def send() -> None:
        for payload in PAYLOADS:
            assert simulation.nodes[1].send(payload, lane), "there was no room"
        simulation.run_until(come, LIMIT_NS)
        for node in given:
            given[node] -= MESSAGES

    return send


def rounds(simulation: Simulation) -> Callable[[], None]:
    """All meet at a barrier; each call is one round."""

    def meet() -> None:
        for node in simulation.nodes.values():
            node.history.clear()
            arrive(node, "hop", None)
        nodes = simulation.nodes.values()
        simulation.run_until(lambda: all(node.told(Outcome) for node in nodes), LIMIT_NS)

    return meet


@contextmanager
def datagrams(count: int) -> Generator[Callable[[], None], None, None]:
    """So many datagrams over loopback, one after the other, in one thread: the raw sockets."""
    one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with one, other:
        other.bind(("127.0.0.1", 0))
        one.connect(other.getsockname())
        payload = bytes(MESSAGE_BYTES)

        def send() -> None:
            for _ in range(count):
                one.send(payload)
                other.recv(MESSAGE_BYTES)

        yield send
