"""Several nodes on one machine without a lab: the loopback interface, and a port for each."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

PORT_MIN = 10_000
PORT_MAX = 65_535


def cluster_file(
    path: Path,
    names: Sequence[str],
    *,
    cluster: str = "loopback",
    driver: str = "auto",
    timing: Mapping[str, int] | None = None,
    traffic: Mapping[str, bool] | None = None,
) -> Path:
    """Write a cluster file for nodes on 127.0.0.1, with ports that are free now; returns its path.

    There is one rail, so none can fail. Records go to a folder beside the file. `timing` has what
    is to differ from the profile `lan`, such as `lease_ms`; `traffic`, such as `multicast`, what is
    to differ from the defaults of that section.
    """
    state = json.dumps(str(path.absolute().with_suffix(".state")))
    lines = ["[cluster]", f'name = "{cluster}"', f"state_dir = {state}", f'driver = "{driver}"']
    lines += ["[[rail]]", 'name = "a"', 'network = "127.0.0.0/8"']
    ports = iter(free_ports(2 * len(names)))
    for number, name in enumerate(names, start=1):
        port, datagram_port = next(ports), next(ports)
        lines += ["[[node]]", f'name = "{name}"', f"id = {number}"]
        lines += ['addresses = { a = "127.0.0.1" }', f"port = {port}", f"udp_port = {port}"]
        lines += [f"datagram_port = {datagram_port}"]
    if timing:
        lines += ["[timing]", *(f"{key} = {value}" for key, value in timing.items())]
    if traffic:
        lines += ["[traffic]", *(f"{key} = {str(on).lower()}" for key, on in traffic.items())]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 at which now nobody listens, neither UDP nor TCP.

    They are outside the range from which sockets get one that ask for none, so that nobody gets
    them by chance before they are used, nor while a node is down.
    """
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    outside = [*range(PORT_MIN, first), *range(last + 1, PORT_MAX + 1)]
    candidates = outside if len(outside) >= count else range(PORT_MIN, PORT_MAX + 1)
    ports: list[int] = []
    with ExitStack() as opened:
        for port in random.sample(candidates, len(candidates)):
            if len(ports) == count:
                break
            stream = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            datagram = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with suppress(OSError):
                stream.bind(("127.0.0.1", port))
                datagram.bind(("", port))
                ports.append(port)
    assert len(ports) == count, "nearly every port of this machine is taken"
    return ports
