"""What the scenarios share: a cluster that has started, traffic, and the checks at the end."""

from __future__ import annotations

from collections.abc import Iterable

from phalanx.barrier.testing.meetings import use_barriers
from phalanx.transport.config import MS, Limits
from phalanx.transport.core.outputs import Delivered, Ordered
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.drivers.simulated_network import NetworkOptions
from phalanx.transport.events import Evicted, Lane, PrimaryLost, ViewInstalled
from phalanx.transport.testing import checkers
from phalanx.transport.testing.simulation import SimulatedNode, Simulation, simulated_config

STATIONS = (Evicted, PrimaryLost, ViewInstalled)


def started(nodes: int = 3, *, tie_breaker: int = 0, limits: Limits | None = None) -> Simulation:
    """A cluster in its first view, on hosts that have been up for a while."""
    config = simulated_config(nodes, tie_breaker=tie_breaker, limits=limits)
    simulation = Simulation(config)
    for node in simulation.nodes.values():
        node.clock_offset_ns = node.id * 10**12
    simulation.start_all()
    everybody = tuple(simulation.nodes)
    simulation.run_until(lambda: simulation.agreed_on(*everybody), 1000 * MS)
    return simulation


def casting(
    nodes: int,
    trouble: DatagramTrouble | None = None,
    *,
    multicast: bool = False,
    active: bool = False,
) -> Simulation:
    """A cluster whose members know whether datagrams arrive, and multicasts if they are on."""
    options = NetworkOptions(datagrams=trouble or DatagramTrouble())
    config = simulated_config(nodes, multicast=multicast, active=active)
    simulation = Simulation(config, options=options)
    use_barriers(simulation)
    simulation.start_all()
    converge(simulation, *simulation.nodes)
    simulation.run_for(600 * MS)
    return simulation


class Talk:
    """Sends unique messages."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.count = 0

    def say(
        self, node: SimulatedNode, lane: Lane = Lane.FIFO, addressee: int = 0, size: int = 0
    ) -> bytes:
        """One message; returns its payload."""
        self.count += 1
        payload = b"%d of %d.%d" % (self.count, *node.life.member)
        payload += b"." * (size - len(payload))
        assert node.send(payload, lane, addressee), "there was no room"
        return payload

    def everybody(self, duration_ns: int, *, step_ns: int = 2 * MS) -> None:
        """All running nodes send on all lanes, and to each other, while time passes."""
        simulation = self.simulation
        end_ns = simulation.network.now_ns + duration_ns
        while simulation.network.now_ns < end_ns:
            for node in simulation.running():
                if node.frozen or node.view is None or node.endpoint.detached:
                    continue
                for lane in (Lane.FIFO, Lane.ORDERED, Lane.BULK):
                    self.say(node, lane)
                others = [other for other in node.view.members if other != node.id]
                if others:
                    self.say(node, addressee=others[self.count % len(others)])
            simulation.run_for(step_ns)


def payloads(node: SimulatedNode) -> list[bytes]:
    """Everything that a node was given, in order."""
    return [
        payload for item in node.told(Delivered) + node.told(Ordered) for payload in item.payloads
    ]


def converge(simulation: Simulation, *nodes: int, limit_ns: int = 3000 * MS) -> int:
    """Wait until these nodes are in one view and may act; returns how long it took."""
    return simulation.run_until(lambda: simulation.agreed_on(*nodes), limit_ns)


def stations(node: SimulatedNode) -> list[str]:
    """What happened to a node, as words: views by their members."""
    found: list[str] = []
    for _, item in node.history:
        if isinstance(item, ViewInstalled):
            found.append(" ".join(map(str, item.view.members)))
        elif isinstance(item, STATIONS):
            found.append(type(item).__name__)
    return found


def finish(simulation: Simulation, more: Iterable[checkers.Checker] = ()) -> None:
    """Let everything settle, and check all guarantees of messages and views."""
    simulation.run_for(500 * MS)
    checkers.check(simulation.lives, [*checkers.ALWAYS, *checkers.QUIET, *more])
