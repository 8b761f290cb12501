"""Streams that stand still although the peer answers: go round them, then begin anew.

SCTP keeps a frame for the path it was given to until its timers say otherwise; after a failover
under load that was seen to take seconds, on one stream of one association, while everything
else went on. The core sees such a stall by itself: something is outstanding, no acknowledgement
has moved for a while, and a heartbeat sent *after* that has been answered, so the peer's process
runs and a path works both ways. When it asks, another path carries the data until the primary one
answers; a path that has not answered for a whole heartbeat interval then is left. When it is
answered, what is outstanding goes again on the repair stream, as do new batches for a while
(receivers know a batch by its number, not by its carrier). If the same stands still for as long
as a silent peer is given, the association is reset: the next one goes on where the peer is. Not
earlier, because heartbeats go with it: a rail that flaps would make a peer look dead over the
other one, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..config import MS, Timing
from ..drivers.base import Stream
from ..events import Lane, ViewId
from .delivery import Delivery
from .outputs import Outputs
from .paths import Paths
from .peers import Peers

DETOUR_INTERVALS: Final = 50
"""For so many intervals new batches go round a stalled stream."""
_ENDS: Final = (0, Lane.CONTROL)
"""Stands for the ENDs that a peer lacks. Whether it has them depends on others as well."""


class _Mark(NamedTuple):
    """How far a peer holds a stream, and since when."""

    held: int
    since_ns: int


_Marks = dict[tuple[int, Lane], _Mark]


@dataclass(slots=True)
class _Watch:
    """What was outstanding to one peer at the last check."""

    link: int = 0
    marks: _Marks = field(default_factory=dict[tuple[int, Lane], _Mark])
    asked_ns: int = 0
    """When a heartbeat was sent because nothing moved; 0 if none was."""
    detour_until_ns: int = 0
    """Batches go round the stalled stream until then; 0 if they do not."""


class Stalls:
    """Looks, while anything is outstanding, whether it moves."""

    def __init__(
        self, *, delivery: Delivery, paths: Paths, peers: Peers, timing: Timing, outputs: Outputs
    ) -> None:
        self._delivery = delivery
        self._paths = paths
        self._peers = peers
        self._outputs = outputs
        # One to two of these without movement are about SCTP's first time-out, which mends most;
        # a frame that was sent just before it waits for the second one.
        self._interval_ns = timing.sctp.rto_min_ms * MS * 3 // 4
        self._reset_after_ns = timing.suspect_ns
        self._watches: dict[int, _Watch] = {}

    def outstanding(self) -> bool:
        """Whether there is anything to look at, or anybody that was looked at."""
        delivery = self._delivery
        return (
            bool(self._watches)
            or any(self._lacks_ends(node) for node in delivery.carrying.synced)
            or any(
                stream.outstanding(node)
                for stream in delivery.out.values()
                for node in delivery.carrying.synced
            )
        )

    def _lacks_ends(self, node: int) -> bool:
        epochs = self._delivery.epochs
        return bool(epochs.own_ends) and epochs.own_ends[-1].epoch > epochs.done_of(node)

    def wait_ns(self) -> int:
        """When to look again: soon if an answer is awaited."""
        asked = any(watch.asked_ns for watch in self._watches.values())
        return self._interval_ns // 3 if asked else self._interval_ns

    def check(self, view_id: ViewId, now_ns: int) -> None:
        """One interval is over."""
        delivery = self._delivery
        if delivery.closed:
            self._watches.clear()
            return
        # Who is not heard any more, or has left the view, has begun anew when it is synced again.
        self._watches = {
            n: watch for n, watch in self._watches.items() if n in delivery.carrying.synced
        }
        for node in sorted(delivery.carrying.synced):
            link = self._peers.peers[node].link
            watch = self._watches.get(node)
            if watch is None or watch.link != link:
                self._detour(node, on=False)
                watch = self._watches[node] = _Watch(link)
            self._check(node, watch, view_id, now_ns)
            if not watch.marks and not watch.detour_until_ns:
                del self._watches[node]

    def _check(self, node: int, watch: _Watch, view_id: ViewId, now_ns: int) -> None:
        if watch.detour_until_ns and now_ns >= watch.detour_until_ns:
            watch.detour_until_ns = 0
            self._detour(node, on=False)
        self._paths.doubt(node, now_ns)
        before, watch.marks = watch.marks, {}
        for key, held in self._open(node).items():
            mark = before.get(key)
            watch.marks[key] = mark if mark and mark.held == held else _Mark(held, now_ns)
        stalled_ns = {
            key: now_ns - mark.since_ns
            for key, mark in watch.marks.items()
            if now_ns - mark.since_ns >= self._interval_ns
        }
        if not stalled_ns:
            # Nothing was outstanding, or everything has moved: look again next time.
            watch.asked_ns = 0
        elif not watch.asked_ns:
            watch.asked_ns = now_ns
            if stalled_ns.keys() != {_ENDS}:
                self._paths.try_another(node, now_ns)
            self._paths.probe(node, view_id, now_ns)
        elif self._paths.answered_since(node, watch.asked_ns):
            watch.asked_ns = 0
            stalled_ns.pop(_ENDS, None)
            if not watch.detour_until_ns:
                self._outputs.counters["stalled_detours"] += 1
                watch.detour_until_ns = now_ns + DETOUR_INTERVALS * self._interval_ns
                self._detour(node, on=True)
            elif max(stalled_ns.values(), default=0) >= self._reset_after_ns:
                self._outputs.counters["stalled_resets"] += 1
                self._peers.drop(node)

    def _open(self, node: int) -> dict[tuple[int, Lane], int]:
        """Streams with batches outstanding to a peer, and how far it holds them."""
        found: dict[tuple[int, Lane], int] = {}
        for key, stream in self._delivery.out.items():
            if stream.outstanding(node):
                found[key] = stream.progress[node].held
        if self._lacks_ends(node):
            found[_ENDS] = self._delivery.epochs.done_of(node)
        return found

    def _detour(self, node: int, *, on: bool) -> None:
        """Send what a peer lacks, and what follows, on the repair stream; or as ever again."""
        delivery = self._delivery
        for (_, lane), stream in delivery.out.items():
            progress = stream.progress.get(node)
            if progress is None:
                continue
            progress.detour = on
            if on:
                progress.sent = progress.held
                progress.cast.clear()  # It is among what goes again.
                delivery.carrying.push(stream, lane, node)
        if on:
            delivery.carrying.say_to(node, list(delivery.epochs.own_ends), Stream.REPAIR)
