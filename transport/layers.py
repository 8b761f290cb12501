"""What a sans-I/O layer above the transport sees: the one stream, before the application does.

A layer (named barriers, ordered channels) is attached to the pump before the first view. It is
given everything in stream order: the agreed order, what is safe of it, how far each sender's
other lanes have been delivered, and views. What it wants to publish waits in `take_entries`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .config import ClusterConfig
from .core.outputs import Ordered, Unison
from .events import Lane, Position, ViewInstalled
from .wire_data import MEETING_RANKS_MAX, Meeting

__all__ = [
    "MEETING_RANKS_MAX",
    "DirectingLayer",
    "Layer",
    "LayerFactory",
    "Meeting",
    "Ordered",
    "Outgoing",
    "Unison",
    "UnisonLayer",
    "register",
    "registered",
]


@dataclass(slots=True, init=False)
class Outgoing:
    """What a layer wants to have in the agreed order."""

    channel: bytes
    """One that the layer `owns`; it starts with "!"."""
    payload: bytes
    safe: bool
    """`Layer.stable` is to say soon that every member holds it."""
    meeting: Meeting | None
    """With what others it is about to be said."""

    def __init__(
        self, channel: bytes, payload: bytes, safe: bool = False, meeting: Meeting | None = None
    ) -> None:
        self.channel = channel
        self.payload = payload
        self.safe = safe
        self.meeting = meeting


class Numbered(Protocol):
    """How far the multicasts of this node have left it; a dict by lane will do."""

    def get(self, lane: Lane, default: int, /) -> int:
        """The token up to which those of a lane have been numbered."""
        ...


class Layer(Protocol):
    """Inputs are verbs; outputs wait until they are taken. Nothing here blocks or does I/O."""

    def owns(self, channel: str) -> bool:
        """Whether the entries of a channel of the ordered lane are this layer's."""
        ...

    def ordered(self, batches: Sequence[Ordered], *, now_ns: int) -> None:
        """The next entries of the agreed order; the same sequence at every member."""
        ...

    def held_back(self, position: Position, *, now_ns: int) -> None:
        """On some channel there is an entry at this position that asks for safe delivery.

        It is delivered, and what is behind it on its channel, when `stable` covers it.
        """
        ...

    def stable(self, position: Position, *, now_ns: int) -> None:
        """Every member of the view holds all entries up to this position.

        Said as far as there are safe ones. Of a view that is over everything is held by all that
        go on, which nobody says: `installed` does.
        """
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

    def take_entries(self, numbered: Numbered) -> list[Outgoing]:
        """What the layer wants to publish now, in order; it keeps the rest.

        `numbered` says up to which token (`Endpoint.submit`) this node's own multicasts have
        left it: an arrival that promises their delivery is not published before.
        """
        ...


@runtime_checkable
class DirectingLayer(Layer, Protocol):
    """A layer that also sends to single members; channels of its own start with "!", too."""

    @property
    def directed_channel(self) -> bytes:
        """The channel of its directed messages."""
        ...

    def directed(self, sender: int, payloads: list[bytes], *, now_ns: int) -> None:
        """Messages of a member to this layer, on a channel that it owns, in the order sent."""
        ...

    def take_directed(self) -> deque[tuple[int, bytes]]:
        """What is to be sent to members on the bulk lane, in order; taken from its left end.

        What there is no room for stays there until there is.
        """
        ...


@runtime_checkable
class UnisonLayer(Layer, Protocol):
    """A layer that can take at once what all members have said in the same words."""

    def unison(self, entries: Unison, *, now_ns: int) -> bool:
        """Do what `ordered` would do with `entries.each()`; False if nothing was done.

        None of them asks for safe delivery.
        """
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
