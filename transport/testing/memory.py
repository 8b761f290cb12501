"""A whole cluster in one process and one event loop, for users' own tests.

Real `Cluster` objects over a network in memory: no privileges, no ports, no lifelines. Rails can
be cut and processes "killed". Time is real, so a silent member is found after the suspicion
time of the profile.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import tempfile
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from ..cluster import Cluster
from ..config import ClusterConfig, NodeConfig, RailConfig
from ..drivers.base import (
    STREAMS,
    Capabilities,
    Input,
    Link,
    LinkLost,
    LinkUp,
    LocalEndpoint,
    LossReason,
    PathInfo,
    PathNotice,
    PathState,
    PeerEndpoint,
    Received,
    Writable,
)
from ..drivers.lifelines import Lifelines
from ..errors import UsageError
from ..joining import Joining

FRAME_BYTES_MAX = 256 << 10
BUFFER_BYTES = 4 << 20
POLL_MAX = 1024


@dataclass(slots=True)
class _End:
    driver: MemoryDriver
    link: Link
    other: _End | None = None
    primary: str = ""
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque[tuple[int, bytes]])
    """Frames for the other end that no rail carries at the moment, or that it has not read."""
    waiting_bytes: int = 0
    blocked: bool = False
    alive: bool = True


class MemoryNetwork:
    """Rails between the drivers of one process; also makes the drivers (`DriverFactory`)."""

    def __init__(self) -> None:
        self._drivers: dict[int, MemoryDriver] = {}
        self._cut: set[tuple[int, str]] = set()

    # ------------------------------------------------------------------ as a DriverFactory

    def local(self, config: ClusterConfig, node: NodeConfig) -> LocalEndpoint:
        """Every rail, wherever this runs."""
        return LocalEndpoint(
            node=node.id,
            addresses=node.addresses,
            networks={rail.name: ipaddress.ip_network(rail.network) for rail in config.rails},
            port=node.port,
            udp_port=node.udp_port,
        )

    def driver(self, config: ClusterConfig, local: LocalEndpoint) -> MemoryDriver:
        """A driver on this network."""
        del config
        return MemoryDriver(self, local)

    def lifelines(
        self, local: LocalEndpoint, *, cluster: int, incarnation: int, nonce: int
    ) -> Lifelines | None:
        """There are none: all nodes live in one process."""
        del local, cluster, incarnation, nonce
        return None

    # ------------------------------------------------------------------------------- faults

    def cut(self, node: int, rail: str) -> None:
        """Take a node's cable of one rail away."""
        self._cut.add((node, rail))

    def heal(self, node: int, rail: str) -> None:
        """Put it back."""
        self._cut.discard((node, rail))
        for driver in self._drivers.values():
            driver.retry()

    def works(self, one: int, other: int, rail: str) -> bool:
        """Whether a rail connects two nodes."""
        return not {(one, rail), (other, rail)} & self._cut

    # ----------------------------------------------------------------------------- plumbing

    def attach(self, driver: MemoryDriver) -> None:
        """A driver opens."""
        self._drivers[driver.node] = driver

    def detach(self, driver: MemoryDriver) -> None:
        """A driver closes."""
        if self._drivers.get(driver.node) is driver:
            del self._drivers[driver.node]

    def find(self, node: int) -> MemoryDriver | None:
        """The open driver of a node."""
        return self._drivers.get(node)


