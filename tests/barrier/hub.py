"""Two clusters without a network: what the asyncio face of barriers is tried on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar, cast

from phalanx.barrier import BarrierCore, Barriers
from phalanx.transport.config import ClusterConfig, NodeConfig
from phalanx.transport.errors import UsageError
from phalanx.transport.events import (
    Lane,
    Member,
    PathStatus,
    Position,
    RailState,
    View,
    ViewId,
    ViewInstalled,
)
from phalanx.transport.layer_face import LayerFace
from phalanx.transport.layers import Layer
from phalanx.transport.waking import Waiter, Waking

from .model import entry

_Service = TypeVar("_Service")


CONFIG = ClusterConfig(
    name="test",
    rails=(),
    nodes=(NodeConfig(name="alpha", id=1), NodeConfig(name="beta", id=2)),
)
VIEW = View(id=ViewId(1, 1), incarnations=(Member(1, 1), Member(2, 1)))
GUARD_S = 5
"""A test that waits longer than this hangs."""


class Hub:
    """Orders what the fake clusters publish, and gives it to all of them at once."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.positions = 0
        self.says_stable = True
        self.clusters = [FakeCluster(self, node) for node in (1, 2)]
        self.one, self.two = (Barriers(cluster) for cluster in self.clusters)
        self.view_installed(ViewInstalled(view=VIEW, joined=(1, 2), left={}))

    def view_installed(self, event: ViewInstalled) -> None:
        for cluster in self.clusters:
            if cluster.node_id in event.view.members:
                cluster.core.installed(event, now_ns=self.now_ns)
                cluster.tell()

    def pump(self) -> None:
        for cluster in self.clusters:
            cluster.core.wake(self.now_ns)
        while sum(map(self._order, self.clusters)):
            pass
        for cluster in self.clusters:
            cluster.tell()

    def _order(self, cluster: FakeCluster) -> bool:
        """Put what a node publishes in order; True if it was anything."""
        taken = cluster.core.take_entries({})
        for outgoing in taken:
            self.positions += 1
            sender = Member(cluster.node_id, 1)
            ordered = entry(sender, outgoing.payload, VIEW.id, self.positions)
            position = Position(*VIEW.id, self.positions)
            for other in self.clusters:
                other.core.ordered([ordered], now_ns=self.now_ns)
                if outgoing.safe and self.says_stable:
                    other.core.stable(position, now_ns=self.now_ns)
        return bool(taken)

    def pass_time(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        self.pump()


class FakeCluster:
    """What a `LayerFace` gives, and the cluster that has it."""

    def __init__(self, hub: Hub, node: int) -> None:
        self.config = CONFIG
        self.node_id = node
        self.primary = True
        self.detached = False
        self.core = BarrierCore(CONFIG, node)
        self.all_held = asyncio.Event()
        self.all_held.set()
        self.elsewhere = False
        self.waited_for: list[str] = []
        self._hub = hub
        self._listeners: list[Callable[[], None]] = []
        self._services: dict[type, object] = {}

    @property
    def layer_face(self) -> LayerFace:
        return cast(LayerFace, self)

    def check_caller(self) -> None:
        if self.elsewhere:
            raise UsageError("another event loop")

    def layer(self, name: str) -> Layer:
        return {"barrier": self.core}[name]

    def service(self, kind: type[_Service], make: Callable[[], _Service]) -> _Service:
        return LayerFace.service(self.layer_face, kind, make)

    def now_ns(self) -> int:
        return self._hub.now_ns

    def hurry(self) -> None:
        self.kick()

    def waiter(self) -> Waiter:
        return Waiter(Waking(asyncio.get_running_loop()))

    def kick(self) -> None:
        asyncio.get_running_loop().call_soon(self._hub.pump)

    def unnumbered(self, *, bulk: bool) -> dict[Lane, int]:
        return {Lane.BULK: 0} if bulk else {}

    @property
    def paths(self) -> dict[int, dict[str, PathStatus]]:
        path = PathStatus(carrier="test", state=RailState.UP, rtt_us=100, primary=True, failovers=0)
        return {node: {"a": path} for node in (1, 2) if node != self.node_id}

    def add_layer_listener(self, callback: Callable[[], None]) -> None:
        self._listeners.append(callback)

    def unheld(self, multicasts: Collection[Lane]) -> list[str]:
        return [] if self.all_held.is_set() else ["directed", *(lane.name for lane in multicasts)]

    async def held(self, sends: list[str], timeout: float) -> None:
        self.waited_for += sends
        if timeout < 0.1:
            raise TimeoutError
        await self.all_held.wait()

    def tell(self) -> None:
        for listener in self._listeners:
            listener()


def scene(body: Callable[[Hub], Coroutine[Any, Any, None]]) -> None:
    """Run a scene with two nodes and a guard against hanging."""

    async def guarded() -> None:
        hub = Hub()
        async with asyncio.timeout(GUARD_S):
            await body(hub)

    asyncio.run(guarded())


async def turns(count: int = 5) -> None:
    """Let every task run until it waits."""
    for _ in range(count):
        await asyncio.sleep(0)
