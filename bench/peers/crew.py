"""The members of one run: started on their hosts, listened to, and ended."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import msgspec

from phalanx.barrier.demo_signals import finished
from phalanx.transport.testing.lab import Lab

from .failure import BenchFailed

T = TypeVar("T")

_TAIL_LINES = 12
_TAIL_BYTES = 1 << 13
_READ_BYTES = 1 << 18
_DISMISS_S = 15.0
_ABORT_S = 2.0
_TRACE_LINES = 80


@dataclass(slots=True, eq=False)
class _Member:
    host: str
    child: subprocess.Popen[bytes]
    stderr: IO[bytes]
    buffer: bytearray = field(default_factory=bytearray)

    def line(self) -> bytes | None:
        """The next whole line that it has said."""
        end = self.buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line

    def last_words(self, most: int = _TAIL_LINES) -> str:
        """The end of what it wrote to standard error."""
        self.stderr.seek(0, os.SEEK_END)
        self.stderr.seek(max(0, self.stderr.tell() - _TAIL_BYTES))
        lines = self.stderr.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-most:]) or "(it said nothing)"


def environment() -> dict[str, str]:
    """Of members in Python: they are modules of this package, wherever they are started from.

    When they are aborted they write down where they are.
    """
    here = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": here, "PYTHONFAULTHANDLER": "1"}


def _abort(members: Sequence[_Member]) -> str:
    """End members that hang; returns where they did (those in Python write it down)."""
    for member in members:
        member.child.send_signal(signal.SIGABRT)
    words: list[str] = []
    for member in members:
        with contextlib.suppress(subprocess.TimeoutExpired):
            member.child.wait(_ABORT_S)
        words.append(f"{member.host}:\n{member.last_words(_TRACE_LINES)}")
    return "\n".join(words)


class Crew:
    """A context manager; whoever still runs at its end is killed."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._members: list[_Member] = []
        self._forgotten: list[_Member] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        everybody = [*self._members, *self._forgotten]
        for member in everybody:
            member.child.kill()
        for member in everybody:
            member.child.wait()
            for pipe in (member.child.stdin, member.child.stdout, member.stderr):
                assert pipe is not None, "asked for a pipe"
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def start(self, host: str, argv: Sequence[str]) -> None:
        """Start the member of a host; `gather` returns members in the order of their start."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the crew
        pipe = subprocess.PIPE
        with finished():
            child = self._lab.spawn(
                host, argv, stdin=pipe, stdout=pipe, stderr=stderr, env=environment()
            )
            self._members.append(_Member(host=host, child=child, stderr=stderr))

    def gather(self, kind: type[T], within_s: float) -> list[T]:
        """The next line of every member.

        Raises:
            BenchFailed: one has ended, is late, or says something else.
        """
        said: dict[str, T] = {}
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            for member in self._members:
                if not self._take(member, kind, said):
                    assert member.child.stdout is not None, "asked for a pipe"
                    selector.register(member.child.stdout, selectors.EVENT_READ, member)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    late = [member for member in self._members if member.host not in said]
                    hosts = ", ".join(member.host for member in late)
                    raise BenchFailed(
                        f"{hosts} did not say {kind.__name__} in {within_s:g} s\n{_abort(late)}"
                    )
                for key, _ in ready:
                    member = key.data
                    data = os.read(key.fd, _READ_BYTES)
                    if not data:
                        self._has_ended(member)
                    member.buffer += data
                    if self._take(member, kind, said):
                        selector.unregister(key.fileobj)
        return [said[member.host] for member in self._members]

    def _take(self, member: _Member, kind: type[T], said: dict[str, T]) -> bool:
        line = member.line()
        if line is None:
            return False
        try:
            said[member.host] = msgspec.json.decode(line, type=kind)
        except msgspec.DecodeError as error:
            raise BenchFailed(f"{member.host} said {line[:200]!r}: {error}") from error
        return True

    def _has_ended(self, member: _Member) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            member.child.wait(1.0)
        raise BenchFailed(
            f"the member on {member.host} ended unexpectedly (status {member.child.poll()}):\n"
            f"{member.last_words()}"
        )

    @property
    def pids(self) -> list[int]:
        """Of the members' processes, in the order of their start."""
        return [member.child.pid for member in self._members]

    def kill(self, host: str) -> None:
        """End the member of a host at once, and go on without it."""
        self._of(host).child.kill()
        self.forget(host)

    def forget(self, host: str) -> None:
        """Go on without the member of a host, which may go on as well; it is ended in the end."""
        member = self._of(host)
        self._members.remove(member)
        self._forgotten.append(member)

    def _of(self, host: str) -> _Member:
        return next(member for member in self._members if member.host == host)

    def tell(self, order: str) -> None:
        """Give all members an order; one who has ended misses it."""
        for member in self._members:
            assert member.child.stdin is not None, "asked for a pipe"
            with contextlib.suppress(BrokenPipeError):
                member.child.stdin.write(f"{order}\n".encode())
                member.child.stdin.flush()

    def dismiss(self) -> None:
        """Let everybody leave in good order.

        Raises:
            BenchFailed: one did not end in time, or with an error.
        """
        self.tell("end")
        deadline = time.monotonic() + _DISMISS_S
        for member in self._members:
            try:
                status = member.child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise BenchFailed(f"{member.host} did not leave in {_DISMISS_S:g} s") from None
            if status != 0:
                raise BenchFailed(
                    f"the member on {member.host} ended with {status}:\n{member.last_words()}"
                )
