"""NORM (RFC 5740), by the library of the Naval Research Laboratory: one sender, and its receivers.

It asks for what is lost (NACK) and mends by parity, has a congestion control, and knows no
membership: the sender is told beforehand who is to acknowledge. One rail carries it, for it knows
no second one. Members in C++ (`norm_bench.cpp`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from .failure import BenchFailed
from .lines import Task
from .machine import compile_client, compiler, first_line
from .stage import Stage

_SOURCE = Path(__file__).with_name("norm_bench.cpp")
_HEADER = "#include <normApi.h>\nint main() { NormCreateInstance(false); }\n"


class Norm:
    """The peer that multicasts reliably."""

    name = "norm"

    def __init__(self) -> None:
        self._client: Path | None = None
        self._version = "unknown"

    def missing(self) -> list[str]:
        """What is not installed here, with what to do about it."""
        if compiler("c++") is None:
            return ["there is no C++ compiler; install the Debian package g++"]
        with contextlib.suppress(BenchFailed):
            compile_client(
                "libnorm",
                *("-x", "c++", "-", "-o", os.devnull),
                library="norm",
                language="c++",
                text=_HEADER,
            )
            return []
        return ["libnorm cannot be compiled against; install the Debian package libnorm-dev"]

    def version(self) -> str:
        """Of the library, once it has run."""
        return self._version

    @contextmanager
    def up(self, stage: Stage, nodes: int) -> Generator[None, None, None]:
        """There is nothing to start besides its members, but they are there compiled."""
        del nodes
        if self._client is None:
            client = stage.folder / "norm_bench"
            compile_client(
                "the client of NORM",
                *("-Werror", str(_SOURCE), "-o", str(client)),
                library="norm",
                language="c++",
            )
            self._client = client
            self._version = first_line(str(client), "version")
        yield

    def commands(self, stage: Stage, task: Task) -> list[list[str]]:
        """The first host sends."""
        assert self._client is not None, "compiled before"
        rail = stage.lab.interface(stage.lab.rails[0])
        numbers = (task.size_bytes, task.warm_up_ns, task.window_ns, task.life_s)
        return [
            [str(self._client), str(node), str(task.nodes), rail, *map(str, numbers)]
            for node in range(1, task.nodes + 1)
        ]
