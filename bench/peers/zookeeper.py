"""ZooKeeper: one server on the first host, and members with kazoo's double barrier."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from phalanx.barrier.demo_signals import finished
from phalanx.transport.testing.lab_netns import find_tool

from .failure import BenchFailed
from .lines import Task
from .machine import missing_package, missing_tools, package_version
from .stage import Stage

PORT = 2181
JAR = Path("/usr/share/java/zookeeper.jar")
CONFIGURATION = Path("/etc/zookeeper/conf")
_START_S = 40.0
_TRY_EVERY_S = 0.2
_FILE = """tickTime=2000
dataDir={data}
clientPort={port}
clientPortAddress={address}
admin.enableServer=false
maxClientCnxns=0
4lw.commands.whitelist=srvr
"""


class ZooKeeper:
    """The peer whose barrier is a recipe of its client: each party makes a node below a path."""

    name = "zookeeper"

    def __init__(self) -> None:
        self._runs = 0
        self._version = "unknown"

    def missing(self) -> list[str]:
        """What is not installed here, each with what to do about it."""
        found = missing_tools(java="default-jre-headless")
        if not JAR.exists():
            found.append(f"{JAR} is missing; install the Debian package zookeeper")
        return [*found, *missing_package("kazoo")]

    def version(self) -> str:
        """Of the server, as it says itself, and of the client."""
        return f"{self._version} with kazoo {package_version('kazoo')}"

    @contextmanager
    def up(self, stage: Stage, nodes: int) -> Generator[None, None, None]:
        """A server that answers, until the end of the context."""
        del nodes  # One server serves any number.
        self._runs += 1
        host, folder = stage.lab.hosts[0], stage.folder / f"zookeeper-{self._runs}"
        folder.mkdir()
        file, log, address = folder / "zoo.cfg", folder / "log", self._address(stage)
        file.write_text(_FILE.format(data=folder, port=PORT, address=address), encoding="utf-8")
        java = find_tool("java")
        assert java is not None, "asked for before anything was started"
        argv = [java, "-Xmx512m", "-cp", f"{CONFIGURATION}:{JAR}"]
        argv += [f"-Dzookeeper.log.dir={folder}"]
        argv += ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(file)]
        with log.open("wb") as output, finished():
            child = stage.lab.spawn(
                host, argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder
            )
        try:
            deadline = time.monotonic() + _START_S
            while not (said := stage.lab.within(host, lambda: _says(address))):
                if child.poll() is not None or time.monotonic() > deadline:
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:])
                    raise BenchFailed(f"ZooKeeper does not answer:\n{tail}")
                time.sleep(_TRY_EVERY_S)
            self._version = said
            yield
        finally:
            child.kill()
            child.wait()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Every run has a path of its own."""
        start = [sys.executable, "-P", "-m", "peers.zookeeper_party"]
        start += [f"{self._address(stage)}:{PORT}", f"/run{self._runs}"]
        text = msgspec.json.encode(task).decode()
        return [[*start, host, text] for host in stage.hosts(task.nodes)]

    def _address(self, stage: Stage) -> str:
        return stage.lab.address(stage.lab.rails[0], stage.lab.hosts[0])


def _says(address: str) -> str:
    """Its version; empty as long as it does not serve."""
    try:
        with socket.create_connection((address, PORT), timeout=1.0) as connection:
            connection.sendall(b"srvr")
            said = b""
            while part := connection.recv(4096):
                said += part
    except OSError:
        return ""
    text = said.decode(errors="replace")
    if "Mode:" not in text:
        return ""
    return text.partition("version: ")[2].partition("-")[0]
