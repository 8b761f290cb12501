"""Joining a cluster: awaited for the cluster, or entered as a context that leaves on exit."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from .runtime import DriverFactory

if TYPE_CHECKING:
    from .cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """The choices of `Cluster.join`, as documented there."""

    rejoin: bool
    readmit: bool
    deliver: frozenset[str] | None
    on_waiting: Callable[[str], None] | None
    drivers: DriverFactory | None


class Joining:
    """What `Cluster.join` returns: await it, or use it with `async with`."""

    def __init__(self, make: Callable[[], Cluster], timeout: float | None) -> None:
        self._make = make
        self._timeout = timeout
        self._cluster: Cluster | None = None

    def __await__(self) -> Generator[object, None, Cluster]:
        return self._join().__await__()

    async def _join(self) -> Cluster:
        cluster = self._make()
        await cluster.enter(self._timeout)
        return cluster

    async def __aenter__(self) -> Cluster:
        self._cluster = await self._join()
        return self._cluster

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._cluster is not None, "__aenter__ came first"
        await self._cluster.leave()
