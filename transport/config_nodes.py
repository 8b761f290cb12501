"""What two nodes of a cluster file must not share, and which ports one node must not give twice."""

from __future__ import annotations

from .config import NodeConfig
from .toml_table import Table

_UDP_PORTS = (
    ("datagram_port", "datagram_port"),
    ("datagram_port", "udp_port"),
    ("udp_port", "datagram_port"),
)
"""Of two nodes on one machine; a common `udp_port` is found before."""


def check_own_ports(table: Table, node: NodeConfig) -> None:
    """The UDP ports of one node are two.

    Raises:
        ConfigError: they are one.
    """
    if node.datagram_port == node.udp_port:
        raise table.error(
            "datagram_port",
            f"datagram_port {node.datagram_port} is the udp_port of the same node",
            "write another number, or leave datagram_port out: then it is the one after udp_port",
        )


def check_pair(
    table: Table,
    node: NodeConfig,
    index: int,
    other: NodeConfig,
    *,
    datagrams: bool,
    discovered: bool,
) -> None:
    """What two nodes must not share; `table` is the one that `node` was read from.

    Nodes that are `discovered` need no addresses.

    Raises:
        ConfigError: they share it.
    """
    for name in ("name", "id", "uuid"):
        value = getattr(node, name)
        if value and value == getattr(other, name):
            raise table.error(name, f"{value!r} is that of node[{index}] too", "make it unique")
    if not (node.addresses or other.addresses or discovered):
        raise table.error(
            "addresses",
            f"is missing, as for node[{index}]; only the local node's addresses can be found",
            "give all other nodes theirs, or write discovery.multicast = true",
        )
    for rail, address in node.addresses.items():
        if other.addresses.get(rail) == address:
            _check_ports(table, node, other, rail)
            if datagrams:
                _check_datagram_ports(table, node, other, address)


def _check_ports(table: Table, node: NodeConfig, other: NodeConfig, rail: str) -> None:
    # One process binds each port on every address of its host (usrsctp: the wildcard).
    ports = [name for name in ("udp_port", "port") if getattr(node, name) == getattr(other, name)]
    if not ports:
        return
    shared = " and ".join(f"{name} {getattr(node, name)}" for name in ports)
    address = node.addresses[rail]
    raise table.error(
        # Nodes that are meant to share a machine have been given one port already.
        f"addresses.{rail}" if len(ports) == 2 else ports[0],
        f"node {node.name!r} and node {other.name!r} share address {address}, {shared}",
        "correct one address; only for nodes on one machine: "
        "give each a port and udp_port of its own, the latter two apart",
    )


def _check_datagram_ports(table: Table, node: NodeConfig, other: NodeConfig, address: str) -> None:
    for mine, theirs in _UDP_PORTS:
        number = getattr(node, mine)
        if number == getattr(other, theirs):
            raise table.error(
                mine if table.has(mine) else "udp_port",
                f"{mine} {number} of node {node.name!r} is the {theirs} of node {other.name!r}, "
                f"and both have address {address}",
                "each takes two UDP ports, udp_port and the one after it: write udp_port numbers "
                "that are two apart, or a datagram_port for each that is free",
            )
