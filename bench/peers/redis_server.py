"""Redis: one server on the first host, which keeps nothing on disk, and members in Python."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

import msgspec

from phalanx.barrier.demo_signals import finished
from phalanx.transport.testing.lab_netns import find_tool

from .failure import BenchFailed
from .lines import Task
from .machine import first_line, missing_package, missing_tools, package_version
from .stage import Stage

PORT = 6379
_START_S = 10.0
_TRY_EVERY_S = 0.05
_END_S = 5.0


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
        host, log = stage.lab.hosts[0], stage.folder / "redis.log"
        server = find_tool("redis-server")
        assert server is not None, "asked for before anything was started"
        argv = [server, "--port", str(PORT), "--bind", self._address(stage), "--save", ""]
        argv += ["--appendonly", "no", "--protected-mode", "no", "--dir", str(stage.folder)]
        with log.open("wb") as output, finished():
            child = stage.lab.spawn(
                host, argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + _START_S
            while not stage.lab.within(host, lambda: _answers(self._address(stage))):
                if child.poll() is not None or time.monotonic() > deadline:
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                    raise BenchFailed(f"redis-server does not answer:\n{tail}")
                time.sleep(_TRY_EVERY_S)
            yield
        finally:
            child.terminate()
            try:
                child.wait(_END_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Every run has keys of its own."""
        self._runs += 1
        argv = [sys.executable, "-P", "-m", "peers.redis_party", self._address(stage), str(PORT)]
        argv += [f"run{self._runs}", msgspec.json.encode(task).decode()]
        return [argv for _ in range(task.nodes)]

    def _address(self, stage: Stage) -> str:
        return stage.lab.address(stage.lab.rails[0], stage.lab.hosts[0])


def _answers(address: str) -> bool:
    try:
        with socket.create_connection((address, PORT), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
