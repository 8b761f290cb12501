"""The least a barrier can be: a coordinator and parties on bare UDP sockets, and no guarantee."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

import msgspec

from .lines import Task
from .machine import this_machine
from .server import address, serving
from .stage import Stage

PORT = 5999
_START_S = 5.0


class BareUdp:
    """Each party tells the coordinator, which tells all as soon as all have told it."""

    name = "bare udp"

    def missing(self) -> list[str]:
        """It needs nothing."""
        return []

    def version(self) -> str:
        """Of the interpreter."""
        return f"Python {this_machine().python}"

    @contextmanager
    def up(self, stage: Stage, nodes: int) -> Generator[None, None, None]:
        """The coordinator on the first host, until the end of the context."""
        argv = [
            sys.executable,
            "-P",
            "-m",
            "peers.udp_party",
            address(stage),
            str(PORT),
            str(nodes),
        ]
        with serving(stage, "coordinator", argv, lambda: "parties try again", _START_S):
            yield

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """A party on each host."""
        text = msgspec.json.encode(task).decode()
        start = [sys.executable, "-P", "-m", "peers.udp_party", address(stage), str(PORT)]
        return [[*start, str(rank), text] for rank in range(task.nodes)]
