"""What several files here start from: clusters behind blocking faces, and no thread left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from phalanx.transport.blocking import Cluster
from phalanx.transport.testing.memory import MemoryNetwork, memory_config

from .threads import (
    GUARD_S,
    ThreadedNetwork,
    in_threads,
)


@pytest.fixture
def no_thread_is_left() -> Generator[None]:
    """Whatever a test does, the loops of its clusters have ended with their threads."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def alone(tmp_path: Path) -> Generator[Cluster]:
    """A node that is a whole cluster."""
    config = replace(memory_config(1), state_dir=str(tmp_path))
    with Cluster.join(config, node=1, drivers=MemoryNetwork(), timeout=GUARD_S) as cluster:
        yield cluster


@pytest.fixture
def three(tmp_path: Path) -> Generator[dict[int, Cluster]]:
    """Three nodes, each in an event loop of its own."""
    config = replace(memory_config(3), state_dir=str(tmp_path))
    network = ThreadedNetwork()

    def join(node: int) -> Callable[[], Cluster]:
        return lambda: Cluster.join(config, node=node, drivers=network, timeout=GUARD_S)

    with ExitStack() as stack:
        clusters = in_threads(*(join(node) for node in (1, 2, 3)))
        for cluster in clusters:
            stack.enter_context(cluster)
        yield dict(zip((1, 2, 3), clusters, strict=True))
