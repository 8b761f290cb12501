"""Redis: one server on the first host, which keeps nothing on disk, and members in Python."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager

import msgspec

from phalanx.transport.testing.lab_netns import find_tool

from .lines import Task
from .machine import first_line, missing_package, missing_tools, package_version
from .server import address, serving
from .stage import Stage

PORT = 6379
_START_S = 10.0


class Redis:
    """The peer with a server in the middle: INCR counts the arrivals, lists wake the others."""

    name = "redis"

    def __init__(self) -> None:
        self._runs = 0

    def missing(self) -> list[str]:
        """What is not installed here, each with what to do about it."""
        return [*missing_tools(redis_server="redis-server"), *missing_package("redis")]

    def version(self) -> str:
        """Of the server and of the client."""
        found = re.search(r"v=(\S+)", first_line("redis-server", "--version"))
        return f"{found[1] if found else 'unknown'} with redis-py {package_version('redis')}"

    @contextmanager
    def up(self, stage: Stage, nodes: int) -> Generator[None, None, None]:
        """A server that answers, until the end of the context."""
        del nodes  # One server serves any number.
        server = find_tool("redis-server")
        assert server is not None, "asked for before anything was started"
        at = address(stage)
        argv = [server, "--port", str(PORT), "--bind", at, "--save", "", "--appendonly", "no"]
        argv += ["--protected-mode", "no", "--dir", str(stage.folder)]
        with serving(stage, "redis-server", argv, lambda: _answers(at), _START_S):
            yield

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Every run has keys of its own."""
        self._runs += 1
        argv = [sys.executable, "-P", "-m", "peers.redis_party", address(stage), str(PORT)]
        argv += [f"run{self._runs}", msgspec.json.encode(task).decode()]
        return [argv for _ in range(task.nodes)]


def _answers(at: str) -> str:
    try:
        with socket.create_connection((at, PORT), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            said = connection.recv(16)
    except OSError:
        return ""
    return "PONG" if said.startswith(b"+PONG") else ""
