"""Joining a cluster: awaited for the cluster, or entered as a context that leaves on exit."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from .core.outputs import RecordLost
from .driver_factory import DriverFactory
from .errors import RecordUnusable, StateFailed, UsageError
from .events import PeerRefused
from .record_file import record_lost
from .runtime import Runtime
from .state_hooks import OnState, OnStateRequest, StateHooks, StateSide

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
    on_state_request: OnStateRequest | None = None
    on_state: OnState | None = None

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
        return record_lost(lost.peer, seen=lost.seen, own=incarnation)


def hooks_of(
    options: JoinOptions, *, core: StateSide, failed: Callable[[StateFailed], None]
) -> StateHooks | None:
    """The hooks for the application's state, if it has given them."""
    if options.on_state_request is None or options.on_state is None:
        return None
    return StateHooks(options.on_state_request, options.on_state, core=core, failed=failed)


class WaitingWords:
    """What the first view waits for; `tell` is given the words each time they change."""

    def __init__(
        self,
        runtime: Runtime,
        name_of: Callable[[int], str],
        tell: Callable[[str], None] | None,
    ) -> None:
        self._runtime = runtime
        self._name_of = name_of
        self._tell = tell
        self._told = ""
        self._refused: dict[str, str] = {}
        """Why by name; "" for this node."""

    def refused(self, event: PeerRefused) -> None:
        """A peer was turned away, or this node by all."""
        self._refused[self._name_of(event.peer) if event.peer else ""] = event.reason

    def words(self) -> str:
        """What is waited for."""
        if self._runtime.pump is None:
            return "the node did not start"
        words = self._runtime.endpoint.gather.explain()
        discovery = self._runtime.discovery
        if discovery is not None and discovery.silent:
            names = ", ".join(self._name_of(node) for node in discovery.silent)
            words = f"{words}; no beacon has come from {names}"
        reasons = (f"{name}: {r}" if name else r for name, r in sorted(self._refused.items()))
        refused = "; ".join(reasons)
        return f"{words}; refused: {refused}" if refused else words

    def turned(self) -> None:
        """Something has happened: tell it if that changes the words."""
        if self._tell is not None:
            words = self.words()
            if words != self._told:
                self._told = words
                self._tell(words)


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
