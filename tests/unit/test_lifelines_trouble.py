"""A process without descriptors: it is told so in our words, and nothing is left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Generator

import pytest

from phalanx.transport.drivers.lifelines import Lifelines
from phalanx.transport.errors import EnvironmentTrouble, trouble

from .lifeline_bench import CLUSTER, HOST, endpoint, free_port

NEEDED = 4
"""Of lifelines on two rails: the epoll set, what wakes it, and a listener on each rail."""


@contextlib.contextmanager
def descriptors_left(count: int) -> Generator[None]:
    """Let this process open no more descriptors than these."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + count + 1, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def in_use() -> set[str]:
    """The descriptors of this process."""
    return {f"{name}: {os.readlink(f'/proc/self/fd/{name}')}" for name in _listed()}


def _listed() -> list[str]:
    names = os.listdir("/proc/self/fd")
    return [name for name in names if os.path.lexists(f"/proc/self/fd/{name}")]


@pytest.mark.parametrize("left", range(NEEDED))
def test_opening_without_descriptors_is_trouble_of_the_environment(left: int) -> None:
    """Wherever they run out; and what was opened before is closed again."""
    port = free_port()
    lifelines = Lifelines(
        endpoint(1, port, a=HOST, b="127.0.0.2"), cluster=CLUSTER, incarnation=1, nonce=1
    )
    before = in_use()
    with descriptors_left(left), pytest.raises(EnvironmentTrouble, match="lifelines") as refused:
        lifelines.open()
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.EMFILE
    assert in_use() == before
    lifelines.open()  # the trouble is over
    lifelines.close()
    assert in_use() == before


def test_with_as_many_descriptors_as_needed_lifelines_open() -> None:
    """The other side of the limit: none too few is none too few."""
    lifelines = Lifelines(
        endpoint(1, free_port(), a=HOST, b="127.0.0.2"), cluster=CLUSTER, incarnation=1, nonce=1
    )
    with descriptors_left(NEEDED):
        lifelines.open()
    lifelines.close()


def test_trouble_says_what_was_attempted_and_what_the_system_said() -> None:
    """An errno without a sentence is nothing to act on."""
    with (
        pytest.raises(EnvironmentTrouble, match=r"^it cannot be done: Too many open files$"),
        trouble("it cannot be done"),
    ):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
