"""A node that cannot begin, or begin again: it ends with a typed error, and nobody waits."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phalanx.transport import (
    ClosedError,
    Cluster,
    ClusterConfig,
    EnvironmentTrouble,
    Evicted,
    PhalanxError,
    ViewId,
)
from phalanx.transport.drivers.base import LocalEndpoint
from phalanx.transport.drivers.lifelines import Lifelines
from phalanx.transport.testing.memory import MemoryNetwork, memory_config

GUARD_S = 20.0


class BrokenLifelines(Lifelines):
    """Lifelines that do not open."""

    error: BaseException

    def open(self) -> None:
        raise self.error


class Network(MemoryNetwork):
    """A network whose lifelines break with `error`, from the incarnation `since` on."""

    def __init__(self, error: BaseException, *, since: int) -> None:
        super().__init__()
        self._error = error
        self._since = since

    def lifelines(
        self, local: LocalEndpoint, *, cluster: int, incarnation: int, nonce: int
    ) -> Lifelines | None:
        if incarnation < self._since:
            return None
        broken = BrokenLifelines(local, cluster=cluster, incarnation=incarnation, nonce=nonce)
        broken.error = self._error
        return broken


def play(body: Callable[[ClusterConfig], Coroutine[Any, Any, None]], folder: Path) -> list[Any]:
    """Run a scene with one node; returns what the event loop was told of."""
    told: list[Any] = []

    async def guarded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
        async with asyncio.timeout(GUARD_S):
            await body(replace(memory_config(1), state_dir=str(folder)))

    asyncio.run(guarded())
    return told


@pytest.mark.parametrize(
    "error", [EnvironmentTrouble("no descriptors"), OSError(errno.EMFILE, "no descriptors")]
)
def test_a_failed_beginning_says_what_it_failed_of(tmp_path: Path, error: Exception) -> None:
    """Cleaning up after what did not open must not hide why it did not; the next start works."""

    async def body(config: ClusterConfig) -> None:
        network = Network(error, since=1)
        with pytest.raises(type(error), match="no descriptors"):
            await Cluster.join(config, node=1, drivers=network)
        async with Cluster.join(config, node=1, drivers=MemoryNetwork()):
            pass

    assert play(body, tmp_path) == []


@pytest.mark.parametrize(
    ("error", "ends_with"),
    [
        (EnvironmentTrouble("no descriptors"), EnvironmentTrouble),
        (OSError(errno.EMFILE, "no descriptors"), ClosedError),
    ],
)
def test_a_node_that_cannot_begin_anew_has_ended(
    tmp_path: Path, error: Exception, ends_with: type[PhalanxError]
) -> None:
    """After an eviction with rejoin: readers and senders are told, whatever went wrong."""

    async def body(config: ClusterConfig) -> None:
        network = Network(error, since=2)
        cluster = await Cluster.join(config, node=1, rejoin=True, drivers=network)
        cluster._take(Evicted(view_id=ViewId(1, 9)))  # pyright: ignore[reportPrivateUsage] - as the core does
        with pytest.raises(ends_with, match="no descriptors"):
            async for _ in cluster:
                pass
        with pytest.raises(ends_with, match="no descriptors"):
            await cluster.multicast(b"late")

    told = play(body, tmp_path)
    assert told == ([] if ends_with is EnvironmentTrouble else [error])
