"""What the processes of the demo tell the one that started them: lines of JSON on a pipe.

All times are CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share, in whatever
network namespace they are. Deliveries are counted in slots of ten milliseconds.
"""

from __future__ import annotations

import msgspec

from phalanx.transport.testing.numbered import Received

SLOT_NS = 10_000_000
REPORT_EVERY_S = 0.25


class Deliveries(msgspec.Struct, array_like=True, frozen=True):
    """What one receiver got of one sender in one slot."""

    sender: int
    slot: int
    """Time divided by `SLOT_NS`."""
    count: int
    gap_us: int
    """The longest time without a delivery of this sender that ended in this slot."""


class ViewSeen(msgspec.Struct, array_like=True, frozen=True):
    """A view was installed."""

    era: int
    k: int
    members: tuple[tuple[int, int], ...]
    """Node ids and incarnations."""
    at_ns: int


class PathSeen(msgspec.Struct, array_like=True, frozen=True):
    """How a peer is reached over one rail."""

    peer: int
    rail: str
    state: str
    primary: bool


class PathMoved(msgspec.Struct, array_like=True, frozen=True):
    """The way to a peer changed."""

    peer: int
    rail: str
    state: str
    primary: bool
    at_ns: int


class BarrierSeen(msgspec.Struct, array_like=True, frozen=True):
    """One outcome of one wait."""

    generation: tuple[int, int, int]
    """Which generation was released; zeros for one that was broken."""
    why: str
    """Empty if it was released."""
    at_ns: int


class Report(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One line. Counters and streams are totals of the process, lists are news since the last."""

    node: int
    incarnation: int
    at_ns: int
    carrier: str = ""
    sent: int = 0
    """The number of the last message that this incarnation multicast."""
    quiet: bool = False
    """It has stopped sending; `sent` is final."""
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    streams: list[Received] = []
    deliveries: list[Deliveries] = []
    views: list[ViewSeen] = []
    paths: list[PathSeen] = []
    moves: list[PathMoved] = []
    barriers: list[BarrierSeen] = []
    undelivered: dict[int, int] = {}
    """How often this sender was told that messages of it did not reach a node."""
    notes: list[str] = []
    """Remarkable things, in words."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Report)


def encode(report: Report) -> bytes:
    """One line."""
    return _encoder.encode(report) + b"\n"


def decode(line: bytes) -> Report:
    """A line that `encode` made.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decoder.decode(line)
