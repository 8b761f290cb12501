"""phalanx itself, measured as its users have it: the default driver and profile, both rails."""

from __future__ import annotations

import contextlib
import importlib
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from .lines import Task
from .machine import package_version
from .stage import Stage


class Phalanx:
    """A new cluster for each run; there is nothing to start besides its members."""

    name = "phalanx"

    def __init__(self, *, ordered: bool) -> None:
        self._module = "peers.phalanx_order" if ordered else "peers.phalanx_barrier"
        self._ordered = ordered

    def missing(self) -> list[str]:
        """Whether this version can do what is to be measured."""
        if self._ordered and not hasattr(
            importlib.import_module("phalanx.barrier"), "OrderedChannel"
        ):
            return ["this version of phalanx has no ordered channels; --peers-only leaves it out"]
        return []

    def version(self) -> str:
        """Of the distribution."""
        return package_version("phalanx")

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """Nothing."""
        del stage, nodes
        return contextlib.nullcontext()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """Every run has a cluster file and records of its own."""
        folder = Path(tempfile.mkdtemp(prefix="phalanx-", dir=stage.folder))
        config = stage.lab.cluster_toml(folder / "cluster.toml", name="bench", hosts=task.nodes)
        text = msgspec.json.encode(task).decode()
        return [
            [sys.executable, "-P", "-m", self._module, str(config), host, text]
            for host in stage.hosts(task.nodes)
        ]
