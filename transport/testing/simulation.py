"""Whole nodes over the simulated network: cores, layers, disks and lifelines in virtual time.

For tests of the protocol and of what stands on it. One seed gives one run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import msgspec

from .. import wire
from ..config import MS, ClusterConfig, Limits, NodeConfig, RailConfig, Timing
from ..core.endpoint import Endpoint
from ..core.outputs import StreamItem
from ..core.parts import Start
from ..drivers.base import PeerEndpoint
from ..drivers.simulator import Network, NetworkOptions, SimulatedDriver
from ..events import Lane, View, ViewInstalled
from ..layers import Layer, LayerFactory
from ..pump import Pump

FSYNC_NS = 1 * MS


def simulated_config(
    nodes: int = 3,
    rails: Iterable[str] = ("a", "b"),
    *,
    limits: Limits | None = None,
    timing: Timing | None = None,
) -> ClusterConfig:
    """A cluster file of `nodes` nodes, as plain data."""
    names = tuple(rails)
    config = ClusterConfig(
        name="simulated",
        rails=tuple(
            RailConfig(name=rail, network=f"10.{71 + place}.0.0/24")
            for place, rail in enumerate(names)
        ),
        nodes=tuple(
            NodeConfig(
                name=f"n{node}",
                id=node,
                addresses={rail: f"10.{71 + place}.0.{node}" for place, rail in enumerate(names)},
            )
            for node in range(1, nodes + 1)
        ),
    )
    return replace(config, limits=limits or config.limits, timing=timing or config.timing)


class _Disk:
    """A record that is durable one fsync after it was handed over."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node

    def store(self, token: int, data: bytes) -> None:
        node, process = self._node, self._node.process
        node.simulation.network.after(FSYNC_NS, lambda: node.stored(process, token, data))


class _Lifelines:
    """Lifelines in virtual time: an end of file arrives one delay after a process died."""

    def __init__(self, node: SimulatedNode) -> None:
        self._node = node
        self.lines: set[tuple[int, str]] = set()
        self.news: list[Callable[[Endpoint, int], None]] = []

    def feed(self, endpoint: Endpoint, now_ns: int) -> None:
        news, self.news = self.news, []
        for item in news:
            item(endpoint, now_ns)

    def connect(self, peer: int, rail: str, address: str, port: int) -> None:
        del address, port
        simulation, here = self._node.simulation, self._node
        there = simulation.nodes[peer]
        if there.lifelines is None or not simulation.network.both_ways(here.id, peer, rail):
            return
        self.lines.add((peer, rail))
        there.lifelines.lines.add((here.id, rail))
        self._tell_up(there, rail)
        there.lifelines._tell_up(here, rail)

    def _tell_up(self, other: SimulatedNode, rail: str) -> None:
        incarnation, nonce, peer = other.incarnation, other.nonce, other.id
        self.news.append(lambda e, now: e.lifeline_up(peer, rail, incarnation, nonce, now))
        self._node.wake_soon()

    def ended(self, identity: tuple[int, int, int], rail: str, *, fin: bool) -> None:
        """The other side's end of a lifeline is gone."""
        peer, incarnation, nonce = identity
        if (peer, rail) not in self.lines:
            return
        self.lines.discard((peer, rail))
        self.news.append(
            lambda e, now: e.lifeline_ended(peer, rail, incarnation, nonce, fin=fin, now_ns=now)
        )
        self._node.wake_soon()

    def drop(self, peer: int) -> None:
        for other, rail in sorted(self.lines):
            if other == peer:
                self._end(peer, rail, fin=False)

    def farewell(self) -> None:
        for peer, rail in sorted(self.lines):
            self._end(peer, rail, fin=True)

    def _end(self, peer: int, rail: str, *, fin: bool) -> None:
        self.lines.discard((peer, rail))
        here, network = self._node, self._node.simulation.network
        there = here.simulation.nodes[peer].lifelines
        if there is not None and network.works(here.id, peer, rail):
            there.ended((here.id, here.incarnation, here.nonce), rail, fin=fin)


@dataclass(slots=True)
class Sent:
    """A message that an application sent."""

    lane: Lane
    addressee: int
    payload: bytes
    token: int