class MemoryDriver:
    """One node's end of a `MemoryNetwork` (see `drivers.base.Driver`)."""

    def __init__(self, network: MemoryNetwork, local: LocalEndpoint) -> None:
        self._network = network
        self.node = local.node
        self._rails = tuple(local.networks)
        self._inputs: deque[Input] = deque()
        self._ends: dict[Link, _End] = {}
        self._last = 0
        self._event = -1
        self._frames = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            name="memory", frame_bytes_max=FRAME_BYTES_MAX, reliable=True, rail_choice=True
        )

    @property
    def missing_rails(self) -> tuple[str, ...]:
        return ()

    def open(self) -> None:
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._network.attach(self)

    def fileno(self) -> int:
        self._check()
        return self._event

    def _check(self) -> None:
        if self._event < 0:
            raise UsageError("this driver is closed; open a new one")

    def poll(self) -> list[Input]:
        self._check()
        taken: list[Input] = []
        while self._inputs and len(taken) < POLL_MAX:
            taken.append(self._inputs.popleft())
        if not self._inputs:
            # Nothing may have been signalled since the last time.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)
        for end in list(self._ends.values()):
            if end.other is not None:
                end.other.driver.carry(end.other)
        return taken

    def _give(self, item: Input) -> None:
        if self._event >= 0:
            self._inputs.append(item)
            os.eventfd_write(self._event, 1)

    # -------------------------------------------------------------------------- associations

    def _add(self) -> _End:
        self._last += 1
        end = _End(self, self._last, primary=self._rails[0])
        self._ends[end.link] = end
        return end

    def connect(self, peer: PeerEndpoint) -> Link:
        self._check()
        here = self._add()
        other = self._network.find(peer.node)
        rails = [r for r in self._rails if self._network.works(self.node, peer.node, r)]
        if other is None or not rails:
            self._lose(here, LossReason.UNREACHABLE)
            return here.link
        there = other._add()
        here.other, there.other = there, here
        other._give(LinkUp(link=there.link, accepted=True, rails=self._rails))
        self._give(LinkUp(link=here.link, accepted=False, rails=self._rails))
        return here.link

    def transmit(self, link: Link, stream: int, frame: bytes, *, rail: str | None = None) -> bool:
        self._check()
        if not 0 < len(frame) <= FRAME_BYTES_MAX:
            raise UsageError(f"a frame has 1 to {FRAME_BYTES_MAX} bytes, not {len(frame)}")
        if not 0 <= stream < STREAMS:
            raise UsageError(f"a stream is 0 to {STREAMS - 1}, not {stream}")
        here = self._ends.get(link)
        if here is None or here.other is None:
            return True
        there = here.other
        if rail is not None:
            if self._network.works(self.node, there.driver.node, rail):
                there.driver._give(Received(there.link, stream, frame))
            return True
        if here.waiting_bytes + len(frame) > BUFFER_BYTES:
            here.blocked = True
            return False
        here.waiting.append((stream, frame))
        here.waiting_bytes += len(frame)
        self.carry(here)
        return True

    def carry(self, here: _End) -> None:
        """Move frames to the other side while a rail works and its reader keeps up."""
        there = here.other
        if there is None or not here.alive:
            return
        target = there.driver.node
        if not any(self._network.works(self.node, target, rail) for rail in self._rails):
            return
        while here.waiting and len(there.driver._inputs) < POLL_MAX:
            stream, frame = here.waiting.popleft()
            here.waiting_bytes -= len(frame)
            self._frames += 1
            there.driver._give(Received(there.link, stream, frame))
        if here.blocked and here.waiting_bytes * 2 <= BUFFER_BYTES:
            here.blocked = False
            self._give(Writable(link=here.link))

    def retry(self) -> None:
        """A rail works again."""
        for end in list(self._ends.values()):
            self.carry(end)

    def _lose(self, end: _End, reason: LossReason) -> None:
        if end.alive:
            end.alive = False
            self._ends.pop(end.link, None)
            self._give(LinkLost(link=end.link, reason=reason))

    def set_primary(self, link: Link, rail: str) -> None:
        end = self._ends.get(link)
        if end is not None:
            end.primary = rail
            self._give(PathNotice(link=link, rail=rail, state=PathState.PRIMARY))

    def disconnect(self, link: Link, *, abort: bool) -> None:
        here = self._ends.get(link)
        if here is None:
            return
        there = here.other
        if there is not None and not abort:
            while here.waiting:
                stream, frame = here.waiting.popleft()
                there.driver._give(Received(there.link, stream, frame))
        self._lose(here, LossReason.LOCAL)
        if there is not None:
            there.driver._lose(there, LossReason.ABORTED if abort else LossReason.SHUTDOWN)

    def paths(self, link: Link) -> list[PathInfo]:
        end = self._ends.get(link)
        if end is None or end.other is None:
            return []
        return [
            PathInfo(
                rail=rail,
                address=f"memory:{end.other.driver.node}",
                state=PathState.PRIMARY
                if rail == end.primary
                else (
                    PathState.UP
                    if self._network.works(self.node, end.other.driver.node, rail)
                    else PathState.DOWN
                ),
                srtt_us=0,
            )
            for rail in self._rails
        ]

    def stats(self) -> dict[str, int]:
        return {"frames_sent": self._frames}

    def close(self) -> None:
        if self._event < 0:
            return
        for link in list(self._ends):
            self.disconnect(link, abort=True)
        self._network.detach(self)
        os.close(self._event)
        self._event = -1


def memory_config(nodes: int = 3, rails: int = 2) -> ClusterConfig:
    """A configuration for `nodes` nodes, named n1, n2, ..."""
    names = "abcdefgh"[:rails]
    return ClusterConfig(
        name="memory",
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


@dataclass(frozen=True, slots=True)
class MemoryCluster:
    """Clusters by node id, and the network between them."""

    clusters: dict[int, Cluster]
    network: MemoryNetwork
    config: ClusterConfig


@asynccontextmanager
async def memory_cluster(nodes: int = 3, rails: int = 2) -> AsyncGenerator[MemoryCluster]:
    """Start `nodes` nodes in this process and give them when they share a view.

    ```python
    async with memory_cluster(3) as cluster:
        await cluster.clusters[1].multicast(b"hello")
    ```
    """
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="phalanx-memory-"))
        config = replace(memory_config(nodes, rails), state_dir=folder)
        network = MemoryNetwork()
        made = {
            node.id: Cluster.join(config, node=node.id, drivers=network) for node in config.nodes
        }
        joined = await join_all(made)
        for cluster in joined.values():
            stack.push_async_callback(cluster.leave)
        yield MemoryCluster(joined, network, config)


async def join_all(joining: dict[int, Joining]) -> dict[int, Cluster]:
    """Join several nodes of one process at once: the first view waits for all of them."""
    async with asyncio.TaskGroup() as group:
        tasks = {node: group.create_task(_wait(join)) for node, join in joining.items()}
    return {node: task.result() for node, task in tasks.items()}


async def _wait(joining: Joining) -> Cluster:
    return await joining
