"""Ordered channels in a simulation: applications that open, publish on and read them.

Each process has one application for each channel. Its state is a chain of hashes over all that it
has read, so that two that have the same state have read the same. It reads the same queue as a
program does; what it reads, and what it is told, its node's history says.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from phalanx.transport.events import Lane, Member, Position, ViewId
from phalanx.transport.testing.history import Placed, Unheld
from phalanx.transport.testing.simulation import SimulatedNode, Simulation

from ..channel_items import ChannelItem, Entries, Opening, StateMade
from ..channel_queue import ChannelQueue
from ..order import ChannelsCore
from .plan import Plan
from .read_chain import ReadChain

NAMES = ("with state", "without")
"""The channels of a run; whoever opens the first takes and gives state."""
LAYER = "channels"


class Channels:
    """The ordered channels of one run: gives each node the layer, and applications that use it."""

    def __init__(self, simulation: Simulation, plan: Plan) -> None:
        self.simulation = simulation
        self.plan = plan
        self._random = random.Random(f"channels {plan.seed}")
        self._processes: dict[int, _Process] = {}
        self._safe: set[bytes] = set()
        self.positions: dict[Member, tuple[ViewId, int]] = {}
        """How far in the agreed order each member was when its node last ran."""
        self.after_read: list[Callable[[SimulatedNode], None]] = []
        """Called when an application of a node has read: to look on."""
        simulation.layers[LAYER] = ChannelsCore
        simulation.after_turn.append(self._collect)

    def publish(self, node: SimulatedNode, payload: bytes) -> bool:
        """Publish on one of the channels that are open there; False if none is."""
        process = self._processes.get(node.id)
        names = process.opened if process is not None else []
        if process is None or not names:
            return False
        name, safe = self._random.choice(names), self._random.random() < self.plan.safe_share
        self.publish_on(node, name, payload, safe=safe)
        return True

    def publish_on(self, node: SimulatedNode, name: str, payload: bytes, *, safe: bool) -> None:
        """Publish on a channel that is open there, if there is room."""
        token = node.send(payload, Lane.ORDERED, channel=name, safe=safe)
        if token:
            self._processes[node.id].published[node.life.member, token] = payload
            if safe:
                self._safe.add(payload)

    def open(self, node: SimulatedNode, name: str) -> None:
        """Open a channel on a node now."""
        self._processes[node.id].open(name)

    def draw(self, below: int) -> int:
        """A number of a source of its own, so that reading draws nothing from the network's."""
        return self._random.randrange(below)

    def _collect(self, node: SimulatedNode) -> None:
        process = self._processes.get(node.id)
        core = node.layers[LAYER]
        assert isinstance(core, ChannelsCore), "it was made here"
        if process is None or process.core is not core:
            process = self._processes[node.id] = _Process(self, node, core)
        view = node.view
        if view is not None:
            self.positions[node.life.member] = (view.id, node.endpoint.delivery.ordered.position)
        process.collect()

    def lacking(self, at: Position, view_id: ViewId) -> tuple[Member, ...]:
        """Members that run and do not hold what is at a position, while its view lasts."""
        if view_id != (at.era, at.k):
            return ()  # A view has come behind it: whoever is in that holds it.
        lives = [(node.life.member, node.view) for node in self.simulation.running()]
        return tuple(
            member
            for member, view in lives
            if view is not None
            and view.id == view_id
            and self.positions.get(member, (view_id, 0)) < (view_id, at.index)
        )

    def is_safe(self, payload: bytes) -> bool:
        """Whether its publisher asked for safe delivery."""
        return payload in self._safe

    def unread(self) -> list[str]:
        """What is open and not read to its end, or does not begin."""
        found: list[str] = []
        for node in self.simulation.running():
            process = self._processes.get(node.id)
            found += process.unread() if process is not None else []
        return found


