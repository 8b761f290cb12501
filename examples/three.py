"""Three nodes on this machine, a process each: how the other examples begin and end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from phalanx.transport import PhalanxError
from phalanx.transport.testing.loopback import cluster_file

NAMES = ("alpha", "beta", "gamma")
PATIENCE = {"suspect_ms": 1000, "lease_ms": 1500}
"""All share one disk with whatever else runs here, and if writing the records in a view change
takes longer than the lease, nobody may act until then. Who is killed is missed at once even so.
"""
LIMIT_S = 30.0
"""Whoever says nothing for so long, or does not end, hangs."""


class Node:
    """A process that is a node of the cluster; what it prints is shown with its name before it."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None, "asked for a pipe"
        for line in self._child.stdout:
            sys.stdout.write(f"{self.name:>5}: {line}")
            sys.stdout.flush()
            self._lines.put(line)
        self._lines.put(None)

    def says(self, words: str) -> None:
        """Wait until it prints a line with these words."""
        with suppress(Empty):
            while (line := self._lines.get(timeout=LIMIT_S)) is not None:
                if words in line:
                    return
        raise AssertionError(f"{self.name} does not say {words!r}")

    def wake(self) -> None:
        """Let it run on after it was stopped."""
        os.kill(self._child.pid, signal.SIGCONT)

    def ends(self) -> int:
        """Wait for its end; returns its exit status, negative if a signal has ended it."""
        try:
            status = self._child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end") from None
        self._reader.join()
        return status

    def remove(self) -> None:
        """End it, whatever it does."""
        self._child.kill()
        self._child.wait()
        self._reader.join()


class Three:
    """Starts nodes of one cluster; its file and the nodes' records are in a temporary folder."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._config = cluster_file(self.folder / "cluster.toml", NAMES, timing=PATIENCE)
        self.nodes: list[Node] = []

    def start(self, name: str, *more: str) -> Node:
        """Start this example as one node."""
        command = [sys.executable, "-u", sys.argv[0], str(self._config), name, *more]
        self.nodes.append(Node(name, command))
        return self.nodes[-1]


def run(node: Callable[..., Coroutine[Any, Any, None]], story: Callable[[Three], None]) -> int:
    """Be one node if the command line names a cluster file and a node, else tell the story.

    Returns the exit status: 0, or 1 if anything was not as it has to be; then it has said what.
    """
    status = 0
    try:
        match sys.argv[1:]:
            case []:
                with tempfile.TemporaryDirectory() as folder:
                    three = Three(folder)
                    try:
                        story(three)
                    finally:
                        for started in three.nodes:
                            started.remove()
            case [config, name, *more]:
                asyncio.run(node(config, name, *more))
            case _:
                print(sys.modules["__main__"].__doc__, file=sys.stderr)
                status = 2
    except* (PhalanxError, AssertionError) as errors:  # one line that says what is wrong
        for error in errors.exceptions:
            print(f"{' '.join(sys.argv)}: {error}", file=sys.stderr)
        status = 1
    except* KeyboardInterrupt:
        status = 130
    return status
