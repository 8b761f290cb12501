"""ZooKeeper: one server on the first host, and members with kazoo's double barrier."""

from __future__ import annotations

import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from phalanx.transport.testing.lab_netns import find_tool

from .lines import Task
from .machine import missing_package, missing_tools, package_version
from .server import address, serving
from .stage import Stage

PORT = 2181
JAR = Path("/usr/share/java/zookeeper.jar")
CONFIGURATION = Path("/etc/zookeeper/conf")
_START_S = 40.0
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
        folder = stage.folder / f"zookeeper-{self._runs}"
        folder.mkdir()
        file, at = folder / "zoo.cfg", address(stage)
        file.write_text(_FILE.format(data=folder, port=PORT, address=at), encoding="utf-8")
        java = find_tool("java")
        assert java is not None, "asked for before anything was started"
        argv = [java, "-Xmx512m", "-cp", f"{CONFIGURATION}:{JAR}"]
        argv += [f"-Dzookeeper.log.dir={folder}"]
        argv += ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(file)]
        with serving(stage, "zookeeper", argv, lambda: _says(at), _START_S) as self._version:
            yield

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Every run has a path of its own."""
        start = [sys.executable, "-P", "-m", "peers.zookeeper_party"]
        start += [f"{address(stage)}:{PORT}", f"/run{self._runs}"]
        text = msgspec.json.encode(task).decode()
        return [[*start, host, text] for host in stage.hosts(task.nodes)]


def _says(at: str) -> str:
    """Its version; empty as long as it does not serve."""
    try:
        with socket.create_connection((at, PORT), timeout=1.0) as connection:
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
