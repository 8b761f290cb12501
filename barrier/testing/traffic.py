"""What the applications of a run do: messages of every lane and size, and barriers."""

from __future__ import annotations

import random

from phalanx.transport.config import MS
from phalanx.transport.events import MULTICAST, Lane
from phalanx.transport.testing.simulation import SimulatedNode, Simulation

from .channels import Channels
from .meetings import DOUBLE, PHASERS, SETTINGS, arrive, enter_or_leave, take_part
from .plan import Plan

SIZES = (0, 0, 0, 100, 900, 1100, 5000)
NAMES = ("x", "y", *SETTINGS, *PHASERS, DOUBLE)
"""Where they may meet; `meetings.py` says whom it takes."""
NAMES_MAX = 5
"""Where they do in one run: at fewer names they meet more often."""
PAYLOADS = (0, 0, 0, 60, 3000)
"""Bytes that an arrival brings along, besides what makes them unique."""
LEAVES = 0.2
"""How often a registered party leaves where it would arrive, and an entered one fails."""
TIMEOUTS_NS = (None, 20 * MS, 100 * MS, 400 * MS)
ARRIVALS = 0.1
"""Which share of what an application does is to arrive at a barrier."""
DIRECTED = 0.3
_FOR_EVER_NS = 1 << 62


class Traffic:
    """The applications of one run; each payload is unique, so that it can be followed."""

    def __init__(self, simulation: Simulation, plan: Plan, channels: Channels) -> None:
        self._simulation = simulation
        self._channels = channels
        self._random = random.Random(plan.seed + 2)
        self._pauses_ns = dict(zip(plan.nodes, plan.pauses_ns, strict=True))
        drawn = random.Random(f"names {plan.seed}")
        self._names = drawn.sample(NAMES, drawn.randrange(2, NAMES_MAX + 1))
        self._until_ns = 0
        self._count = 0

    def start(self) -> None:
        """All nodes begin to send."""
        self._until_ns = _FOR_EVER_NS
        for node in self._simulation.nodes.values():
            self._later(node)

    def stop(self) -> None:
        """Nobody sends any more."""
        self._until_ns = self._simulation.network.now_ns

    def say(
        self, node: SimulatedNode, lane: Lane = Lane.FIFO, addressee: int = 0, size: int = 0
    ) -> None:
        """One message."""
        self._count += 1
        head = b"%d of %d.%d to %d" % (self._count, *node.life.member, addressee)
        payload = head + b"." * size
        if lane is not Lane.ORDERED or not self._channels.publish(node, payload):
            node.send(payload, lane, addressee)

    def _later(self, node: SimulatedNode) -> None:
        network = self._simulation.network

        def act() -> None:
            if network.now_ns < self._until_ns:
                if node.running and not node.frozen and node.view is not None:
                    self._act(node)
                self._later(node)

        network.after(self._random.randrange(1, 2 * self._pauses_ns[node.id]), act)

    def _act(self, node: SimulatedNode) -> None:
        draw = self._random
        if draw.random() < ARRIVALS:
            self._meet(node, draw.choice(self._names), draw.choice(TIMEOUTS_NS))
            return
        standing = node.endpoint.standing
        if node.endpoint.detached or standing.evicted or standing.leaving:
            return  # A face would have raised an error.
        view = node.view
        assert view is not None, "checked by the caller"
        others = [member for member in view.members if member != node.id]
        lane = draw.choice(MULTICAST)
        addressee = 0
        if others and lane is not Lane.ORDERED and draw.random() < DIRECTED:
            addressee = draw.choice(others)
        self.say(node, lane, addressee, draw.choice(SIZES))

    def _meet(self, node: SimulatedNode, name: str, timeout_ns: int | None) -> None:
        draw = self._random
        size, leaves = draw.choice(PAYLOADS), draw.random() < LEAVES
        payload = b""
        if size:
            self._count += 1
            payload = b"%d of %d.%d" % (self._count, *node.life.member) + b"." * size
        if name == DOUBLE:
            enter_or_leave(node, timeout_ns, fails=leaves)
        elif name in PHASERS:
            take_part(node, name, timeout_ns, payload, leaves=leaves)
        else:
            arrive(node, name, timeout_ns, payload)
