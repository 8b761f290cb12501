"""Epochs of the ordered lane: the unit of ordering (PROTOCOL 5).

Every member closes epoch e with END(e, last batch, done). An epoch is complete when the ENDs of
all members and the batches before them are held; it is delivered in rotated rank order, without
sequencer or token. Whoever sees anything of an epoch that it has not closed closes it at once,
so an idle cluster costs nothing and a lone sender waits one round trip. The idea of rounds with
null messages is Derecho's (doi 10.1145/3302258); several epochs are in flight.

Most ENDs cost nothing: the last batch of a turn closes its epoch. Only who has nothing to say
answers with an END of its own, and not even at once when what it saw was *lazy*: the others of a
meeting are about to say the same (`Meeting`), and so may this member be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

IN_FLIGHT_MAX: Final = 8
"""Epochs that a member closes of its own accord before the oldest is complete."""


class Ending(NamedTuple):
    """What a member said when it closed an epoch."""

    epoch: int
    sequence: int
    done: int


class Held(Protocol):
    """How far the batches of one member are here."""

    held: int


class Epochs:
    """The epochs of one view."""

    def __init__(self, *, node: int, members: Sequence[int]) -> None:
        self._node = node
        self._members = tuple(sorted(members))
        self._count = len(self._members)
        self._rank_of = {member: rank for rank, member in enumerate(self._members)}
        self.rank = self._rank_of[node]
        self._orders: dict[int, list[int]] = {}
        """By who is first, as far as they have been asked for."""
        self.others = tuple(member for member in self._members if member != node)
        self.current = 1
        """The epoch that our next batch belongs to."""
        self.complete = 0
        """The last complete epoch."""
        self._dirty = False
        self.asked = 0
        """The last epoch of which anything was seen that has to be answered."""
        self._lazily = 0
        """The last epoch of which anything lazy was seen."""
        self._ends: dict[int, dict[int, int]] = {}
        """By epoch the last batch of each member that has closed it."""
        self.own_ends: deque[Ending] = deque()
        """Our ENDs that some member may lack."""
        self.done = [0] * self._count
        """By rank the last epoch that each member holds completely."""
        self._done_news = False
        self._own_last = 0
        self._own_lasts: dict[int, int] = {}
        """Our last batch in each epoch that is closed here, from the last stable one on."""
        self._unstable: deque[tuple[int, list[int]]] = deque()
        """Complete epochs that some member may lack, with the last batch of each, by rank."""
        self.stable = 0
        """The last epoch that every member holds completely."""

    # ------------------------------------------------------------------------ what is closed

    def may_close(self) -> bool:
        """Whether one more epoch may be closed of our own accord."""
        return self.current - self.complete <= IN_FLIGHT_MAX

    def numbered(self, sequence: int, *, ends: bool = False) -> None:
        """A batch of ours belongs to the current epoch, and closes it if it `ends`."""
        self._dirty = True
        self._own_last = sequence
        if ends:
            self._close()

    def ended(self, member: int, epoch: int, sequence: int) -> bool:
        """A member has closed an epoch, with this last batch; False if it is no news."""
        if not self.complete < epoch <= self.complete + 4 * IN_FLIGHT_MAX:
            return False
        ends = self._ends.get(epoch)
        if ends is None:
            ends = self._ends[epoch] = {}
        elif member in ends:
            return False
        ends[member] = sequence
        return True

    def see(self, epoch: int) -> None:
        """Somebody is in `epoch`: it is to be closed here (`catch_up`)."""
        self.asked = max(self.asked, epoch)

    def see_lazily(self, epoch: int) -> None:
        """The same, but something of ours is about to come that closes it."""
        self._lazily = max(self._lazily, epoch)
        self.asked = max(self.asked, epoch - 1)

    @property
    def lazy(self) -> int:
        """The last epoch that only lazy batches ask us to close; 0 if there is none."""
        return self._lazily if self._lazily >= self.current and self._lazily > self.asked else 0

    def give_up(self) -> None:
        """What was lazy is so no more: nothing of ours is about to come."""
        self.see(self._lazily)

    def catch_up(self) -> list[Ending]:
        """Close what others have closed, and what holds a batch of ours; returns ENDs to say.

        As far as the bound allows: what is beyond it is closed when older epochs have become
        complete. So nobody is more than two bounds ahead of anybody: one of its own, and one of
        what others closed.
        """
        last = min(self.asked, self.complete + IN_FLIGHT_MAX)
        endings: list[Ending] = []
        while self.current <= last or (self._dirty and self.may_close()):
            ending = Ending(self.current, self._own_last, self.complete)
            if self._count > 1:
                self.own_ends.append(ending)
            endings.append(ending)
            self._close()
        return endings

    def _close(self) -> None:
        self._own_lasts[self.current] = self._own_last
        self._ends.setdefault(self.current, {})[self._node] = self._own_last
        self.current += 1
        self._dirty = False

    # ---------------------------------------------------------------------- what is complete

    def step(self, streams: Mapping[int, Held]) -> Sequence[int] | None:
        """Complete the next epoch, if all have closed it and everything of it is here.

        Returns the last batch of each member in it, by rank.
        """
        epoch = self.complete + 1
        ends = self._ends.get(epoch)
        if ends is None or len(ends) < self._count:
            return None
        for member, sequence in ends.items():
            if streams[member].held < sequence:
                return None
        lasts = [ends[member] for member in self._members]
        self.take(epoch, lasts)
        return lasts

    def lacks(self, epoch: int) -> bool:
        """Whether the next epoch is this one, and we alone have closed it."""
        alone = epoch == self.complete + 1 == self.current - 1
        return alone and len(self._ends[epoch]) == 1

    def take(self, epoch: int, lasts: list[int]) -> None:
        """The next epoch is complete, with these last batches of all members, by rank."""
        del self._ends[epoch]
        self._unstable.append((epoch, lasts))
        self.complete = epoch
        self.done[self.rank] = epoch
        self._done_news = True

    def owing(self, streams: Mapping[int, Held]) -> list[int]:
        """Members of whose next epoch an END, or a batch before it, is not here."""
        ends = self._ends.get(self.complete + 1, {})
        return [
            member
            for member in self._members
            if member not in ends or streams[member].held < ends[member]
        ]

    def order(self, epoch: int) -> list[int]:
        """Ranks by (rank - epoch) mod n, so that each member has its turn to be first."""
        first = epoch % self._count
        order = self._orders.get(first)
        if order is None:
            order = self._orders[first] = [*range(first, self._count), *range(first)]
        return order

    def place(self, rank: int, epoch: int) -> int:
        """Where a member stands in the order of an epoch."""
        return (rank - epoch) % self._count

    # ------------------------------------------------------------------------ what is stable

    def own_last(self, epoch: int) -> int:
        """Our last batch of all epochs up to this one, from the last stable one on; else 0."""
        return self._own_lasts.get(epoch, 0)

    def member_done(self, member: int, done: int) -> None:
        """A member holds every epoch up to `done`; our ENDs up to there are not needed again."""
        rank = self._rank_of.get(member)
        if rank is not None:
            self.rank_done(rank, done)

    def rank_done(self, rank: int, done: int) -> None:
        """The same, by rank."""
        if done > self.done[rank]:
            self.done[rank] = done
            self._done_news = True

    def done_of(self, member: int) -> int:
        """The last epoch that a member is known to hold completely."""
        return self.done[self._rank_of[member]]

    def rank_of(self, node: int) -> int | None:
        """The place of a member by ascending id; None of who is none."""
        return self._rank_of.get(node)

    def is_member(self, node: int) -> bool:
        """Whether a node closes epochs here."""
        return node in self._rank_of

    def settle(self) -> list[int] | None:
        """Which batches, by rank, every member is known to hold; empty if no more than before.

        None without news.
        """
        if not self._done_news:
            return None
        self._done_news = False
        stable: list[int] = []
        lowest = min(self.done)
        while self.own_ends and self.own_ends[0].epoch <= lowest:
            self.own_ends.popleft()
        while self._unstable and self._unstable[0][0] <= lowest:
            self._own_lasts.pop(self.stable, None)
            self.stable, stable = self._unstable.popleft()
        return stable

    def lacking(self) -> set[int]:
        """Members that are not known to hold the oldest epoch that is not stable."""
        return {
            it for it, done in zip(self._members, self.done, strict=True) if done <= self.stable
        }

    def ending(self, epoch: int) -> Ending:
        """Our END of an epoch that is closed here and not yet stable."""
        return Ending(epoch, self._own_lasts[epoch], self.complete)

    def done_without(self, gone: Collection[int]) -> int:
        """The last epoch that every member but those `gone` holds completely."""
        here = zip(self._members, self.done, strict=True)
        return min(done for member, done in here if member not in gone)
