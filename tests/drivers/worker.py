"""Runs one driver in a process of its own; commands come over standard input as pickles.

Started by `netns_bench` inside a host's network namespace. Each command is a tuple (name,
positional arguments, keyword arguments) and gets one answer: ("ok", value) or ("error",
exception). While nothing is asked, the worker polls its driver and keeps the inputs.
"""

from __future__ import annotations

import importlib
import os
import pickle
import select
import struct
import time
from typing import Any

from phalanx.transport.drivers.base import Driver, Input, Link, Stream, Writable

LENGTH = struct.Struct("=I")
REQUESTS, ANSWERS = 0, 1
"""Descriptors, used without buffers: `select` must see every command."""


def read_exactly(count: int) -> bytes:
    """That many bytes of the requests; fewer at their end."""
    data = b""
    while len(data) < count:
        part = os.read(REQUESTS, count - len(data))
        if not part:
            break
        data += part
    return data


class Sender:
    """A numbered stream of frames, paced by the clock."""

    def __init__(self, link: Link, count: int, every_ns: int, size: int) -> None:
        self.link, self.count, self.every_ns, self.size = link, count, every_ns, size
        self.sent = 0
        self.blocked = False
        self.next_ns = time.monotonic_ns()

    def run(self, driver: Driver) -> None:
        """Send what is due."""
        while self.sent < self.count and not self.blocked:
            if self.every_ns and time.monotonic_ns() < self.next_ns:
                return
            frame = struct.pack("=Q", self.sent).ljust(self.size, b".")
            if not driver.transmit(self.link, Stream.FIFO, frame):
                self.blocked = True
                return
            self.sent += 1
            self.next_ns += self.every_ns

    def wait_s(self) -> float | None:
        """How long nothing is due."""
        if self.blocked or self.sent >= self.count:
            return None
        return max(0.0, (self.next_ns - time.monotonic_ns()) / 1e9)


class Worker:
    """One driver, its inputs so far, and at most one sender."""

    def __init__(self) -> None:
        self.driver: Driver | None = None
        self.inputs: list[tuple[int, Input]] = []
        self.reading = True
        self.sender: Sender | None = None
        self.collecting_until_ns = 0

    # ------------------------------------------------------------------------- commands

    def open(self, factory: str, *arguments: Any) -> None:
        """Make the driver "module:Class" of these arguments, and open it."""
        module, name = factory.split(":")
        driver: Driver = getattr(importlib.import_module(module), name)(*arguments)
        driver.open()
        self.driver = driver

    def call(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call a method of the driver, or read a property of it."""
        found = getattr(self.driver, method)
        return found(*arguments, **keywords) if callable(found) else found

    def read(self, on: bool) -> None:
        self.reading = on

    def stream(self, link: Link, count: int, every_ns: int, size: int) -> None:
        self.sender = Sender(link, count, every_ns, size)

    def sent(self) -> int:
        return self.sender.sent if self.sender else 0

    def fill(self, link: Link, frames: list[bytes]) -> int:
        """Transmit until one is refused; how many were accepted."""
        assert self.driver is not None, "open comes first"
        for number, frame in enumerate(frames):
            if not self.driver.transmit(link, Stream.FIFO, frame):
                return number
        return len(frames)

    def exit(self) -> None:
        if self.driver is not None:
            self.driver.close()

    # ----------------------------------------------------------------------------- loop

    def _answer(self, answer: tuple[str, Any]) -> None:
        data = pickle.dumps(answer)
        rest = memoryview(LENGTH.pack(len(data)) + data)
        while rest:
            rest = rest[os.write(ANSWERS, rest) :]

    def _serve(self) -> bool:
        """One command; False at the end."""
        head = read_exactly(LENGTH.size)
        if len(head) < LENGTH.size:
            return False
        name, arguments, keywords = pickle.loads(read_exactly(LENGTH.unpack(head)[0]))
        if name == "collect":
            self.collecting_until_ns = time.monotonic_ns() + int(arguments[0] * 1e9)
            return True
        try:
            self._answer(("ok", getattr(self, name)(*arguments, **keywords)))
        except Exception as error:
            self._answer(("error", error))
        return name != "exit"

    def _collected(self) -> None:
        """Answer a `collect` once there is something, or its time is over."""
        if self.collecting_until_ns and (
            self.inputs or time.monotonic_ns() >= self.collecting_until_ns
        ):
            self.collecting_until_ns = 0
            self._answer(("ok", self.inputs))
            self.inputs = []

    def _poll(self) -> None:
        assert self.driver is not None, "only an open driver is watched"
        now_ns = time.monotonic_ns()
        for one in self.driver.poll():
            self.inputs.append((now_ns, one))
            if self.sender and isinstance(one, Writable) and one.link == self.sender.link:
                self.sender.blocked = False

    def run(self) -> None:
        """Serve until told to exit, or until standard input ends."""
        serving = True
        while serving:
            watched: list[int] = [REQUESTS]
            driver_fd = -1
            if self.driver is not None and self.reading:
                driver_fd = self.driver.fileno()
                watched.append(driver_fd)
            waits = [self.sender.wait_s()] if self.sender else []
            if self.collecting_until_ns:
                waits.append(max(0.0, (self.collecting_until_ns - time.monotonic_ns()) / 1e9))
            readable, _, _ = select.select(
                watched, [], [], min((w for w in waits if w is not None), default=None)
            )
            if driver_fd in readable:
                self._poll()
            if self.sender and self.driver is not None:
                self.sender.run(self.driver)
            if REQUESTS in readable:
                serving = self._serve()
            self._collected()


if __name__ == "__main__":
    Worker().run()