class _Process:
    """What one process has of ordered channels."""

    def __init__(self, channels: Channels, node: SimulatedNode, core: ChannelsCore) -> None:
        self.channels, self.node, self.core = channels, node, core
        self.readers: dict[str, _Reader] = {}
        self.published: dict[tuple[Member, int], bytes] = {}
        """By token what it has published and was not told the place of."""
        plan, network = channels.plan, channels.simulation.network
        opens_ns = plan.channels_open_ns[node.id - 1] if plan.channels_open_ns else ()
        for name, after_ns in zip(NAMES, opens_ns, strict=False):
            if after_ns is not None:
                network.after(after_ns, partial(self.open, name))

    @property
    def over(self) -> bool:
        """Whether the process is gone."""
        return not self.node.running or self.node.layers.get(LAYER) is not self.core

    @property
    def opened(self) -> list[str]:
        """Channels on which it may publish: whoever does reads its own entries there."""
        return [name for name, reader in self.readers.items() if reader.began]

    def open(self, name: str) -> None:
        """Open a channel, if the process is still there."""
        if self.over:
            return
        stateful = name == NAMES[0]
        self.core.open(name, takes=stateful, gives=stateful)
        self.readers[name] = _Reader(self, name, stateful=stateful)
        self.node.wake_soon()

    def collect(self) -> None:
        """After a turn: what there is to read, and to be told."""
        view = self.node.view
        for name, item in self.core.take_items():
            reader = self.readers.get(name)
            if reader is not None:
                if isinstance(item, Entries) and view is not None:
                    self._look(item, view.id)
                reader.put(item)
        for reader in self.readers.values():
            if not reader.queue.empty:
                reader.read_soon()
        self.core.take_detached()
        for published in self.core.take_published():
            first, member = published.first, self.node.life.member
            first_token = published.last_token - published.number + 1
            for more in range(published.number):
                message = self.published.pop((member, first_token + more), None)
                if message is not None:
                    at = Position(first.era, first.k, first.index + more)
                    self.node.note(Placed(self.channels.simulation.network.now_ns, message, at))

    def _look(self, entries: Entries, view_id: ViewId) -> None:
        """Whether everybody holds what is safe."""
        first = entries.first
        for more, payload in enumerate(entries.payloads):
            if self.channels.is_safe(payload):
                at = Position(first.era, first.k, first.index + more)
                lacking = self.channels.lacking(at, view_id)
                if lacking:
                    now_ns = self.channels.simulation.network.now_ns
                    self.node.note(Unheld(now_ns, payload, lacking))

    def unread(self) -> list[str]:
        """What is open and not read to its end, or does not begin."""
        return [
            f"{self.node.life.member} does not get on in {name!r}: {reader.queue.stats()}"
            for name, reader in self.readers.items()
            if not (reader.queue.empty and reader.began)
        ]


class _Reader:
    """The application of one channel."""

    def __init__(self, process: _Process, name: str, *, stateful: bool) -> None:
        self._process = process
        self._node = process.node
        self._name = name
        self._channels = process.channels
        self._mean_ns = self._channels.plan.channels_read_ns[self._node.id - 1]
        self._padding = bytes(self._channels.plan.channel_state_bytes)
        self._chain = ReadChain(name, stateful=stateful)
        self._will_read = False
        self.began = False
        """An opening of it has been ordered."""
        node, core = self._node, process.core
        self.queue = ChannelQueue(
            bytes_max=node.simulation.config.limits.receive_queue_bytes,
            freeze=lambda full: node.queue_full(self, Lane.ORDERED, full=full),
            wanted=lambda position: core.wanted(name, position),
            give=self._give,
            take=self._take,
        )

    def put(self, item: ChannelItem) -> None:
        """The next of what its channel delivers."""
        self.queue.put(item)
        self.began = self.began or isinstance(item, Opening)

    def read_soon(self) -> None:
        """It will read, unless it is about to already."""
        if not self._will_read:
            self._will_read = True
            wait = 1 + self._channels.draw(2 * self._mean_ns)
            self._channels.simulation.network.after(wait, self._read)

    def _read(self) -> None:
        self._will_read = False
        if self._process.over:
            return
        if self._node.frozen:
            self.read_soon()
            return
        while (item := self.queue.next_ready()) is not None:
            now_ns = self._channels.simulation.network.now_ns
            if isinstance(item, Entries):
                self._node.note(self._chain.read(item, tuple(item.payloads), now_ns))
            elif isinstance(item, Opening):
                self._node.note(self._chain.opened(item.position, now_ns))
        for look in self._channels.after_read:
            look(self._node)

    def _give(self, position: Position) -> None:
        state = self._chain.head() + self._padding
        self._process.core.give(self._name, position, state)
        self._node.wake_soon()

    def _take(self, made: StateMade) -> None:
        assert not made.too_large, "states of a run fit"
        self._chain.take(made, self._node.life.member)
