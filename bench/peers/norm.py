"""NORM (RFC 5740), by the library of the Naval Research Laboratory: one sender, and its receivers.

It asks for what is lost (NACK) and mends by parity, has a congestion control, and knows no
membership: the sender is told beforehand who is to acknowledge. One rail carries it, for it knows
no second one. Members in C++ (`norm_bench.cpp`).
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

from .client import Client
from .lines import Task
from .machine import first_line
from .stage import Stage


class Norm:
    """The peer that multicasts reliably."""

    name = "norm"

    def __init__(self) -> None:
        self._client = Client(
            peer="NORM",
            source="norm_bench.cpp",
            library="norm",
            language="c++",
            probe="#include <normApi.h>\nint main() { NormCreateInstance(false); }\n",
        )
        self._version = "unknown"

    def missing(self) -> list[str]:
        """What is not installed here, with what to do about it."""
        return self._client.missing()

    def version(self) -> str:
        """Of the library, once it has run."""
        return self._version

    def up(self, stage: Stage, nodes: int) -> AbstractContextManager[object]:
        """There is nothing to start besides its members, but they are there compiled."""
        del nodes
        self._version = first_line(self._client.compiled(stage), "version")
        return contextlib.nullcontext()

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The first host sends."""
        client, rail = self._client.compiled(stage), stage.lab.interface(stage.lab.rails[0])
        numbers = (task.size_bytes, task.warm_up_ns, task.window_ns, task.life_s)
        return [
            [client, str(node), str(task.nodes), rail, *map(str, numbers)]
            for node in range(1, task.nodes + 1)
        ]
