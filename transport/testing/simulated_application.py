"""An application with state in virtual time: it reads its face now and then, as applications do.

Its state is a chain of hashes over all that it has read, so that two that have the same state
have read the same. It hands it over and takes it through the same hooks and the same queue as an
application of `Cluster`; what it notes in its node's history is for the checkers.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from ..core.outputs import (
    Delivered,
    Ordered,
    StateArrived,
    StateAwaited,
    StateVoid,
    StateWanted,
    StreamItem,
)
from ..events import Event, Evicted, Lane, Message, StateOverdue, ViewId, ViewInstalled
from ..faces import EventQueue
from ..state_hooks import StateHooks
from .history import digest_of

if TYPE_CHECKING:
    from .simulated_node import SimulatedNode

ApplicationId: TypeAlias = tuple[int, int]
"""Its node, and which of all lives of the simulation its process began with."""


@dataclass(frozen=True, slots=True)
class Stateful:
    """What the applications of a simulation are like."""

    reads_after_ns: tuple[int, ...]
    """The mean time until the application of each node reads on."""
    state_bytes: int
    """What each adds to its state, so that handing it over takes a while."""


@dataclass(frozen=True, slots=True)
class StateNoted:
    """An application has come to a view, and has its state."""

    application: ApplicationId
    view_id: ViewId
    digest: str


@dataclass(frozen=True, slots=True)
class ReadWithoutState:
    """An application was handed a multicast of a view whose state it has not."""

    application: ApplicationId
    view_id: ViewId
    payload: bytes


class _Snapshot(msgspec.Struct, frozen=True):
    digest: bytes
    chains: dict[str, bytes]
    padding: bytes


class SimulatedApplication:
    """The application of one process; it lives on when the node begins anew in it."""

    def __init__(self, node: SimulatedNode, stateful: Stateful, seed: int) -> None:
        self._node = node
        self.id: ApplicationId = (node.id, len(node.simulation.lives))
        self._mean_ns = stateful.reads_after_ns[node.id - 1]
        self._padding = bytes(stateful.state_bytes)
        # Of its own, so that reading draws nothing from what the network draws from.
        self._random = random.Random(f"application {self.id} of {seed}")
        self._queue = EventQueue(
            bytes_max=node.simulation.config.limits.receive_queue_bytes,
            freeze=self._freeze,
            hooks=StateHooks(self._give, self._take_in, core=self, failed=self._failed),
        )
        self._digest = b""
        self._chains: dict[str, bytes] = {}
        """By lane and sender, of the view that is read: in a view these are what is agreed on."""
        self._reading: ViewId | None = None
        """The view that is read, if its state is here."""
        self._will_read = False
        self.paused = False
        """It does not read at all."""

    @property
    def over(self) -> bool:
        """Whether its process is gone."""
        return self._node.application is not self or not self._node.running

    # -------------------------------------------------------------------------------- reading

    def put(self, item: StreamItem) -> None:
        """As a face does: what concerns its application goes into the queue."""
        match item:
            case Ordered() if not item.channel.startswith("!"):
                self._queue.put(_as_delivered(item))
            case Delivered() | ViewInstalled() | Evicted() | StateOverdue():
                self._queue.put(item)
            case StateWanted() | StateAwaited() | StateArrived() | StateVoid():
                self._queue.put(item)
            case _:
                return
        self.read_soon()

    def read_soon(self) -> None:
        """It will read, unless it is about to already."""
        if not (self._will_read or self.paused or self.over):
            self._will_read = True
            wait = self._random.randrange(1, 2 * self._mean_ns) if self._mean_ns else 0
            self._node.simulation.network.after(wait, self._read)

    def _read(self) -> None:
        self._will_read = False
        if self.over or self.paused:
            return
        if self._node.frozen:
            self.read_soon()
            return
        while events := self._queue.ready():
            for event in events:
                self._see(event)

    def _see(self, event: Event) -> None:
        match event:
            case Message(directed=False):
                if event.view_id != self._reading:
                    self._node.note(ReadWithoutState(self.id, event.view_id, event.payload))
                lane = event.lane.name
                chain = lane if event.lane is Lane.ORDERED else f"{lane} {event.sender}"
                said = f"{event.sender}".encode() + event.payload
                self._chains[chain] = digest_of(self._chains.get(chain, b""), said)
            case ViewInstalled():
                self._come_to(event)
            case Evicted():
                self._reading = None
            case _:
                pass

    def _come_to(self, event: ViewInstalled) -> None:
        view = event.view
        if not event.synced:
            self._reading = None
            return
        if not (view.continuing or event.donor):
            # Nobody has state: everybody begins with the same.
            self._digest, self._chains = b"", {}
        parts = [f"{view.id} {view.incarnations}".encode(), *self._sorted_chains()]
        self._digest = digest_of(self._digest, *parts)
        self._chains = {}
        self._reading = view.id
        self._node.note(StateNoted(self.id, view.id, self._digest.hex()))

    def _sorted_chains(self) -> list[bytes]:
        return [name.encode() + chain for name, chain in sorted(self._chains.items())]

    def _freeze(self, lane: Lane, frozen: bool) -> None:
        if not self.over:
            self._node.queue_full(self, lane, full=frozen)

    # ------------------------------------------------------------------------------- its state

    def _give(self) -> bytes:
        state = _Snapshot(digest=self._digest, chains=self._chains, padding=self._padding)
        return msgspec.msgpack.encode(state)

    def _take_in(self, state: bytes) -> None:
        snapshot = msgspec.msgpack.decode(state, type=_Snapshot)
        self._digest, self._chains = snapshot.digest, snapshot.chains

    def _failed(self, error: Exception) -> None:
        raise AssertionError(f"state hook: of application {self.id}: {error}") from error

    # As `StateSide`, for the hooks:

    def state_wanted(self, view_id: ViewId) -> bool:
        """Whether others still need the state."""
        return self._node.endpoint.state_wanted(view_id)

    def give_state(self, view_id: ViewId, state: bytes) -> None:
        """The state as of a view."""
        self._node.endpoint.give_state(view_id, state)
        self._node.wake_soon()

    def synced(self, view_id: ViewId) -> None:
        """The state of a view is taken in."""
        self._node.endpoint.synced(view_id)
        self._node.wake_soon()


def _as_delivered(item: Ordered) -> Delivered:
    """An entry of the agreed order as the queue of a face has messages."""
    return Delivered(
        item.sender,
        Lane.ORDERED,
        item.channel,
        False,
        item.payloads,
        item.view_id,
        item.first,
        item.size,
    )
