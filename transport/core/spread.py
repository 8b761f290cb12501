"""Who tells whom, when every member has something to tell all: schedules by size.

A *contribution* is what one rank has to tell, such as its arrival at a barrier. A schedule
decides to whom a rank forwards which contributions once it holds them:

* `AllToAll`: each tells everybody. One message deep, n - 1 messages of each, nobody in between.
* `Coordinator`: each tells rank 0, which tells all. Two deep, 2 (n - 1) messages in total.
* `Dissemination` (Hensgen, Finkel and Manber 1988): in round k a rank tells the one 2^k places
  on what it has gathered from the 2^k places up to itself. ceil(log2 n) messages of each, for any
  n, and at most as deep.
* `TreeOfGroups`: heads gather their group, a head of heads the heads; it comes back the same way.
  Two messages a rank, and the depth grows with the levels.

The paper assumes that nobody dies and nothing is lost. Here each schedule has the same way out:
a rank whose deadline passes *gives up* on the schedule, tells everybody all that it holds, and
asks for what it lacks; whoever is asked tells it. So what is missing then has not been told to
anybody who can be reached, and can be named. This costs up to n - 1 messages of each who gives up.

Nothing here knows of frames or members: a caller sends what `Forward` says and tells `held` what
has arrived. Within the schedule nobody is told the same thing twice by one rank.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import Final, NamedTuple

from .ranks import NOBODY, RankSet

GROUP_MAX: Final = 64
"""Ranks of a group; when a tree of two levels would need larger groups it gets another level."""


class Kind(enum.StrEnum):
    """The schedules there are."""

    ALL_TO_ALL = "all-to-all"
    COORDINATOR = "coordinator"
    DISSEMINATION = "dissemination"
    TREE = "tree"


# The sizes up to which each schedule is taken. Up to 16 ranks as `bench/spread.py` measures them,
# with a process for each and bare UDP (docs/algorithms.md has the figures); above that by counts of
# messages and rounds (`phalanx sim-barrier`), not by measured time.
TABLE: Final[tuple[tuple[int, Kind], ...]] = (
    (3, Kind.ALL_TO_ALL),
    (64, Kind.COORDINATOR),
    (1024, Kind.DISSEMINATION),
)
BEYOND_TABLE: Final = Kind.TREE
TAKES_SOME: Final = frozenset({Kind.ALL_TO_ALL, Kind.COORDINATOR})
"""Schedules in which not everybody has to take part; the others wait for each rank."""


class Forward(NamedTuple):
    """One message, the same for each of its receivers."""

    to: RankSet
    what: RankSet
    """Contributions; a receiver may know some of them, as one frame serves all receivers."""
    asks: bool = False
    """The sender has given up and wants to be told what it lacks: call `asked` there."""


class Spread(ABC):
    """What one rank of `n` does so that contributions get from all to all."""

    def __init__(self, *, n: int, rank: int, wanted: int) -> None:
        assert 0 <= rank < n, "a rank is a place in the view"
        assert 1 <= wanted <= n, "more than there are will never come"
        self.n = n
        self.rank = rank
        self.wanted = wanted
        self.holds = NOBODY
        """Whose contributions are here."""
        self.count = 0
        """How many these are."""
        self.given_up = False
        self._told = NOBODY
        """What everybody was told when this rank last gave up, or later."""
        self._askers: set[int] = set()
        """Who has asked since then."""

    @property
    @abstractmethod
    def relays(self) -> RankSet:
        """Ranks that pass on what others tell: when one is suspected, do not wait, give up."""

    @abstractmethod
    def _schedule(self, new: RankSet) -> list[Forward]:
        """What to forward now that `new` is here, too."""

    @property
    def everybody(self) -> RankSet:
        """All ranks."""
        return RankSet.span(0, self.n)

    @property
    def others(self) -> RankSet:
        """All ranks but this one."""
        return self.everybody - RankSet.one(self.rank)

    @property
    def complete(self) -> bool:
        """Whether all that are wanted are here."""
        return self.count >= self.wanted

    def missing(self) -> RankSet:
        """Whose contributions are not here."""
        return self.everybody - self.holds

    def held(self, ranks: RankSet) -> list[Forward]:
        """The contributions of these ranks are here, this rank's own or what it was told."""
        new = ranks - self.holds
        if not new:
            return []
        self.holds |= new
        self.count += len(new)
        forwards = self._schedule(new)
        own = RankSet.one(self.rank) if self.rank in new else NOBODY
        if self.given_up:
            self._told |= own
            # Others still go by the schedule: it goes on, without what all were told at once.
            forwards = [forward._replace(what=forward.what - self._told) for forward in forwards]
        if own and (self.given_up or self._askers):
            # They no longer wait for a schedule, which may be broken between them and us.
            askers = self.others if self.given_up else RankSet.of(self._askers)
            forwards.insert(0, Forward(askers, own))
        return [forward for forward in forwards if forward.to and forward.what]

    def give_up(self) -> list[Forward]:
        """A deadline has passed, or a relay is suspected: tell everybody, and ask everybody.

        Called again it says all of it again, for messages may be lost with an association. Who
        still lacks something one round trip later can name the missing. Complete, it says nothing:
        who lacks what is here will ask.
        """
        if self.complete:
            return []
        self.given_up = True
        self._told = self.holds
        self._askers.clear()
        return [Forward(self.others, self.holds, asks=True)] if self.others else []

    def asked(self, by: int, holding: RankSet) -> list[Forward]:
        """A rank has given up, and said what it holds: tell it what it lacks of ours."""
        again = by in self._askers
        self._askers.add(by)
        lacks = self.holds - holding
        if not again:
            # When all give up at once each is asked by everybody whom it has just told.
            lacks -= self._told
        return [Forward(RankSet.one(by), lacks)] if lacks else []


