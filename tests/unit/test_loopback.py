"""Cluster files for nodes that share one machine."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

from phalanx.transport.config import MS
from phalanx.transport.config_file import load
from phalanx.transport.testing.loopback import cluster_file, free_ports

PORTS = 50


def test_the_ports_are_free_and_nobody_gets_them_by_chance() -> None:
    """A node that is started again needs the port that it had, whoever was started meanwhile."""
    ports = free_ports(PORTS)
    assert len(set(ports)) == PORTS
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in ports if first <= port <= last]
    with ExitStack() as stack:
        for port in ports:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                stack.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
        assert not set(free_ports(PORTS)) & set(ports)


def test_a_cluster_file_has_the_nodes_and_what_differs_from_the_profile(tmp_path: Path) -> None:
    """It is read by the same code as a file that a user has written."""
    path = cluster_file(
        tmp_path / "three.toml", ("alpha", "beta", "gamma"), timing={"lease_ms": 900}
    )
    config = load(path)
    assert [(node.id, node.name) for node in config.nodes] == [
        (1, "alpha"),
        (2, "beta"),
        (3, "gamma"),
    ]
    assert len({port for node in config.nodes for port in (node.udp_port, node.datagram_port)}) == 6
    assert config.timing.lease_ns == 900 * MS
    assert config.timing.suspect_ns == load(cluster_file(path, ("alpha",))).timing.suspect_ns
