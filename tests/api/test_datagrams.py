"""Datagrams in a node: opened beside the driver, watched, polled before it decides, and closed."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from phalanx.transport import Cluster
from phalanx.transport.config import ClusterConfig, NodeConfig, RailConfig, TrafficConfig
from phalanx.transport.core.endpoint import Endpoint
from phalanx.transport.core.outputs import Cast
from phalanx.transport.driver_factory import RealDrivers, local_endpoint
from phalanx.transport.drivers.base import LocalEndpoint, PeerEndpoint
from phalanx.transport.drivers.datagrams import UdpDatagrams
from phalanx.transport.drivers.in_process_datagrams import DatagramTrouble
from phalanx.transport.errors import UsageError
from phalanx.transport.runtime import Runtime
from phalanx.transport.testing.memory import MemoryNetwork, join_all, memory_config

GUARD_S = 20.0

Taken = tuple[int, int, str, bytes]
"""By whom, from whom, on which rail, and what."""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Taken]:
    """What cores are given; they take it as well."""
    seen: list[Taken] = []
    take = Endpoint.receive_datagram

    def receive(
        self: Endpoint, node: int, rail: str, frame: bytes, now_ns: int, *numbers: int
    ) -> None:
        seen.append((self.node, node, rail, frame))
        take(self, node, rail, frame, now_ns, *numbers)

    monkeypatch.setattr(Endpoint, "receive_datagram", receive)
    return seen


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until it holds: it has nothing else to wait for."""
    async with asyncio.timeout(GUARD_S):
        for _ in itertools.count():
            if condition():
                return
            await asyncio.sleep(0)


def runtime_of(cluster: Cluster) -> Runtime:
    """What runs behind the face."""
    return cluster._runtime  # pyright: ignore[reportPrivateUsage] - the face shows counters alone


def cast(cluster: Cluster, *casts: Cast) -> None:
    """Have a node's core cast these in its next turn."""
    runtime = runtime_of(cluster)
    runtime.endpoint.outputs.casts.extend(casts)
    runtime.kick()


def test_what_one_core_casts_another_one_is_given(tmp_path: Path, taken: list[Taken]) -> None:
    """By name of the node and the rail; nobody else is, and its counters show it."""

    async def scene() -> None:
        config = replace(memory_config(3), state_dir=str(tmp_path))
        network = MemoryNetwork()
        nodes = await join_all(
            {n: Cluster.join(config, node=n, drivers=network) for n in (1, 2, 3)}
        )
        cast(nodes[1], Cast((2,), "a", b"to one"), Cast((2, 3), "b", b"to two"))
        wanted = [(2, 1, "a", b"to one"), (2, 1, "b", b"to two"), (3, 1, "b", b"to two")]
        await until(lambda: set(wanted) <= set(taken))
        assert sorted(it for it in taken if it[3].startswith(b"to ")) == wanted
        assert nodes[1].stats()["datagrams"]["frames_sent"] >= 3
        assert nodes[2].stats()["datagrams"]["frames_received"] >= 2
        for cluster in nodes.values():
            await cluster.leave()

    asyncio.run(scene())


def test_without_datagrams_none_are_opened_and_casts_go_nowhere(
    tmp_path: Path, taken: list[Taken]
) -> None:
    """The switch is for those who do not want another port open."""

    async def scene() -> None:
        config = replace(
            memory_config(2), state_dir=str(tmp_path), traffic=TrafficConfig(datagrams=False)
        )
        network = MemoryNetwork()
        nodes = await join_all({n: Cluster.join(config, node=n, drivers=network) for n in (1, 2)})
        assert network.find_datagrams(1) is network.find_datagrams(2) is None
        cast(nodes[1], Cast((2,), "a", b"x"))
        await until(lambda: not runtime_of(nodes[1]).endpoint.outputs.pending)
        assert nodes[1].stats()["datagrams"] == {}
        for cluster in nodes.values():
            await cluster.leave()
        assert taken == []

    asyncio.run(scene())


def test_a_cluster_works_where_no_datagram_arrives(tmp_path: Path) -> None:
    """A firewall that lets none of them pass is no reason to fail."""

    async def scene() -> None:
        config = replace(memory_config(3), state_dir=str(tmp_path))
        network = MemoryNetwork(DatagramTrouble(lost=1.0))
        nodes = await join_all(
            {n: Cluster.join(config, node=n, drivers=network) for n in (1, 2, 3)}
        )
        receipt = await nodes[1].multicast(b"hello")
        await receipt.held(timeout=GUARD_S)
        assert nodes[2].stats()["datagrams"].get("frames_received", 0) == 0
        for cluster in nodes.values():
            await cluster.leave()

    asyncio.run(scene())


def one_on_loopback(folder: Path) -> ClusterConfig:
    """A cluster of one node with ports that are free."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("", 0))
        port = int(one.getsockname()[1])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", 0))
            datagram_port = int(other.getsockname()[1])
    node = NodeConfig(
        name="alpha",
        id=1,
        addresses={"a": "127.0.0.1"},
        port=port,
        udp_port=port,
        datagram_port=datagram_port,
    )
    return ClusterConfig(
        name="loopback",
        rails=(RailConfig(name="a", network="127.0.0.0/8"),),
        nodes=(node,),
        state_dir=str(folder),
        driver="user_sctp",
    )


class WithAPeer(RealDrivers):
    """Real drivers of a node that has a peer, for its datagrams alone."""

    def __init__(self, peer: PeerEndpoint) -> None:
        super().__init__(frozenset())
        self._peer = peer
        self.made: UdpDatagrams | None = None

    def datagrams(self, config: ClusterConfig, local: LocalEndpoint, peers: object) -> UdpDatagrams:
        del config, peers
        self.made = UdpDatagrams(local, {self._peer.node: self._peer})
        return self.made


def test_a_real_node_is_woken_by_a_datagram_and_closes_its_sockets(
    tmp_path: Path, require: Callable[..., None], taken: list[Taken]
) -> None:
    """Its sockets are watched like the driver's descriptor, from the start to the end."""
    require("usrsctp")
    config = one_on_loopback(tmp_path)
    here = replace_node(local_endpoint(config, config.nodes[0]), 2, "127.0.0.2")
    there = UdpDatagrams(here, {1: peer_of(local_endpoint(config, config.nodes[0]))})
    there.open()

    async def scene() -> None:
        drivers = WithAPeer(peer_of(here))
        cluster = await Cluster.join(config, node=1, drivers=drivers, timeout=GUARD_S)
        there.cast([1], "a", b"wake up")
        await until(lambda: (1, 2, "a", b"wake up") in taken)
        assert cluster.stats()["datagrams"]["frames_received"] == 1
        assert drivers.made is not None
        descriptor = drivers.made.fileno()
        assert asyncio.get_running_loop().remove_reader(descriptor), "it was watched"
        await cluster.leave()
        with pytest.raises(UsageError, match="closed"):
            drivers.made.poll()

    try:
        asyncio.run(scene())
    finally:
        there.close()


def replace_node(local: LocalEndpoint, node: int, address: str) -> LocalEndpoint:
    """The same for another node at another address."""
    return replace(local, node=node, addresses={"a": address}, networks={"a": NETWORK})


NETWORK = ip_network("127.0.0.0/8")


def peer_of(local: LocalEndpoint) -> PeerEndpoint:
    """The same endpoint as others see it."""
    return PeerEndpoint(
        node=local.node,
        addresses=local.addresses,
        port=local.port,
        udp_port=local.udp_port,
        datagram_port=local.datagram_port,
    )
