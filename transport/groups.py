"""Which multicast group is whose, on each rail."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from .config import ClusterConfig, NodeConfig, RailConfig
from .drivers.base import Group
from .interfaces import LocalAddress, local_addresses

_FIRST_4: Final = int(ipaddress.IPv4Address("239.192.0.0"))
_BITS_4: Final = 18
"""239.192.0.0/14 is for whoever runs the network (RFC 2365, 6.2)."""
_FIRST_6: Final = int(ipaddress.IPv6Address("ff15::"))
_BITS_6: Final = 32
"""A group that nobody has registered, of the site (RFC 4291, 2.7); its id is 32 bits (RFC 3307)."""


def group_address(config: ClusterConfig, rail: RailConfig) -> str:
    """The group that the file names; else one that follows from the cluster's and rail's names."""
    if rail.group:
        return rail.group
    digest = hashlib.sha256(f"{config.name}\n{rail.name}".encode()).digest()
    number = int.from_bytes(digest[:4], "big")
    if ipaddress.ip_network(rail.network).version == 6:
        return str(ipaddress.IPv6Address(_FIRST_6 + number % (1 << _BITS_6)))
    return str(ipaddress.IPv4Address(_FIRST_4 + number % (1 << _BITS_4)))


def groups(
    config: ClusterConfig,
    node: NodeConfig,
    addresses: dict[str, str],
    port: int,
    *,
    local: Sequence[LocalAddress] | None = None,
) -> dict[str, Group]:
    """The group of each rail on which this node has an address, on a port of it.

    Args:
        addresses: this node's, by rail.
        local: the machine's addresses; read from the system when left out.

    Raises:
        EnvironmentTrouble: they cannot be listed.
    """
    here = local_addresses() if local is None else list(local)
    found: dict[str, Group] = {}
    for rail in config.rails:
        if rail.name in addresses:
            found[rail.name] = Group(
                group_address(config, rail),
                port,
                config.traffic.multicast_hops,
                _interface(addresses[rail.name], here),
                _has_company(config, node, rail, here),
            )
    return found


def _interface(address: str, here: Sequence[LocalAddress]) -> int:
    """The index of the interface that has an address; 0 if none has it."""
    for entry in here:
        if ipaddress.ip_address(entry.address) == ipaddress.ip_address(address):
            try:
                return socket.if_nametoindex(entry.interface)
            except OSError:  # it went away after it was listed
                return 0
    return 0


def _has_company(
    config: ClusterConfig, node: NodeConfig, rail: RailConfig, here: Sequence[LocalAddress]
) -> bool:
    """Whether another node is on this machine, or may be: then it has other ports."""
    mine = {ipaddress.ip_address(entry.address) for entry in here}
    for other in config.nodes:
        if other.id == node.id:
            continue
        if rail.name not in other.addresses:
            if config.discovery.multicast and other.udp_port != node.udp_port:
                return True
        else:
            there = ipaddress.ip_address(other.addresses[rail.name])
            if there in mine or (there.version == 4 and there.is_loopback):
                return True
    return False
