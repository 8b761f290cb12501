"""What a program and the members that it starts say to each other, one line at a time.

    member  {"ready":true}          it is in a group of all members
    program go NS                   begin at this time of the machine's monotonic clock
    member  {"ns":[...]}            how long each round took; or, flat out:
    member  {"sent":N}              it has stopped sending
    program drain N1 N2 ...         what each member has sent: wait until all of it is here
    member  {"delivered":N, ...}    what has come; or, at a pace:
    member  {"times_ns":[...], ...} when each message came, and when the group changed
    program end                     leave; nobody needs the others any more

Members stay until all have measured, so that nobody's leaving is a part of what is measured.
Members in Python are started with a `Task` as their last argument; `cpg_bench.c` speaks the same.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable
from typing import Literal, TypeVar

import msgspec

Kind = Literal["barrier", "bulk link", "flood", "latency", "link", "ordered pace", "pace", "stream"]
"""In a stream the first member alone sends flat out to all, by a link to the second one; at a pace
it sends so many messages a second to all."""
_BASE_S = 30.0
_ROUND_S = 0.25
"""Far more than a round takes anywhere, beside a load too; past it a member hangs."""
DRAIN_S = 30.0
"""So long what was sent flat out may take to arrive."""
_SPARE_S = 90.0
"""For coming together before a run, and for leaving behind it."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What every member of one run does."""

    kind: Kind
    nodes: int
    count: int = 0
    """Rounds of a barrier; messages of a round trip; messages a second at a pace."""
    size_bytes: int = 64
    """Of each message, what the members put in front of it included."""
    warm_up_ns: int = 0
    window_ns: int = 0
    load_bytes_per_s: float = 0.0
    """What each member multicasts on the bulk lane beside a barrier."""

    @property
    def limit_s(self) -> float:
        """How long a run may take from its beginning; whoever takes longer is ended."""
        window_s = (self.warm_up_ns + self.window_ns) / 1e9
        rounds = 0 if self.kind.endswith("pace") else self.count
        return _BASE_S + window_s + rounds * _ROUND_S

    @property
    def life_s(self) -> int:
        """How long a member lives that nothing else ends: it also drains, and leaves."""
        return math.ceil(self.limit_s + DRAIN_S + _SPARE_S)


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """The group is complete."""

    ready: Literal[True] = True


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """What each round took, and what flowed on the bulk lane meanwhile."""

    ns: list[int]
    elapsed_ns: int = 0
    received_bytes: int = 0
    """From the other members."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages this member has sent, warm-up included."""

    sent: int


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What came while everybody sent flat out."""

    delivered: int
    """Within the window, of all senders together."""
    total: int
    gaps: int
    """How often a sender's message was not the one after its last."""
    complete: bool
    """Everything that anybody has sent is here."""
    hash: str
    """Of (sender, payload) in the order of delivery, the whole run."""
    retries: int = 0


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What came of messages that the first member sent at a pace, and when."""

    times_ns: list[int]
    """Of the machine's monotonic clock, for each message that was delivered here."""
    gaps: int
    """How often a message was not the one after the last."""
    views: list[tuple[int, int]]
    """When the group became one of so many members, as this one was told."""


_Said = TypeVar("_Said")


class Run(list[_Said]):
    """What each member of one run has said, and what the run has cost."""

    def __init__(self, members: Iterable[_Said] = (), cpu_s: float | None = None) -> None:
        """`cpu_s` is what all processors of the machine were busy meanwhile."""
        super().__init__(members)
        self.cpu_s = cpu_s

    def receivers(self) -> Run[_Said]:
        """Without the first member, where that only sends."""
        return Run(self[1:], self.cpu_s)


def say(what: Ready | Times | Sent | Delivered | Trace) -> None:
    """A member's line."""
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def hear(order: str) -> list[str]:
    """The words behind an order that is due now.

    Raises:
        EOFError: whoever started this is gone, or says something else.
    """
    line = sys.stdin.readline()
    word, *rest = line.split() or [""]
    if word != order:
        raise EOFError(f"expected to hear {order!r}, not {line!r}")
    return rest


def until_ns(words: list[str]) -> float:
    """Seconds from now to the time that "go" names."""
    return max(0.0, (int(words[0]) - time.monotonic_ns()) / 1e9)