class SimulatedNode:
    """One host with its disk; a process that may be started, frozen, killed and started again."""

    def __init__(self, simulation: Simulation, node: int) -> None:
        self.simulation = simulation
        self.id = node
        self.record: bytes | None = None
        self.incarnation = 0
        self.nonce = 0
        self.process = 0
        """Counts the processes that ran on this host."""
        self.running = False
        self.frozen = False
        self.pump: Pump | None = None
        self.driver: SimulatedDriver | None = None
        self.lifelines: _Lifelines | None = None
        self.layers: dict[str, Layer] = {}
        self.history: list[tuple[int, StreamItem]] = []
        """(time, item) for everything that came out of this process's core."""
        self.past: list[list[tuple[int, StreamItem]]] = []
        self.sent: list[Sent] = []
        self._wake_at: int | None = None

    # -------------------------------------------------------------------------------- life

    def start(self) -> None:
        """Start a process: a new incarnation, durable before anything else."""
        assert not self.running, "a host runs one process"
        simulation = self.simulation
        old = wire.decode_record(self.record) if self.record is not None else None
        self.incarnation = (old.incarnation if old else 0) + 1
        record = (
            msgspec.structs.replace(old, incarnation=self.incarnation)
            if old
            else wire.Record(
                cluster=simulation.config.name,
                node=self.id,
                incarnation=self.incarnation,
                voter=False,
            )
        )
        self.record = wire.encode_record(record)
        self.process += 1
        self.nonce = simulation.network.random.randrange(1 << 62)
        self.running = True
        self.frozen = False
        if self.history:
            self.past.append(self.history)
        self.history = []
        self.sent = []
        self.driver = SimulatedDriver(simulation.network, self.id, self.wake_soon)
        self.driver.open()
        self.lifelines = _Lifelines(self)
        self.layers = {
            name: make(simulation.config, self.id) for name, make in simulation.layers.items()
        }
        endpoint = Endpoint(
            Start(
                config=simulation.config,
                node=self.id,
                incarnation=self.incarnation,
                nonce=self.nonce,
                record=record,
                config_hash="same",
                key_hashes={},
                rails=tuple(rail.name for rail in simulation.config.rails),
                now_ns=simulation.network.now_ns,
                jitter=simulation.network.random.random,
            )
        )
        self.pump = Pump(
            endpoint=endpoint,
            driver=self.driver,
            lifelines=self.lifelines,
            disk=_Disk(self),
            layers=self.layers,
            peers=simulation.peers,
            sink=self._sink,
            clock=lambda: simulation.network.now_ns,
        )
        self._schedule(self.pump.start())

    def kill(self) -> None:
        """SIGKILL: the kernel closes the lifelines, nobody else is told."""
        assert self.driver is not None, "the process runs"
        assert self.lifelines is not None, "the process runs"
        self.running = False
        network = self.simulation.network
        for peer, rail in sorted(self.lifelines.lines):
            there = self.simulation.nodes[peer].lifelines
            if there is not None and network.works(self.id, peer, rail):
                network.after(network.delay(), _ended(there, self, rail))
        self.driver.crash()
        self.lifelines = None
        self.pump = None

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self.wake_soon()

    # ------------------------------------------------------------------------------ the pump

    def wake_soon(self) -> None:
        """Something is there for the pump."""
        self._schedule(self.simulation.network.now_ns)

    def _schedule(self, at_ns: int | None) -> None:
        if at_ns is None or not self.running:
            return
        at_ns = max(at_ns, self.simulation.network.now_ns)
        if self._wake_at is not None and self._wake_at <= at_ns:
            return
        self._wake_at = at_ns
        process = self.process
        self.simulation.network.at(at_ns, lambda: self._wake(at_ns, process))

    def _wake(self, at_ns: int, process: int) -> None:
        if self._wake_at != at_ns or process != self.process:
            return
        self._wake_at = None
        if self.running and not self.frozen and self.pump is not None:
            self._schedule(self.pump.turn())

    def stored(self, process: int, token: int, data: bytes) -> None:
        """An fsync is over."""
        if process == self.process and self.running and self.pump is not None:
            self.record = data
            self.pump.endpoint.persisted(token)
            self.wake_soon()

    def _sink(self, item: StreamItem) -> None:
        self.history.append((self.simulation.network.now_ns, item))

    # ------------------------------------------------------------------------------- the face

    @property
    def endpoint(self) -> Endpoint:
        """The core of the running process."""
        assert self.pump is not None, "the process does not run"
        return self.pump.endpoint

    @property
    def view(self) -> View | None:
        """The view installed by the running process."""
        return self.endpoint.view if self.pump is not None else None

    def send(self, payload: bytes, lane: Lane = Lane.FIFO, addressee: int = 0) -> int:
        """Hand over a message; 0 if there was no room."""
        token = self.endpoint.submit(addressee, lane, b"", payload)
        if token:
            self.sent.append(Sent(lane, addressee, payload, token))
        self.wake_soon()
        return token

    def views(self) -> list[View]:
        """Views of this process, in order."""
        return [item.view for _, item in self.history if isinstance(item, ViewInstalled)]


