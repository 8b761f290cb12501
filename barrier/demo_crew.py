"""The processes of the demo: started, told what to do, listened to, and watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec

from phalanx.transport.errors import PhalanxError
from phalanx.transport.testing.history import SUFFIX

from .demo_book import Book, Process
from .demo_reports import decode
from .demo_stage import Stage

TAIL_LINES = 20
TAIL_BYTES = 1 << 14


class DemoFailed(PhalanxError):
    """The demo could not be played to its end; the message says why."""


@dataclass(slots=True, eq=False)
class Hand:
    """One running process."""

    name: str
    child: subprocess.Popen[bytes]
    process: Process
    stderr: IO[bytes]
    history: Path
    expected_to_end: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    buffer: bytearray = field(default_factory=bytearray)

    def tell(self, line: str) -> None:
        """Give an order; one who has ended misses it."""
        assert self.child.stdin is not None, "asked for a pipe"
        with contextlib.suppress(OSError):
            self.child.stdin.write(f"{line}\n".encode())
            self.child.stdin.flush()

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, self.stderr.tell() - TAIL_BYTES))
        lines = self.stderr.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-TAIL_LINES:])


class Crew:
    """All processes that run now, by name; used within one event loop."""

    def __init__(self, stage: Stage, config: Path, histories: Path, rate: float) -> None:
        self.book = Book()
        self.hands: dict[str, Hand] = {}
        self._all: list[Hand] = []
        self._stage = stage
        self._config = config
        self._histories = histories
        self._rate = rate
        self._changed = asyncio.Event()
        self._trouble: DemoFailed | None = None

    @property
    def living(self) -> list[Process]:
        """What the running processes have reported."""
        return [hand.process for hand in self.hands.values()]

    async def start(self, name: str) -> Hand:
        """Start the process of a node."""
        argv = [sys.executable, "-m", "phalanx.barrier.demo_worker"]
        history = self._histories / f"{name}-{len(self._all) + 1}{SUFFIX}"
        argv += [str(self._config), name, repr(self._rate), str(history)]
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        child = await asyncio.to_thread(self._stage.spawn, name, argv, stderr)
        node = self._stage.names.index(name) + 1
        process = self.book.begin(node)
        hand = Hand(name=name, child=child, process=process, stderr=stderr, history=history)
        self.hands[name] = hand
        self._all.append(hand)
        assert child.stdout is not None, "asked for a pipe"
        os.set_blocking(child.stdout.fileno(), False)
        asyncio.get_running_loop().add_reader(child.stdout.fileno(), self._readable, hand)
        return hand

    def _readable(self, hand: Hand) -> None:
        assert hand.child.stdout is not None, "asked for a pipe"
        try:
            data = os.read(hand.child.stdout.fileno(), 1 << 18)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(hand.child.stdout.fileno())
            self._ended(hand)
            return
        hand.buffer += data
        *lines, rest = bytes(hand.buffer).split(b"\n")
        hand.buffer[:] = rest
        for line in lines:
            try:
                self.book.add(hand.process, decode(line))
            except msgspec.DecodeError:
                self._trouble = DemoFailed(f"{hand.name} said {line[:200]!r}, which is no report")
        self._changed.set()

    def _ended(self, hand: Hand) -> None:
        if self.hands.get(hand.name) is hand:
            del self.hands[hand.name]
        hand.ended.set()
        if not hand.expected_to_end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                hand.child.wait(1.0)
            how = hand.child.poll()
            self._trouble = DemoFailed(
                f"the process of {hand.name} ended unexpectedly (status {how}):\n"
                f"{hand.last_words() or '(it said nothing)'}"
            )
        self._changed.set()

    def check(self) -> None:
        """Nothing, while all is well.

        Raises:
            DemoFailed: a process has ended that should not have.
        """
        if self._trouble is not None:
            raise self._trouble

    async def until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait for reports until the condition holds; False if it does not in time.

        Raises:
            DemoFailed: a process has ended that should not have.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while True:
                    self.check()
                    if condition():
                        return True
                    self._changed.clear()
                    await self._changed.wait()
        self.check()
        return False

    def tell_all(self, line: str) -> None:
        """Give everybody an order."""
        for hand in self.hands.values():
            hand.tell(line)

    async def dismiss(self, timeout: float) -> None:
        """Let everybody leave in good order.

        Raises:
            DemoFailed: one did not end in time, or with an error.
        """
        hands = list(self.hands.values())
        for hand in hands:
            hand.expected_to_end = True
            hand.tell("leave")
        try:
            async with asyncio.timeout(timeout):
                for hand in hands:
                    await hand.ended.wait()
        except TimeoutError:
            late = ", ".join(hand.name for hand in hands if not hand.ended.is_set())
            raise DemoFailed(f"{late} did not leave within {timeout:g} s") from None
        for hand in hands:
            status = await asyncio.to_thread(hand.child.wait, 5.0)
            if status != 0:
                raise DemoFailed(f"{hand.name} ended with status {status}:\n{hand.last_words()}")

    def close(self) -> None:
        """Close what is open; ending the processes is the stage's part."""
        loop = asyncio.get_running_loop()
        for hand in self._all:
            assert hand.child.stdout is not None, "asked for a pipe"
            assert hand.child.stdin is not None, "asked for a pipe"
            hand.expected_to_end = True
            loop.remove_reader(hand.child.stdout.fileno())
            with contextlib.suppress(OSError):
                hand.child.stdin.close()
            hand.child.stdout.close()
            hand.stderr.close()
