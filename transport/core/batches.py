"""A batch on its way: queued, stamped, numbered and sent, arrived.

Each of these is made once for every message or batch; with an `__init__` of their own they are
plain structures of C where the build is compiled (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..events import ViewId
from ..wire_data import Data, Meeting


@dataclass(slots=True, init=False)
class Queued:
    """A message that is accepted and not yet numbered."""

    payload: bytes
    channel: bytes
    token: int
    safe: bool
    """Its sender waits until every member holds it."""
    meeting: Meeting | None
    """With which others it is about to be said."""

    def __init__(
        self,
        payload: bytes,
        channel: bytes,
        token: int,
        safe: bool = False,
        meeting: Meeting | None = None,
    ) -> None:
        self.payload = payload
        self.channel = channel
        self.token = token
        self.safe = safe
        self.meeting = meeting


@dataclass(slots=True, init=False)
class Stamp:
    """What a batch says besides its messages, at the moment in which it is numbered."""

    view_id: ViewId
    mark_fifo: int
    mark_bulk: int
    epoch: int
    done: int
    may_end: bool
    """The last batch of the turn may close its epoch."""

    def __init__(
        self,
        view_id: ViewId,
        mark_fifo: int,
        mark_bulk: int,
        epoch: int = 0,
        done: int = 0,
        may_end: bool = False,
    ) -> None:
        self.view_id = view_id
        self.mark_fifo = mark_fifo
        self.mark_bulk = mark_bulk
        self.epoch = epoch
        self.done = done
        self.may_end = may_end


@dataclass(slots=True, init=False)
class Sent:
    """A numbered batch of ours."""

    frame: bytes
    size: int
    token: int
    """The last message whose last byte is in this batch; tokens grow by one a message."""
    upto_bytes: int
    """Of the stream in its view, this batch included."""

    def __init__(self, frame: bytes, size: int, token: int, upto_bytes: int) -> None:
        self.frame = frame
        self.size = size
        self.token = token
        self.upto_bytes = upto_bytes


@dataclass(slots=True, init=False)
class Arrived:
    """A batch that is held and not yet delivered."""

    data: Data
    frame: bytes
    offset: int
    """Where the DATA body begins in the frame."""
    payloads: list[bytes] | None
    """What the frame holds, where that is known already."""
    token: int
    """Of the last message that ends in it, on its sender's own node."""

    def __init__(
        self,
        data: Data,
        frame: bytes,
        offset: int,
        payloads: list[bytes] | None = None,
        token: int = 0,
    ) -> None:
        self.data = data
        self.frame = frame
        self.offset = offset
        self.payloads = payloads
        self.token = token

    @property
    def body(self) -> bytes:
        """Its DATA body, which any holder may pass on."""
        return self.frame[self.offset :]


def size_of(payloads: Sequence[bytes]) -> int:
    """Their bytes; `sum` and `map` would be looked up among the builtins for each batch."""
    size = 0
    for payload in payloads:
        size += len(payload)
    return size
