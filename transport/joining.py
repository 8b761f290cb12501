"""Joining a cluster: awaited for the cluster, or entered as a context that leaves on exit."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from .core.outputs import RecordLost
from .errors import RecordUnusable, UsageError
from .runtime import DriverFactory

if TYPE_CHECKING:
    from .cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinOptions:
    """The choices of `Cluster.join`, as documented there."""

    rejoin: bool
    readmit: bool
    force: bool = False
    deliver: frozenset[str] | None
    on_waiting: Callable[[str], None] | None
    drivers: DriverFactory | None

    def __post_init__(self) -> None:
        if self.force and self.readmit:
            raise UsageError(
                "force founds the cluster anew, readmit asks the others to admit this node: "
                "give one of them"
            )

    def after_loss(self, lost: RecordLost, incarnation: int) -> RecordUnusable | None:
        """The error that ends a node whose record is lost; None if its operator knows of it."""
        if self.readmit or self.force:
            return None
        return RecordUnusable(
            f"node {lost.peer} remembers start {lost.seen} of this node, its own record only "
            f"start {incarnation}: the record is lost or an old copy; restore "
            "it, or start with readmit to come back as a node without memory"
        )


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
