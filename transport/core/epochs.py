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
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

IN_FLIGHT_MAX = 8
"""Epochs that a member closes of its own accord before the oldest is complete."""


class Slot(NamedTuple):
    """One batch of the ordered lane, with all that its delivery needs."""

    origin: int
    sequence: int
    epoch: int
    ends: bool = False
    """It closes the epoch of its sender."""


class Ending(NamedTuple):
    """What a member said when it closed an epoch."""

    epoch: int
    sequence: int
    done: int


class Epochs:
    """The epochs of one view."""

    def __init__(self, *, node: int, members: Sequence[int]) -> None:
        self._node = node
        self._members = tuple(sorted(members))
        self.current = 1
        """The epoch that our next batch belongs to."""
        self.complete = 0
        """The last complete epoch."""
        self._dirty = False
        self._highest = 0
        """The highest epoch of which anything was seen that has to be answered."""
        self._lazily = 0
        """The highest epoch of which anything lazy was seen."""
        self._ends: dict[int, dict[int, int]] = {}
        self.own_ends: deque[Ending] = deque()
        """Our ENDs that some member may lack."""
        self.done = dict.fromkeys(self._members, 0)
        """The highest epoch that each member holds completely."""
        self._slots: dict[int, deque[Slot]] = {member: deque() for member in self._members}
        self._own_last = 0
        self._last = dict.fromkeys(self._members, 0)
        self._unstable: deque[tuple[int, dict[int, int]]] = deque()
        """Complete epochs that some member may lack, with the last batch of each member."""
        self.stable = 0
        """The last epoch that every member holds completely."""
        self._own_lasts: dict[int, int] = {}
        """Our last batch in each epoch that is closed here and not stable."""

    def may_close(self) -> bool:
        """Whether one more epoch may be closed of our own accord."""
        return self.current - self.complete <= IN_FLIGHT_MAX

    def numbered(self, sequence: int, *, ends: bool = False) -> None:
        """A batch of ours belongs to the current epoch, and closes it if it `ends`."""
        self._dirty = True
        self._own_last = sequence
        self.add(Slot(self._node, sequence, self.current, ends))
        if ends:
            self._close()

    def held(self, slot: Slot, *, lazy: bool = False) -> list[Ending]:
        """A batch of another member has arrived, in order; returns ENDs that it makes us say."""
        self.add(slot)
        if slot.ends and slot.epoch > self.complete:
            self._ends.setdefault(slot.epoch, {})[slot.origin] = slot.sequence
        if lazy:
            self._lazily = max(self._lazily, slot.epoch)
            return self.see(slot.epoch - 1)
        return self.see(slot.epoch)

    @property
    def asked(self) -> int:
        """The last epoch that somebody waits for."""
        return self._highest

    @property
    def lazy(self) -> bool:
        """Whether there is an epoch that only lazy batches ask us to close."""
        return self._lazily >= self.current

    def see_lazy(self) -> list[Ending]:
        """What was lazy is so no more: nothing of ours is about to come."""
        return self.see(self._lazily)

    def last_slot(self, member: int) -> int:
        """The last batch of a member that waits here or was delivered; 0 if there is none."""
        return self._last[member]

    def add(self, slot: Slot) -> None:
        """A batch that waits for its epoch, or for the cut of a closed view."""
        self._slots[slot.origin].append(slot)
        self._last[slot.origin] = slot.sequence

    def see(self, epoch: int) -> list[Ending]:
        """Somebody is in `epoch`: close everything up to it, as far as the bound allows.

        What is beyond the bound is closed when older epochs have become complete. So nobody is
        more than two bounds ahead of anybody: one of its own, and one of what others closed.
        """
        self._highest = max(self._highest, epoch)
        last = min(self._highest, self.complete + IN_FLIGHT_MAX)
        endings: list[Ending] = []
        while self.current <= last:
            endings.append(self._say_end())
        return endings

    def close_if_due(self) -> list[Ending]:
        """Close the current epoch if it holds a batch of ours and not too many are open."""
        return [self._say_end()] if self._dirty and self.may_close() else []

    def _say_end(self) -> Ending:
        ending = Ending(self.current, self._own_last, self.complete)
        if len(self._members) > 1:
            self.own_ends.append(ending)
        self._close()
        return ending

    def own_last(self, epoch: int) -> int | None:
        """Our last batch of all epochs up to this one; None if all members hold it."""
        return self._own_lasts.get(epoch)

    def _close(self) -> None:
        self._own_lasts[self.current] = self._own_last
        self._ends.setdefault(self.current, {})[self._node] = self._own_last
        self.current += 1
        self._dirty = False

    def ended(self, member: int, ending: Ending) -> list[Ending]:
        """A member has closed an epoch; returns ENDs that it makes us say."""
        if member not in self.done:
            return []
        self.member_done(member, ending.done)
        if self.complete < ending.epoch <= self.complete + 4 * IN_FLIGHT_MAX:
            self._ends.setdefault(ending.epoch, {})[member] = ending.sequence
        return self.see(ending.epoch)

    def member_done(self, member: int, done: int) -> None:
        """A member holds every epoch up to `done`; our ENDs up to there are not needed again."""
        if done > self.done.get(member, done):
            self.done[member] = done
            lowest = min(self.done[other] for other in self._members if other != self._node)
            while self.own_ends and self.own_ends[0].epoch <= lowest:
                self.own_ends.popleft()

    def settle(self) -> dict[int, int]:
        """Which batches, by member, every member is known to hold since the last call."""
        stable: dict[int, int] = {}
        lowest = min(self.done.values())
        while self._unstable and self._unstable[0][0] <= lowest:
            self.stable, stable = self._unstable.popleft()
            del self._own_lasts[self.stable]
        return stable

    def advance(self, held: Callable[[int], int]) -> tuple[list[Slot], list[Ending]]:
        """Batches of every epoch that has become complete, in the agreed order.

        Also returns ENDs that may be said now that there is room for more epochs.
        """
        delivered: list[Slot] = []
        endings: list[Ending] = []
        while True:
            epoch = self.complete + 1
            ends = self._ends.get(epoch)
            if ends is None or len(ends) < len(self._members):
                return delivered, endings
            if any(held(member) < sequence for member, sequence in ends.items()):
                return delivered, endings
            for member in self._rotated(epoch):
                slots = self._slots[member]
                while slots and slots[0].sequence <= ends[member]:
                    delivered.append(slots.popleft())
            self._unstable.append((epoch, self._ends.pop(epoch)))
            self.complete = epoch
            self.done[self._node] = epoch
            endings += self.see(self._highest)

    def done_without(self, gone: Collection[int]) -> int:
        """The last epoch that every member but those `gone` holds completely."""
        return min(done for member, done in self.done.items() if member not in gone)

    def remainder(self, cut: Callable[[int], int]) -> list[Slot]:
        """At the end of a view: everything up to the cut, by (epoch, rotated rank, sequence)."""
        rest = [
            slot
            for member, slots in self._slots.items()
            for slot in slots
            if slot.sequence <= cut(member)
        ]
        rank = {member: place for place, member in enumerate(self._members)}
        count = len(self._members)
        rest.sort(key=lambda s: (s.epoch, (rank[s.origin] - s.epoch) % count, s.sequence))
        return rest

    def _rotated(self, epoch: int) -> list[int]:
        """Members by (rank - epoch) mod n, so that each has its turn to be first."""
        count = len(self._members)
        return [self._members[(epoch + offset) % count] for offset in range(count)]
