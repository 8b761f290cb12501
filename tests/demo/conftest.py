"""Nodes started as a user starts them: `phalanx node` in processes of their own."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import pytest

from phalanx.barrier.demo_stage import LoopbackStage

COMMAND = (sys.executable, "-c", "from phalanx.barrier.cli import main; main()")
DEADLINE_S = 30.0


class Running:
    """A command that runs, and what it has written so far."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self.child = child
        self.text = ""
        self._read_to = 0

    def expect(self, pattern: str, timeout: float = DEADLINE_S) -> re.Match[str]:
        """Wait until something written after the last match matches."""
        assert self.child.stdout is not None, "asked for a pipe"
        deadline = time.monotonic() + timeout
        while True:
            found = re.compile(pattern, re.MULTILINE).search(self.text, self._read_to)
            if found is not None:
                self._read_to = found.end()
                return found
            left = deadline - time.monotonic()
            ready = select.select([self.child.stdout], [], [], max(0.0, left))[0]
            data = os.read(self.child.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                why = "it ended" if ready else f"not within {timeout:g} s"
                pytest.fail(f"{pattern!r} was not written ({why}):\n{self.text}")
            self.text += data.decode()

    def say(self, line: str) -> None:
        """Write to its standard input."""
        assert self.child.stdin is not None, "asked for a pipe"
        self.child.stdin.write(f"{line}\n".encode())
        self.child.stdin.flush()

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, wait for the end, and return the status."""
        assert self.child.stdout is not None, "asked for a pipe"
        if number is not None:
            self.child.send_signal(number)
        status = self.child.wait(DEADLINE_S)
        self.text += self.child.stdout.read().decode()
        return status


class Start(Protocol):
    """Starts the command with these arguments; it is ended with the test at the latest."""

    def __call__(
        self, *arguments: str | Path, stdin: int | IO[bytes] = subprocess.PIPE
    ) -> Running: ...


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `phalanx ARGUMENTS`; standard output and error are read as one."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments: str | Path, stdin: int | IO[bytes] = subprocess.PIPE) -> Running:
            child = stack.enter_context(
                subprocess.Popen(
                    [*COMMAND, *map(str, arguments)],
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            )
            stack.callback(child.kill)
            return Running(child)

        yield begin


class MakeConfig(Protocol):
    """Writes a cluster file for that many nodes on loopback, with ports that are free."""

    def __call__(self, nodes: int) -> Path: ...


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """See `MakeConfig`; nodes are called alpha, bravo, charlie."""

    def make(nodes: int) -> Path:
        path = tmp_path / "cluster.toml"
        LoopbackStage(nodes).configure(path, "auto", {})
        return path

    return make


class RunCommand(Protocol):
    """Runs the command to its end."""

    def __call__(
        self, arguments: Sequence[str | Path], *, timeout: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_command() -> RunCommand:
    """See `RunCommand`."""

    def run(
        arguments: Sequence[str | Path], *, timeout: float = DEADLINE_S
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
