"""phalanx itself, measured as one would deploy it: compiled, the default driver and profile."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from . import compiled
from .compiled import Build
from .lines import Task
from .machine import package_version
from .stage import Stage

BENCH = Path(__file__).resolve().parents[1]
"""Where the members' own modules are."""


class Phalanx:
    """A new cluster for each run; there is nothing to start besides its members."""

    name = "phalanx"

    def __init__(self, *, ordered: bool, build: Build = Build.PGO) -> None:
        self._module = "peers.phalanx_order" if ordered else "peers.phalanx_barrier"
        self._ordered = ordered
        self._build = build

    def missing(self) -> list[str]:
        """Whether this version can do what is to be measured, and be built."""
        if self._ordered and not hasattr(
            importlib.import_module("phalanx.barrier"), "OrderedChannel"
        ):
            return ["this version of phalanx has no ordered channels; --peers-only leaves it out"]
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

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Every run has a cluster file and records of its own."""
        folder = Path(tempfile.mkdtemp(prefix="phalanx-", dir=stage.folder))
        config = stage.lab.cluster_toml(folder / "cluster.toml", name="bench", hosts=task.nodes)
        text = msgspec.json.encode(task).decode()
        start: list[str] = []
        if self._build is not Build.INTERPRETED:
            start = ["env", f"PYTHONPATH={compiled.folder(self._build)}:{BENCH}"]
        return [
            [*start, sys.executable, "-P", "-m", self._module, str(config), host, text]
            for host in stage.hosts(task.nodes)
        ]
