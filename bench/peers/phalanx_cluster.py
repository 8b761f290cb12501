"""phalanx itself, measured as one would deploy it: compiled, the default driver and profile."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from phalanx.transport.config import ACTIVE, PASSIVE

from . import compiled
from .compiled import Build
from .figures import OWN
from .lines import Kind, Task
from .machine import package_version
from .stage import Stage

BENCH = Path(__file__).resolve().parents[1]
"""Where the members' own modules are."""


MODULES: Mapping[Kind, str] = {
    "barrier": "peers.phalanx_barrier",
    "bulk link": "peers.phalanx_link",
    "flood": "peers.phalanx_order",
    "latency": "peers.phalanx_order",
    "link": "peers.phalanx_link",
    "ordered pace": "peers.phalanx_pace",
    "pace": "peers.phalanx_pace",
    "stream": "peers.phalanx_multicast",
}


class Phalanx:
    """A new cluster for each run; there is nothing to start besides its members."""

    notices_s = 3.0

    def __init__(
        self,
        *,
        fan_out: bool = False,
        datagrams: bool = False,
        ordered: bool = False,
        active: bool = False,
        spin_us: int = 0,
        build: Build = Build.PGO,
    ) -> None:
        """With `fan_out` what goes to all goes once, to a multicast group.

        With `datagrams` what is to go by a link goes on the bulk lane: not over SCTP. What goes
        at a pace is `ordered`, or in the order of its sender alone; with `active` rails it goes
        over two of them. With `spin_us` members do not sleep until nothing has come for so long.
        """
        ways = {
            "fan-out": fan_out,
            "datagrams": datagrams,
            "agreed order": ordered,
            "active rails": active,
            f"spinning {spin_us} us": spin_us > 0,
        }
        self.name = ", ".join([OWN, *(way for way, taken in ways.items() if taken)])
        self._fan_out = fan_out
        self._datagrams = datagrams
        self._ordered = ordered
        self._active = active
        self._spin_us = spin_us
        self._build = build

    def missing(self) -> list[str]:
        """Whether this version can be built."""
        return [] if self._build is Build.INTERPRETED else compiled.missing()

    def version(self) -> str:
        """Of the distribution, and how it ran."""
        return f"{package_version('phalanx')}, {self._build}"

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """Nothing is started, but it is there compiled."""
        del stage, nodes
        if self._build is not Build.INTERPRETED:
            compiled.folder(self._build)
        return contextlib.nullcontext()

    def kill(self, host: str) -> None:
        """A host has nothing but its member."""

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Every run has a cluster file and records of its own."""
        folder = Path(tempfile.mkdtemp(prefix="phalanx-", dir=stage.folder))
        config = stage.lab.cluster_toml(
            folder / "cluster.toml",
            name="bench",
            hosts=task.nodes,
            traffic={"multicast": self._fan_out, "rails": ACTIVE if self._active else PASSIVE},
            timing={"spin_us": self._spin_us},
        )
        if self._datagrams and task.kind == "link":
            task = msgspec.structs.replace(task, kind="bulk link")
        if self._ordered and task.kind == "pace":
            task = msgspec.structs.replace(task, kind="ordered pace")
        text = msgspec.json.encode(task).decode()
        start: list[str] = []
        if self._build is not Build.INTERPRETED:
            start = ["env", f"PYTHONPATH={compiled.folder(self._build)}:{BENCH}"]
        return [
            [*start, sys.executable, "-P", "-m", MODULES[task.kind], str(config), host, text]
            for host in stage.hosts(task.nodes)
        ]
