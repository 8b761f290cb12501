"""Batches of a meeting: who waits for whom, and who tells whom.

The arrivals at a barrier come from all parties at about the same time. By themselves each would
be an epoch, with an END of every member; so whoever is about to speak as well leaves the epoch
open for a moment, and all of them fall into one. And they need not go from each to each: beyond
a few members a schedule (`spread.py`) lets some tell others what they were told. The two
schedules that a view of today takes are written out here: they need no sets of ranks, and are run
a thousand times a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ..wire_data import Meeting
from .batches import Arrived
from .ranks import RankSet
from .spread import Forward, Kind, Spread, choose, make

RELAYED_BYTES_MAX: Final = 1024
"""Larger batches go from each to each."""
OPEN_MAX: Final = 1024
"""Meetings that are remembered; of the oldest it is forgotten that this node has spoken."""


@dataclass(slots=True, init=False)
class Bundle:
    """Batches that go to some members in one frame."""

    nodes: Collection[int]
    bodies: Sequence[bytes]
    frame: bytes
    """The whole frame, where that is there already: one batch of this node's own."""

    def __init__(self, nodes: Collection[int], bodies: Sequence[bytes], frame: bytes = b"") -> None:
        self.nodes = nodes
        self.bodies = bodies
        self.frame = frame


class _Open:
    """One meeting, as far as it is known here."""

    __slots__ = ("bodies", "count", "epoch", "kind", "spoken", "spread")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.spoken = False
        self.count = 0
        """How many have spoken; only the relay counts."""
        self.bodies: dict[int, bytes] = {}
        """By rank what is to be passed on."""
        self.epoch = 0
        """The first epoch that any of it belongs to."""
        self.spread: Spread | None = None


class Meetings:
    """The meetings of one view."""

    def __init__(self, *, members: Iterable[int], node: int) -> None:
        self._members = tuple(sorted(members))
        self._rank_of = {member: rank for rank, member in enumerate(self._members)}
        self._rank = self._rank_of[node]
        self._relay = self._members[:1]
        self._bit = 1 << self._rank
        self._others = tuple(member for member in self._members if member != node)
        self._open: dict[int, _Open] = {}
        self._keys: deque[int] = deque()
        """As they were opened; to look for the oldest in a dictionary takes long, for it keeps
        the places of those that are gone.
        """
        self._waiting: dict[int, _Open] = {}
        """Those of which something waits here to be passed on."""

    @property
    def relaying(self) -> bool:
        """Whether something waits here to be passed on."""
        return bool(self._waiting)

    @property
    def oldest(self) -> int | None:
        """The key of the meeting that has waited for longest; None if none waits."""
        return next(iter(self._waiting)) if self._waiting else None

    def expects(self, meeting: Meeting) -> bool:
        """Whether this node may be about to speak at it."""
        if not meeting.ranks & self._bit:
            return False
        known = self._open.get(meeting.key)
        return known is None or not known.spoken

    def _of(self, meeting: Meeting) -> _Open:
        known = self._open.get(meeting.key)
        if known is None:
            kind = choose(len(self._members), meeting.wanted)
            known = self._open[meeting.key] = _Open(kind)
            if kind in (Kind.DISSEMINATION, Kind.TREE):
                known.spread = make(
                    kind, n=len(self._members), rank=self._rank, wanted=meeting.wanted
                )
            self._keys.append(meeting.key)
            if len(self._keys) > OPEN_MAX:
                self._open.pop(self._keys.popleft(), None)
        return known

    def over(self, meeting: Meeting) -> None:
        """All have spoken, as somebody has told us at once."""
        self._open.pop(meeting.key, None)
        if self._waiting:
            self._waiting.pop(meeting.key, None)

    def said(self, meeting: Meeting, epoch: int, batch: Arrived) -> Sequence[Bundle] | None:
        """A batch of ours; None if it goes to everybody, as any other does."""
        known = self._of(meeting)
        known.spoken = True
        if known.kind is Kind.ALL_TO_ALL or len(batch.frame) > RELAYED_BYTES_MAX:
            return None
        if known.kind is Kind.COORDINATOR and self._rank:
            return [Bundle(self._relay, (), batch.frame)]
        return self._take(known, meeting, self._rank, epoch, batch)

    def heard(self, meeting: Meeting, origin: int, epoch: int, batch: Arrived) -> Sequence[Bundle]:
        """A batch of another member; returns what is to be passed on now."""
        known = self._of(meeting)
        relays = known.spread is not None or (known.kind is Kind.COORDINATOR and not self._rank)
        if not relays or len(batch.frame) > RELAYED_BYTES_MAX:
            return ()
        return self._take(known, meeting, self._rank_of[origin], epoch, batch)

    def _take(
        self, known: _Open, meeting: Meeting, rank: int, epoch: int, batch: Arrived
    ) -> Sequence[Bundle]:
        if not known.bodies:
            known.epoch = epoch
        known.bodies[rank] = batch.body
        known.count += 1
        if known.spread is not None:
            return self._forward(known, known.spread.held(RankSet.one(rank)))
        if known.count < meeting.wanted:
            self._waiting[meeting.key] = known
            return ()
        self.over(meeting)
        return [self._pass_on(known)]

    def _forward(self, known: _Open, forwards: Iterable[Forward]) -> list[Bundle]:
        """What a schedule says, of what is here."""
        return [
            Bundle(
                [self._members[rank] for rank in forward.to],
                [known.bodies[rank] for rank in forward.what if rank in known.bodies],
            )
            for forward in forwards
        ]

    def _pass_on(self, known: _Open) -> Bundle:
        bodies, known.bodies = known.bodies, {}
        return Bundle(self._others, [bodies[rank] for rank in sorted(bodies)])

    def asked(self, epoch: int) -> list[Bundle]:
        """Somebody waits for an epoch: what belongs to it is passed on now."""
        due = [key for key, known in self._waiting.items() if known.epoch <= epoch]
        return [self._pass_on(self._waiting.pop(key)) for key in due]

    def give_up(self) -> list[Bundle]:
        """Those who were expected did not come: everybody is told of those who did."""
        waiting, self._waiting = self._waiting, {}
        return [self._pass_on(known) for known in waiting.values()]
