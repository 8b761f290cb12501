"""Several nodes on one machine without a lab: the loopback interface, and a port for each."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path


def cluster_file(
    path: Path,
    names: Sequence[str],
    *,
    cluster: str = "loopback",
    driver: str = "auto",
    timing: Mapping[str, int] | None = None,
) -> Path:
    """Write a cluster file for nodes on 127.0.0.1, with ports that are free now; returns its path.

    There is one rail, so none can fail. Records go to a folder beside the file. `timing` has what
    is to differ from the profile `lan`, such as `lease_ms`.
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
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 at which now nobody listens, neither UDP nor TCP."""
    opened: list[socket.socket] = []
    ports: list[int] = []
    try:
        while len(ports) < count:
            stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            opened.append(stream)
            stream.bind(("127.0.0.1", 0))
            port = int(stream.getsockname()[1])
            datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.append(datagram)
            try:
                datagram.bind(("", port))
            except OSError:
                continue
            ports.append(port)
    finally:
        for endpoint in opened:
            endpoint.close()
    return ports
