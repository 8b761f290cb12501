"""What a sans-I/O layer above the transport sees: the one stream, before the application does.

A layer (named barriers, an ordered channel) is attached to the pump before the first view. It
is given everything in stream order: entries of the agreed order, how far each sender's other
lanes have been delivered, and views. What it wants to publish waits in `take_entries`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from .config import ClusterConfig
from .events import Lane, Position, ViewInstalled


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the agreed order on a layer's channel."""

    sender: int
    incarnation: int
    payload: bytes
    position: Position
    marks: Mapping[Lane, int]
    """How many batches its sender had numbered on its FIFO and BULK lanes before this entry."""


class Layer(Protocol):
    """Inputs are verbs; outputs wait until they are taken. Nothing here blocks or does I/O."""

    @property
    def channel(self) -> str:
        """The channel of the ordered lane whose entries are this layer's; starts with "!"."""
        ...

    def ordered(self, entry: Entry, *, now_ns: int) -> None:
        """The next entry of the agreed order; the same sequence at every member."""
        ...

    def progressed(self, *, sender: int, lane: Lane, sequence: int, now_ns: int) -> None:
        """All batches of `sender` on FIFO or BULK up to `sequence` are in the queue."""
        ...

    def installed(self, event: ViewInstalled, *, now_ns: int) -> None:
        """A new view; all entries and progress of the view before have been given already."""
        ...

    def detached(self, reason: str, *, now_ns: int) -> None:
        """This node may not act (lease lost, evicted, closed): fail what is open locally."""
        ...

    def wake(self, now_ns: int) -> None:
        """Time has passed; early and repeated calls are harmless."""
        ...

    def next_deadline(self) -> int | None:
        """When `wake` is wanted, in monotonic nanoseconds; free of side effects."""
        ...

    def stats(self) -> dict[str, int]:
        """Counters since the layer was made."""
        ...

    def take_entries(self) -> list[bytes]:
        """What the layer wants to publish on its channel, in order; clears the list."""
        ...


LayerFactory = Callable[[ClusterConfig, int], Layer]
"""Makes a layer for one cluster, given the local node id."""

_factories: dict[str, LayerFactory] = {}


def register(name: str, factory: LayerFactory) -> None:
    """Have every cluster opened from now on carry a layer of this name from its first view on."""
    _factories[name] = factory


def registered() -> dict[str, LayerFactory]:
    """The layers that a new cluster starts with."""
    return dict(_factories)