class AllToAll(Spread):
    """Each tells everybody."""

    @property
    def relays(self) -> RankSet:
        """None: nobody stands between two ranks."""
        return NOBODY

    def _schedule(self, new: RankSet) -> list[Forward]:
        return [Forward(self.others, RankSet.one(self.rank))] if self.rank in new else []


class Coordinator(Spread):
    """Each tells rank 0, which tells everybody as soon as enough are there."""

    def __init__(self, *, n: int, rank: int, wanted: int) -> None:
        super().__init__(n=n, rank=rank, wanted=wanted)
        self._released = NOBODY

    @property
    def relays(self) -> RankSet:
        """The coordinator."""
        return RankSet.one(0)

    def _schedule(self, new: RankSet) -> list[Forward]:
        if self.rank != 0:
            return [Forward(self.relays, RankSet.one(self.rank))] if self.rank in new else []
        if not self.complete:
            return []
        fresh = self.holds - self._released
        self._released = self.holds
        return [Forward(self.others, fresh)]


class Dissemination(Spread):
    """In round k each tells the rank 2^k places on, once it holds all of the 2^k up to itself."""

    def __init__(self, *, n: int, rank: int, wanted: int) -> None:
        assert wanted == n, "each rank passes on what others tell, so each has to take part"
        super().__init__(n=n, rank=rank, wanted=wanted)
        self._round = 0
        self._rounds = (n - 1).bit_length()

    @property
    def relays(self) -> RankSet:
        """Everybody else."""
        return self.others

    def _schedule(self, new: RankSet) -> list[Forward]:
        del new  # what counts is how far back the run of neighbours reaches
        forwards: list[Forward] = []
        while self._round < self._rounds:
            step = 1 << self._round
            # In the last round the receiver lacks less than a whole run if n is no power of two.
            count = min(step, self.n - step)
            run = RankSet.around(self.rank - count + 1, count, self.n)
            if not self.holds >= run:
                break
            forwards.append(Forward(RankSet.one((self.rank + step) % self.n), run))
            self._round += 1
        return forwards


class TreeOfGroups(Spread):
    """Heads gather their groups, heads of heads gather heads; what all hold comes back down.

    A group are `group` neighbours, its head the lowest; the heads form groups in the same way,
    until one is the head of all.
    """

    def __init__(self, *, n: int, rank: int, wanted: int, group: int | None = None) -> None:
        assert wanted == n, "a head waits for its whole group, so each rank has to take part"
        super().__init__(n=n, rank=rank, wanted=wanted)
        self.group = group or group_size(n)
        assert self.group >= 2, "a group of one is its own head, for ever"
        children: list[int] = []
        size = 1
        while size < n and rank % (size * self.group) == 0:
            children += range(rank + size, min(rank + size * self.group, n), size)
            size *= self.group
        self._children = RankSet.of(children)
        self._below = RankSet.span(rank, min(rank + size, n))
        self._parent = RankSet.one(rank - rank % (size * self.group)) if size < n else NOBODY
        self._gathered = self._released = False

    @property
    def relays(self) -> RankSet:
        """The heads."""
        return RankSet.of(range(0, self.n, self.group))

    def _schedule(self, new: RankSet) -> list[Forward]:
        del new  # what counts is whether all of a group are there
        forwards: list[Forward] = []
        if not self._gathered and self.holds >= self._below:
            self._gathered = True
            forwards.append(Forward(self._parent, self._below))
        if not self._released and self.complete:
            self._released = True
            forwards.append(Forward(self._children, self.everybody))
        return forwards


SPREADS: dict[Kind, type[Spread]] = {
    Kind.ALL_TO_ALL: AllToAll,
    Kind.COORDINATOR: Coordinator,
    Kind.DISSEMINATION: Dissemination,
    Kind.TREE: TreeOfGroups,
}


def group_size(n: int) -> int:
    """Ranks of a group: about the square root, or the root of the levels it takes."""
    levels = 2
    while GROUP_MAX**levels < n:
        levels += 1
    group = 2
    while group**levels < n:
        group += 1
    return group


def choose(members: int, wanted: int) -> Kind:
    """The schedule for a view of so many, of whom `wanted` are to meet."""
    for most, kind in TABLE:
        if members <= most and (wanted == members or kind in TAKES_SOME):
            return kind
    return BEYOND_TABLE if wanted == members else Kind.COORDINATOR


def make(kind: Kind, *, n: int, rank: int, wanted: int) -> Spread:
    """A schedule of that kind, for one rank."""
    return SPREADS[kind](n=n, rank=rank, wanted=wanted)
