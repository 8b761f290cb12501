"""Where a node gets its drivers from: what its configuration asks for, on this machine's rails."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Mapping
from typing import Protocol

from .config import MULTICAST, ClusterConfig, NodeConfig
from .drivers import kernel_sctp, user_sctp
from .drivers.base import Datagrams, Driver, LocalEndpoint, PeerEndpoint
from .drivers.datagrams import UdpDatagrams
from .drivers.lifelines import Lifelines
from .drivers.multicast import Multicast
from .groups import groups
from .interfaces import find_rail_addresses


def choose_driver(config: ClusterConfig, local: LocalEndpoint) -> Driver:
    """The driver that the configuration names; kernel SCTP by default where the kernel has it."""
    name = config.driver
    if name == "auto":
        name = "kernel_sctp" if kernel_sctp.available() else "user_sctp"
    if name == MULTICAST:
        return Multicast()
    if name == "kernel_sctp":
        port = local.udp_port if config.encapsulation else 0
        return kernel_sctp.KernelSctp(local, config.timing.sctp, encapsulation_port=port)
    return user_sctp.UserSctp(local, config.timing.sctp)


def local_endpoint(config: ClusterConfig, node: NodeConfig) -> LocalEndpoint:
    """Where this node listens: configured addresses, and those found on the rails' networks."""
    addresses = {**node.addresses, **find_rail_addresses(config, node)}
    traffic, discovery = config.traffic, config.discovery
    grouped = traffic.datagrams and traffic.multicast
    return LocalEndpoint(
        node=node.id,
        addresses=addresses,
        networks={rail.name: ipaddress.ip_network(rail.network) for rail in config.rails},
        port=node.port,
        udp_port=node.udp_port,
        datagram_port=node.datagram_port,
        groups=groups(config, node, addresses, traffic.multicast_port) if grouped else {},
        beacons=groups(config, node, addresses, discovery.port) if discovery.multicast else {},
    )


class DriverFactory(Protocol):
    """Where a node gets its drivers from; the default opens real ones."""

    def local(self, config: ClusterConfig, node: NodeConfig) -> LocalEndpoint:
        """Where the node listens."""
        ...

    def driver(self, config: ClusterConfig, local: LocalEndpoint) -> Driver:
        """A driver that is not open yet."""
        ...

    def lifelines(
        self, local: LocalEndpoint, *, cluster: int, incarnation: int, nonce: int
    ) -> Lifelines | None:
        """Lifelines that are not open yet; None where there are none."""
        ...

    def datagrams(
        self, config: ClusterConfig, local: LocalEndpoint, peers: Mapping[int, PeerEndpoint]
    ) -> Datagrams | None:
        """Datagrams that are not open yet; None where there are none."""
        ...


class RealDrivers:
    """SCTP and TCP on this machine's own networks."""

    def __init__(self, lifeline_rails: frozenset[str]) -> None:
        self._lifeline_rails = lifeline_rails

    def local(self, config: ClusterConfig, node: NodeConfig) -> LocalEndpoint:
        return local_endpoint(config, node)

    def driver(self, config: ClusterConfig, local: LocalEndpoint) -> Driver:
        return choose_driver(config, local)

    def lifelines(
        self, local: LocalEndpoint, *, cluster: int, incarnation: int, nonce: int
    ) -> Lifelines | None:
        rails = self._lifeline_rails
        if not rails:
            return None
        # A rail that proves nothing is not listened on: a peer's end of file must not count there.
        addresses = {rail: addr for rail, addr in local.addresses.items() if rail in rails}
        only = dataclasses.replace(local, addresses=addresses)
        return Lifelines(only, cluster=cluster, incarnation=incarnation, nonce=nonce)

    def datagrams(
        self, config: ClusterConfig, local: LocalEndpoint, peers: Mapping[int, PeerEndpoint]
    ) -> Datagrams | None:
        return UdpDatagrams(local, peers) if config.traffic.datagrams else None
