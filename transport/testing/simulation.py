"""Whole nodes over the simulated network: cores, layers, disks and lifelines in virtual time.

For tests of the protocol and of what stands on it. One seed gives one run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from ..config import (
    ACTIVE,
    MS,
    PASSIVE,
    ClusterConfig,
    Limits,
    NodeConfig,
    QuorumConfig,
    RailConfig,
    Timing,
    TrafficConfig,
)
from ..drivers.base import PeerEndpoint
from ..drivers.simulator import Network, NetworkOptions
from ..events import Lane
from ..layers import LayerFactory
from .simulated_application import SimulatedApplication, Stateful
from .simulated_node import Life, ProcessEnded, SimulatedNode

__all__ = [
    "MS",
    "Lane",
    "Life",
    "ProcessEnded",
    "SimulatedNode",
    "Simulation",
    "Stateful",
    "simulated_config",
]


def simulated_config(
    nodes: int = 3,
    rails: Iterable[str] = ("a", "b"),
    *,
    limits: Limits | None = None,
    timing: Timing | None = None,
    tie_breaker: int = 0,
    multicast: bool = False,
    fallback: bool = False,
    active: bool = False,
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
    return replace(
        config,
        limits=limits or config.limits,
        timing=timing or config.timing,
        quorum=QuorumConfig(tie_breaker=tie_breaker),
        traffic=TrafficConfig(
            rails=ACTIVE if active else PASSIVE, multicast=multicast, fallback=fallback
        ),
    )


@dataclass
class Simulation:
    """A cluster in virtual time."""

    config: ClusterConfig
    seed: int = 1
    options: NetworkOptions | None = None
    stateful: Stateful | None = None
    """Applications that read and have state; without, nodes have none."""
    layers: dict[str, LayerFactory] = field(default_factory=dict[str, LayerFactory])
    lives: list[Life] = field(default_factory=list[Life])
    """Every incarnation of every node, in the order of their beginnings."""
    after_turn: list[Callable[[SimulatedNode], None]] = field(
        default_factory=list[Callable[[SimulatedNode], None]]
    )
    """Called after each turn of each node: to take outcomes from layers, or to look on."""

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
                datagram_port=node.datagram_port,
            )
            for node in self.config.nodes
        }
        self.nodes = {node.id: SimulatedNode(self, node.id) for node in self.config.nodes}

    def application_of(self, node: SimulatedNode) -> SimulatedApplication | None:
        """For a node: what runs in a process that begins on it."""
        if self.stateful is None:
            return None
        return SimulatedApplication(node, self.stateful, self.seed)

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
        first = self.nodes[members[0]].view if members else None
        return (
            first is not None
            and first.members == tuple(sorted(members))
            and all(self.nodes[node].view == first for node in members)
            and all(self.nodes[n].endpoint.acting(self.nodes[n].clock()) for n in members)
        )

    def synced_on(self, *members: int) -> bool:
        """Whether they agree on a view of exactly these, and their applications have its state."""
        return self.agreed_on(*members) and all(
            self.nodes[node].endpoint.standing.is_synced for node in members
        )

    def explain(self) -> str:
        """Where every node stands, in words."""
        parts: list[str] = []
        for node in self.nodes.values():
            if node.pump is None:
                parts.append(f"{node.id}: not running")
                continue
            view = node.view
            lacking = "" if node.endpoint.standing.is_synced else "without state "
            parts.append(
                f"{node.id}: view {view.id if view else None} "
                f"{view.members if view else ''} "
                f"{lacking}({node.endpoint.gather.explain()}; "
                f"{dict(node.endpoint.outputs.counters)})"
            )
        return " | ".join(parts)

    def cut_rail(self, node: int, rail: str) -> None:
        """Cut one node off one rail, both ways."""
        for other in self.nodes:
            self.cut_pair(node, other, rail)

    def heal_rail(self, node: int, rail: str) -> None:
        """Undo `cut_rail`."""
        for other in self.nodes:
            self.heal_pair(node, other, rail)

    def cut_pair(self, one: int, other: int, *rails: str) -> None:
        """Cut two nodes off each other on these rails, or on all."""
        for rail in rails or self.network.rails:
            if one != other:
                self.network.cut(one, other, rail)
                self.network.cut(other, one, rail)

    def heal_pair(self, one: int, other: int, *rails: str) -> None:
        """Undo `cut_pair`."""
        for rail in rails or self.network.rails:
            if one != other:
                self.network.heal(one, other, rail)
                self.network.heal(other, one, rail)

    def isolate(self, *nodes: int) -> None:
        """Cut these nodes off all the others on every rail."""
        for node in nodes:
            for other in self.nodes.keys() - set(nodes):
                self.cut_pair(node, other)

    def heal_all(self) -> None:
        """Undo every cut, loss, delay and repetition."""
        for one in self.nodes:
            for other in self.nodes:
                if one != other:
                    for rail in self.network.rails:
                        self.network.heal(one, other, rail)
        self.network.calm()
