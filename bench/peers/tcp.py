"""TCP as the standard library has it: asyncio streams, each message behind its length."""

from __future__ import annotations

import contextlib
import platform
from contextlib import AbstractContextManager

from .lines import Task
from .stage import Stage
from .zeromq import members

PORT = 6006


class Tcp:
    """The peer that everybody has: the kernel's stream, and a framing of one's own."""

    name = "asyncio tcp"

    def missing(self) -> list[str]:
        """Nothing can be."""
        return []

    def version(self) -> str:
        """Of Python."""
        return platform.python_version()

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """There is nothing to start besides its members."""
        del stage, nodes
        return contextlib.nullcontext()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The second host listens, the first one connects and sends."""
        return members("peers.tcp_member", stage, task, PORT)
