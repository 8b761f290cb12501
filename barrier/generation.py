"""One use of a barrier, and the set of those who are registered at a name.

Both are agreed state: every member that has taken the same entries has the same. What is only
noted here (times, payloads that are known from an earlier view) decides nothing.

The kernel cman of 2005 counted arrivals without asking whose they were, and named barriers
without an instance, so that a late message hit the next use of the name. Here arrivals are sets
of (node id, incarnation), and a generation is named by the position at which it was opened.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from phalanx.transport.events import Member, Position, View

from .messages import Carried, CarriedRoster
from .settings import Count, Policy, Settings

NOT_ARRIVED: Final = "not arrived"
NOT_A_MEMBER: Final = "not a member of the view"
NOT_ALL_HERE: Final = "arrived, its messages are not all here"
PAYLOAD_OWED: Final = "arrived, its payload is not here again"


class Crossing(enum.Enum):
    """What a view change makes of a generation that was open."""

    CARRIED = enum.auto()
    BROKEN = enum.auto()
    RELEASED = enum.auto()
    """By the view itself: those who are left have all arrived."""
    OVER = enum.auto()
    """Nobody who has arrived is left."""


@dataclass(slots=True, init=False, eq=False)
class Generation:
    """Who has to come and who has come."""

    name: str
    opened: Position
    settings: Settings
    wanted: frozenset[int] | None
    """The nodes that are its parties; None for a `Count`, which takes anybody."""
    size: int
    """How many parties it has."""
    need: int
    """How many have not arrived."""
    marks: dict[Member, int]
    """Who has arrived, in order, with the fifo batches of *this view* that belong to it."""
    bulk_marks: dict[int, int]
    """By node, its bulk batches of this view that belong to its arrival, where it said so."""
    payloads: dict[int, bytes]
    """By node, of those who gave one; whole when nobody owes any."""
    owing: set[int]
    """Nodes whose payload of an earlier view is not published again yet."""
    lacking: set[int]
    """Nodes whose payload some party did not hold when the last view ended that knew of it."""
    held_bytes: int
    """Of payloads that were ordered in this view."""
    spoiled: str
    """Why whoever still arrives is told that it is broken."""
    promises: bool
    """Some of those who have arrived multicast something in this view before."""
    last_ns: int
    """When this node learnt of the last arrival."""
    in_one_moment: bool
    """It learnt of all arrivals then, from one frame."""
    _times: dict[int, int]
    """If not, when it learnt of each, by node."""

    def __init__(
        self,
        *,
        name: str,
        opened: Position,
        settings: Settings,
        wanted: frozenset[int] | None,
        size: int,
        need: int,
    ) -> None:
        self.name = name
        self.opened = opened
        self.settings = settings
        self.wanted = wanted
        self.size = size
        self.need = need
        self.marks = {}
        self.bulk_marks = {}
        self.payloads = {}
        self.owing = set()
        self.lacking = set()
        self.held_bytes = 0
        self.spoiled = ""
        self.promises = False
        self.last_ns = 0
        self.in_one_moment = True
        self._times = {}

    @property
    def times(self) -> dict[int, int]:
        """When this node learnt of each arrival, by node; a note, which alone is not agreed."""
        if self.in_one_moment:
            return {member.node: self.last_ns for member in self.marks}
        return self._times

    def note(self, times: dict[int, int]) -> None:
        """When it learnt of arrivals in earlier views."""
        self._tell_apart()
        self._times = times | self._times

    def _tell_apart(self) -> None:
        """It has not learnt of all arrivals in one moment."""
        self._times = self.times
        self.in_one_moment = False

    @property
    def complete(self) -> bool:
        """Whether everybody and everything is here."""
        return self.need <= 0 and not self.owing

    def takes(self, member: Member) -> bool:
        """Whether the member is a party of this generation, or may be one."""
        if self.wanted is None:
            return self.need > 0 or member in self.marks
        return member.node in self.wanted

    def awaits(self, member: Member) -> bool:
        """Whether an arrival of the member counts here.

        One that has arrived here is no party a second time: it may have left its registration with
        that arrival and have registered anew, which counts from the next generation on.
        """
        return self.takes(member) and member not in self.marks

    def count(self, member: Member, mark: int, payload: bytes, now_ns: int) -> None:
        """A party that was awaited has arrived."""
        if now_ns != self.last_ns:
            if self.marks:
                self._tell_apart()
            self.last_ns = now_ns
        self.need -= 1
        self.marks[member] = mark
        if mark:
            self.promises = True
        if not self.in_one_moment:
            self._times[member.node] = now_ns
        if payload:
            self.held_bytes += len(payload)
            self.payloads[member.node] = payload

    def arrived(self, marks: dict[Member, int], now_ns: int) -> None:
        """All parties of a new generation have arrived at once."""
        self.marks, self.last_ns = marks, now_ns
        for mark in marks.values():
            if mark:
                self.promises = True

    def forget(self, members: Iterable[Member]) -> None:
        """Their arrivals are void."""
        for member in members:
            if self.marks.pop(member, None) is not None:
                self.need += 1
                self.payloads.pop(member.node, None)
                self.bulk_marks.pop(member.node, None)
                self._times.pop(member.node, None)
                self.owing.discard(member.node)
                self.lacking.discard(member.node)

    def excuse(self, nodes: Iterable[int]) -> None:
        """They are no parties any more, and have not arrived."""
        if self.wanted is not None:
            gone = self.wanted.intersection(nodes)
            self.wanted -= gone
            self._resize(self.size - len(gone))

    def _resize(self, size: int) -> None:
        self.need += size - self.size
        self.size = size

    def missing(self, view: View) -> dict[int, str]:
        """Who has not arrived, and why; for a `Count` everybody who still could."""
        here = {member.node for member in self.marks}
        present = set(view.members)
        if not self.need and self.owing:
            return dict.fromkeys(sorted(self.owing), PAYLOAD_OWED)
        wanted = view.members if self.wanted is None else sorted(self.wanted)
        return {
            node: NOT_ARRIVED if node in present else NOT_A_MEMBER
            for node in wanted
            if node not in here
        }

    def not_here(self, progress: dict[int, int], bulk_progress: dict[int, int]) -> list[int]:
        """The parties of whom something that they multicast before arriving is not here."""
        if not (self.promises or self.bulk_marks):
            return []
        late = {
            member.node
            for member, mark in self.marks.items()
            if progress.get(member.node, 0) < mark
        }
        for node, mark in self.bulk_marks.items():
            if bulk_progress.get(node, 0) < mark:
                late.add(node)
        return sorted(late)

    def gone(self, left: Collection[Member]) -> list[Member]:
        """The parties among those who left the view, in ascending order.

        Of a `Count` nobody in particular is waited for: only who has arrived can be missed.
        """
        if self.wanted is None:
            return sorted(member for member in left if member in self.marks)
        return sorted(member for member in left if member.node in self.wanted)

    def cross(
        self,
        *,
        left: Collection[Member],
        after: View,
        lost: Collection[int],
        known: bool,
        excused: Collection[int],
    ) -> Crossing:
        """Go into a view without those who `left`; they alone can be among the `lost`, of whom
        messages before their arrival are lost.

        `known` says whether the generation was adopted in the view that ends, so that members
        may be parties that do not hold what is owed. Whoever is `excused` had said that it goes.
        """
        if known:
            self.lacking = set(self.owing)
        policy = Policy.SHRINK if self.spoiled else self.settings.policy
        gone = self.gone(left)
        excused = {m.node for m in gone if policy is Policy.SHRINK or m.node in excused}
        if policy is Policy.BREAK and not (excused.issuperset(lost) and len(gone) == len(excused)):
            return Crossing.BROKEN
        self.forget(gone)
        self.excuse(excused)
        if policy is Policy.SHRINK and self.wanted is None and left:
            self._resize(min(self.size, len(after.members)))
            excused.update(member.node for member in left)
        if self.size <= 0 or not (self.marks or self.spoiled):
            return Crossing.OVER
        if excused and self.need <= 0 and not self.lacking and not self.spoiled:
            return Crossing.RELEASED
        return Crossing.CARRIED

    def settle(self) -> None:
        """It is carried: all that belongs to its arrivals is here, and sequences begin anew."""
        self.marks = dict.fromkeys(self.marks, 0)
        self.promises = False
        self.bulk_marks.clear()
        self.owing = set(self.payloads) | self.owing
        self.held_bytes = 0

    def carried(self) -> Carried:
        """Its state, to be adopted in the next view."""
        return Carried(
            opened=self.opened,
            settings=self.settings,
            wanted=() if self.wanted is None else tuple(sorted(self.wanted)),
            size=self.size,
            arrived=tuple(self.marks),
            owing=tuple(sorted(self.owing)),
            spoiled=self.spoiled,
        )


def adopted(name: str, carried: Carried) -> Generation:
    """A generation as the copy of it says.

    What its parties multicast before was inside the cut of the view in which they arrived, or
    it would not be carried: nothing is left to wait for.
    """
    counts = isinstance(carried.settings.parties, Count)
    generation = Generation(
        name=name,
        opened=carried.opened,
        settings=carried.settings,
        wanted=None if counts else frozenset(carried.wanted),
        size=carried.size,
        need=carried.size - len(carried.arrived),
    )
    generation.marks = dict.fromkeys(carried.arrived, 0)
    generation.in_one_moment = False
    generation.owing = set(carried.owing)
    generation.spoiled = carried.spoiled
    return generation


@dataclass(slots=True, kw_only=True, eq=False)
class Roster:
    """Who is registered at a name; the parties of each generation that begins."""

    name: str
    founded: Position
    settings: Settings
    members: dict[int, Member] = field(default_factory=dict[int, Member])
    """By node, in the order of registration."""

    def has(self, member: Member) -> bool:
        """Whether this start of the node is registered."""
        return self.members.get(member.node) == member

    def cross(self, left: Collection[Member]) -> bool:
        """Go into a view without those who `left`; False if nobody is registered any more.

        Where their rejoin is waited for, their place is kept.
        """
        if self.settings.policy is not Policy.WAIT_FOR_REJOIN:
            for member in left:
                if self.members.get(member.node) == member:
                    del self.members[member.node]
        return bool(self.members)

    def carried(self) -> CarriedRoster:
        """Its state, to be adopted in the next view."""
        return CarriedRoster(
            founded=self.founded, settings=self.settings, members=tuple(self.members.values())
        )
