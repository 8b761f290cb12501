"""Ending, stopping and continuing processes that the lab started, and only those.

A process is ended through a pidfd opened after its start time was compared, so that a pid that
has meanwhile gone to somebody else is never signalled.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable
from typing import Protocol

from .lab_state import LabError, Process, identify

_GRACE_S = 1.0
_KILL_S = 3.0


class HasPid(Protocol):
    """`subprocess.Popen`, `asyncio.subprocess.Process`, `multiprocessing.Process`, ..."""

    @property
    def pid(self) -> int | None: ...


def freeze(process: HasPid | int) -> None:
    """Stop a process (SIGSTOP): its kernel still answers, it does not. See `thaw`.

    Returns when it has stopped, if it is a child of this process.
    """
    pid = _pid(process)
    os.kill(pid, signal.SIGSTOP)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def thaw(process: HasPid | int) -> None:
    """Let a stopped process go on (SIGCONT)."""
    os.kill(_pid(process), signal.SIGCONT)


def _pid(process: HasPid | int) -> int:
    pid = process if isinstance(process, int) else process.pid
    if pid is None:
        raise ProcessLookupError("the process has not been started")
    return pid


def end(processes: Iterable[Process], children: Iterable[subprocess.Popen[bytes]]) -> None:
    """End processes: SIGTERM, a second of grace, SIGKILL; reap those that are our children.

    Raises:
        LabError: one survived SIGKILL for seconds (stuck in the kernel).
    """
    watched: dict[int, Process] = {}
    try:
        for process in processes:
            handle = _pidfd(process)
            if handle is not None:
                watched[handle] = process
        living = set(watched)
        _signal(watched, living, signal.SIGTERM)
        # A stopped process acts on SIGTERM only once it goes on.
        _signal(watched, living, signal.SIGCONT)
        living = _await_ends(living, _GRACE_S)
        _signal(watched, living, signal.SIGKILL)
        living = _await_ends(living, _KILL_S)
        for handle in watched:
            # What a leader leaves in its group goes after it.
            _signal(watched, {handle}, signal.SIGKILL)
        if living:
            pids = ", ".join(str(watched[handle].pid) for handle in sorted(living))
            raise LabError(f"processes {pids} did not end within {_KILL_S:g} s of SIGKILL")
    finally:
        for handle in watched:
            os.close(handle)
    for child in children:
        child.wait(timeout=_KILL_S)


def _pidfd(process: Process) -> int | None:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    # The descriptor pins the process; only now is comparing the start time conclusive.
    now = identify(process.pid)
    if now is None or now.started != process.started:
        os.close(handle)
        return None
    return handle


def _signal(watched: dict[int, Process], living: set[int], number: signal.Signals) -> None:
    for handle in living:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if watched[handle].group:
                os.killpg(watched[handle].pid, number)
            else:
                signal.pidfd_send_signal(handle, number)


def _await_ends(handles: set[int], timeout_s: float) -> set[int]:
    """Wait until all have ended; returns those that have not in time."""
    deadline = time.monotonic() + timeout_s
    living = set(handles)
    poller = select.poll()
    for handle in living:
        poller.register(handle, select.POLLIN)
    while living and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poller.poll(left * 1000):
            poller.unregister(handle)
            living.discard(handle)
    return living
