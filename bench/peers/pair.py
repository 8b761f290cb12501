"""The two ends of a connection as programs in Python; nothing is started besides them."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager

import msgspec

from .lines import Task
from .stage import Stage

SENDER, RECEIVER = 1, 2


class Pair:
    """A system of two members; both are told where the receiver is."""

    def __init__(self, name: str, module: str, port: int) -> None:
        self.name = name
        self._module = module
        self._port = port

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """There is nothing to start besides its members."""
        del stage, nodes
        return contextlib.nullcontext()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The second host listens, the first one connects and sends."""
        _, receiver = stage.hosts(task.nodes)
        address = stage.lab.address(stage.lab.rails[0], receiver)
        text = msgspec.json.encode(task).decode()
        start = [sys.executable, "-P", "-m", self._module, address, str(self._port)]
        return [[*start, str(node), text] for node in (SENDER, RECEIVER)]
