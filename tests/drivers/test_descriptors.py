"""What a child of `os.fork` lets go of before it runs anything else."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

import pytest

from phalanx.transport.drivers import descriptors


class Kept:
    """Something that a process holds."""

    def __init__(self, *, broken: bool = False) -> None:
        self.told = False
        self._broken = broken

    def forked(self) -> None:
        """This is a child process."""
        self.told = True
        if self._broken:
            raise OSError("nothing can be closed")


def in_a_child(holds: Callable[[], bool]) -> bool:
    """Whether it holds in a process forked from this one."""
    child = os.fork()
    if not child:
        os._exit(not holds())
    return os.waitpid(child, 0)[1] == 0


def test_a_child_has_told_all_even_if_one_of_them_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot let go must not keep the others from it."""
    monkeypatch.setattr(sys, "unraisablehook", print)  # what the child says of the failure
    kept = [Kept(broken=number % 2 == 0) for number in range(8)]
    for one in kept:
        descriptors.hold(one)
    try:
        assert in_a_child(lambda: all(one.told for one in kept))
        assert not any(one.told for one in kept), "this process holds them still"
    finally:
        for one in kept:
            descriptors.release(one)
    assert in_a_child(lambda: not any(one.told for one in kept))


def test_a_child_closes_what_is_open_and_nothing_that_was_closed() -> None:
    """A number is used again, by whoever opens the next one."""
    ours = descriptors.stream_socket(socket.AF_INET)
    assert in_a_child(lambda: not os.path.exists(f"/proc/self/fd/{ours}"))
    descriptors.close(ours)
    theirs = os.dup(0)
    try:
        assert theirs == ours
        assert in_a_child(lambda: os.path.exists(f"/proc/self/fd/{theirs}"))
    finally:
        os.close(theirs)
