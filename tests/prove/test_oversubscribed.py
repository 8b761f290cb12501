"""Both cores are wanted by twice as many processes as there are: slow is not dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from ..netns.harness import Fleet, now_ns
from ..netns.reports import Meetings

pytestmark = [pytest.mark.netns, pytest.mark.slow]

SECONDS = 600
PAGE_SECONDS = 60
"""Histories are judged page by page."""
RATE = 100
BUSY_PER_CORE = 2
BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""Ends with the test, also with one that is killed."""


@contextmanager
def busy_cores() -> Generator[None, None, None]:
    """Twice as many processes as cores do nothing but compute."""
    argv = [sys.executable, "-c", BUSY, str(os.getpid())]
    cores = len(os.sched_getaffinity(0))
    busy = [subprocess.Popen(argv) for _ in range(BUSY_PER_CORE * cores)]
    try:
        yield
        assert all(process.poll() is None for process in busy), "one ended too early"
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_busy_cores_change_no_view(fleet: Fleet) -> None:
    """Heartbeats are late and event loops starve, for ten minutes; nobody may be accused of it."""
    before = {host: fleet[host].view() for host in fleet.hosts}
    started_ns = now_ns()
    with busy_cores():
        until_s = time.monotonic() + SECONDS
        while time.monotonic() < until_s:
            fleet.stream(RATE)
            for host in fleet.hosts:
                fleet[host].ask(Meetings(name="tick", timeout_s=30, pause_s=0.1))
            page_until_s = min(until_s, time.monotonic() + PAGE_SECONDS)
            while time.monotonic() < page_until_s:
                fleet.flow(RATE)
                changed = {h: fleet[h].views(started_ns) for h in fleet.hosts}
                assert not any(changed.values()), f"{changed}\n{fleet.story()}"
            fleet.settle()
            told = {
                host: (
                    len(history.sent),
                    len(history.returns),
                    round(sum(s.at_ns - s.since_ns for s in history.stood) / 1e6),
                )
                for host, history in fleet.members().items()
            }
            seconds = time.monotonic() - until_s + SECONDS
            print(f"{seconds:.0f} s: messages, barriers, ms in which it stood still: {told}")
            fleet.turn_page()
    assert {host: fleet[host].view() for host in fleet.hosts} == before