def _ended(there: _Lifelines, who: SimulatedNode, rail: str) -> Callable[[], None]:
    identity = (who.id, who.incarnation, who.nonce)
    return lambda: there.ended(identity, rail, fin=True)


@dataclass
class Simulation:
    """A cluster in virtual time."""

    config: ClusterConfig
    seed: int = 1
    options: NetworkOptions | None = None
    layers: dict[str, LayerFactory] = field(default_factory=dict[str, LayerFactory])

    def __post_init__(self) -> None:
        rails = tuple(rail.name for rail in self.config.rails)
        self.network = Network(rails, seed=self.seed, options=self.options)
        self.random = random.Random(self.seed + 1)
        self.peers = {
            node.id: PeerEndpoint(
                node=node.id,
                addresses=node.addresses,
                port=node.port,
                udp_port=node.udp_port,
            )
            for node in self.config.nodes
        }
        self.nodes = {node.id: SimulatedNode(self, node.id) for node in self.config.nodes}

    def start_all(self) -> None:
        """Start every node."""
        for node in self.nodes.values():
            node.start()

    def run_for(self, duration_ns: int) -> None:
        """Let time pass."""
        end = self.network.now_ns + duration_ns
        self.network.at(end, lambda: None)
        while self.network.now_ns < end:
            self.network.step()

    def run_until(self, condition: Callable[[], bool], limit_ns: int) -> int:
        """Let time pass until a condition holds; returns how long it took.

        Raises:
            AssertionError: it did not hold in time.
        """
        start = self.network.now_ns
        self.network.at(start + limit_ns, lambda: None)
        while not condition():
            self.network.step()
            assert self.network.now_ns < start + limit_ns, (
                f"not within {limit_ns / MS:.0f} ms: {self.explain()}"
            )
        return self.network.now_ns - start

    def running(self) -> list[SimulatedNode]:
        """Nodes whose process runs."""
        return [node for node in self.nodes.values() if node.running]

    def agreed_on(self, *members: int) -> bool:
        """Whether exactly these nodes are in one view and may act in it."""
        views = [self.nodes[node].view for node in members]
        first = views[0]
        return (
            first is not None
            and first.members == tuple(sorted(members))
            and all(view == first for view in views)
            and all(self.nodes[n].endpoint.acting(self.network.now_ns) for n in members)
        )

    def explain(self) -> str:
        """Where every node stands, in words."""
        parts: list[str] = []
        for node in self.nodes.values():
            if node.pump is None:
                parts.append(f"{node.id}: not running")
                continue
            view = node.view
            parts.append(
                f"{node.id}: view {view.id if view else None} "
                f"{view.members if view else ''} ({node.endpoint.gather.explain()}; "
                f"{dict(node.endpoint.outputs.counters)})"
            )
        return " | ".join(parts)

    def cut_rail(self, node: int, rail: str) -> None:
        """Cut one node off one rail, both ways."""
        for other in self.nodes:
            if other != node:
                self.network.cut(node, other, rail)
                self.network.cut(other, node, rail)

    def heal_rail(self, node: int, rail: str) -> None:
        """Undo `cut_rail`."""
        for other in self.nodes:
            if other != node:
                self.network.heal(node, other, rail)
                self.network.heal(other, node, rail)
