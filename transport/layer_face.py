"""What the faces of layers need of a cluster: barriers and ordered channels stand on this.

All of it is called from the cluster's own event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol, TypeVar

from .calls import Home
from .config import ClusterConfig
from .errors import PhalanxError, UsageError
from .events import Lane, PathStatus
from .layers import Layer
from .runtime import Runtime, now_ns
from .sending import Sending
from .waking import Waiter

_FIFO: Final = Lane.FIFO
_ORDERED: Final = Lane.ORDERED
_BULK: Final = Lane.BULK
_Service = TypeVar("_Service")


class _Owner(Protocol):
    """The cluster that it is a face of."""

    config: ClusterConfig

    @property
    def node_id(self) -> int: ...
    @property
    def primary(self) -> bool: ...
    @property
    def detached(self) -> bool: ...
    @property
    def ended(self) -> PhalanxError | None: ...
    @property
    def left(self) -> bool: ...
    @property
    def paths(self) -> Mapping[int, Mapping[str, PathStatus]]: ...
    def check_state(self) -> None: ...


class LayerFace:
    """One per cluster: `Cluster.layer_face`."""

    def __init__(
        self,
        owner: _Owner,
        runtime: Runtime,
        sending: Sending,
        home: Home,
        listeners: list[Callable[[], None]],
    ) -> None:
        self._owner = owner
        self._runtime = runtime
        self._sending = sending
        self._home = home
        self._listeners = listeners
        self._full: set[object] = set()
        """Readers of the ordered lane that are full."""
        self._services: dict[type[object], object] = {}

    @property
    def config(self) -> ClusterConfig:
        """The cluster's configuration."""
        return self._owner.config

    @property
    def node_id(self) -> int:
        """This node."""
        return self._owner.node_id

    @property
    def primary(self) -> bool:
        """Whether this node may act now."""
        return self._owner.primary

    @property
    def detached(self) -> bool:
        """Whether this node has been without a majority for a whole lease, or has ended."""
        return self._owner.detached

    def check_caller(self) -> None:
        """Refuse a call from another event loop or process: it would never be woken.

        Raises:
            UsageError: it comes from there; the message says what to do.
        """
        self._home.check()

    def check_state(self) -> None:
        """Refuse a call that this node cannot serve now.

        Raises:
            UsageError: it comes from another event loop or process.
            NoQuorum, EvictedError, ClosedError
        """
        self._owner.check_state()

    def layer(self, name: str) -> Layer:
        """The layer of that name.

        Raises:
            UsageError: it was not registered before this cluster was joined.
        """
        found = self._runtime.layers.get(name)
        if found is None:
            raise UsageError(
                f"this cluster was joined without the layer {name!r}; "
                "import phalanx.barrier before Cluster.join"
            )
        return found

    def service(self, kind: type[_Service], make: Callable[[], _Service]) -> _Service:
        """The one service of that kind on this cluster; made when it is first asked for."""
        found = self._services.get(kind)
        if found is None:
            found = self._services[kind] = make()
        assert isinstance(found, kind), "it was put there by its kind"
        return found

    def add_layer_listener(self, callback: Callable[[], None]) -> None:
        """Have `callback` called after each turn of the pump, when layers may have outcomes."""
        self._listeners.append(callback)

    @staticmethod
    def now_ns() -> int:
        """The clock of all deadlines, in monotonic nanoseconds."""
        return now_ns()

    def kick(self) -> None:
        """Turn the pump soon: a layer has something to say."""
        if self._runtime.pump is not None:
            self._runtime.kick()

    def hurry(self) -> None:
        """The same at once, for what somebody waits for."""
        if self._runtime.pump is not None:
            self._runtime.hurry()

    def waiter(self) -> Waiter:
        """What one task can await, and goes on within the turn in which it is woken."""
        return Waiter(self._runtime.waking)

    @property
    def ended(self) -> PhalanxError | None:
        """Why the cluster is no more; None while it is."""
        return self._owner.ended

    @property
    def left(self) -> bool:
        """Whether it has ended in good order."""
        return self._owner.left

    def freeze_ordered(self, owner: object, *, frozen: bool) -> None:
        """A reader of the ordered lane is full, or has room again; the lane waits for all."""
        before = bool(self._full)
        (self._full.add if frozen else self._full.discard)(owner)
        if bool(self._full) is not before:
            self._freeze(frozen=frozen)

    def freeze_again(self) -> None:
        """A new core has begun: it has to be told that the lane is full."""
        if self._full:
            self._freeze(frozen=True)

    def _freeze(self, *, frozen: bool) -> None:
        if self._runtime.pump is not None:
            endpoint = self._runtime.endpoint
            endpoint.freeze(Lane.ORDERED, frozen=frozen, now_ns=now_ns())
            self._runtime.kick()

    async def publish(
        self,
        channel: str,
        payloads: list[bytes],
        *,
        safe: bool,
        wait: bool,
        deadline: float,
        when_accepted: Callable[[int], None],
    ) -> None:
        """Have messages accepted on the ordered lane; `when_accepted` is told the last token.

        Raises:
            UsageError, Overloaded, NoQuorum, EvictedError, ClosedError
        """
        await self._sending.publish(
            channel,
            payloads,
            safe=safe,
            wait=wait,
            deadline=deadline,
            when_accepted=when_accepted,
        )

    def unnumbered(self, *, bulk: bool) -> dict[Lane, int]:
        """By lane the token of the last multicast accepted, where any waits for its number.

        Multicasts on the bulk lane only if asked for.
        """
        delivery = self._runtime.endpoint.delivery
        waiting: dict[Lane, int] = {}
        if token := delivery.fifo.unnumbered:
            waiting[_FIFO] = token
        if token := delivery.entries.unnumbered:
            waiting[_ORDERED] = token
        if bulk and (token := delivery.bulk.unnumbered):
            waiting[_BULK] = token
        return waiting

    def unheld(self, multicasts: Collection[Lane]) -> list[tuple[tuple[int, Lane], int]]:
        """What this node has sent and not all addressees hold, as `held` takes it.

        Directed messages, and multicasts on these lanes.
        """
        return self._sending.unheld(multicasts)

    async def held(self, sends: list[tuple[tuple[int, Lane], int]], timeout: float) -> None:
        """Wait until what `unheld` gave is held by its addressees, or lost.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        self._owner.check_state()
        await self._sending.held(sends, timeout)

    @property
    def paths(self) -> Mapping[int, Mapping[str, PathStatus]]:
        """How each peer is reached, by rail."""
        return self._owner.paths
