"""The agreed state of all barriers in one view: a pure function of the view and its entries.

Every member of a view, newcomers included, starts it with an empty table and feeds it the same
entries in the same order, so all tables are equal at every position. What outlives a view is
carried by its parties as entries of the next one: the first entry that carries a generation
has it *adopted* with everybody who had arrived, later copies change nothing. This replaces a
state transfer to newcomers.

A newcomer knows nothing of what will be carried, so its own arrival may be ordered before it:

* `AllParties`: the newcomer is no party of the carried generation. Both stay open side by side,
  the older one first in line for whoever is a party of both.
* `Count` and `Named`: there is one open generation of a name. The younger one's arrivals are
  poured into the older one.
* Other settings: the older generation wins, the younger one's arrivals are refused.

The kernel cman of 2005 counted arrivals without asking whose they were, and named barriers
without an instance, so that a late message hit the next use of the name. Here arrivals are sets
of (node id, incarnation), and a generation is named by the position at which it was opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from phalanx.transport.events import Member, Position, View, ViewId

from .messages import (
    AllParties,
    Arrive,
    Carried,
    Cause,
    Count,
    Named,
    Parties,
    Strength,
    Withdraw,
    settings_in_words,
)

OPEN_NAMES_MAX = 1024
"""Names with an open generation; an arrival that would open one more is refused everywhere."""
OPEN_GENERATIONS_PER_NAME_MAX = 8
"""Open generations of one name; there is more than one only while newcomers overtake."""

NOT_ARRIVED = "not arrived"
NOT_A_MEMBER = "not a member of the view"


@dataclass(slots=True, kw_only=True)
class Generation:
    """One use of a barrier: who has to come and who has come."""

    name: str
    opened: Position
    parties: Parties
    strength: Strength
    members: tuple[Member, ...] = ()
    """The parties of an `AllParties` generation, fixed when it was opened."""
    marks: dict[Member, int] = field(default_factory=dict[Member, int])
    """Who has arrived, in order, with the fifo batches of *this view* that belong to it."""

    @property
    def settings(self) -> str:
        """What it was opened with, in words."""
        return settings_in_words(self.parties, self.strength)

    def takes(self, member: Member) -> bool:
        """Whether the member is a party of this generation."""
        match self.parties:
            case AllParties():
                return member in self.members
            case Count():
                return True
            case Named(nodes=nodes):
                return member.node in nodes

    @property
    def complete(self) -> bool:
        """Whether everybody is here."""
        match self.parties:
            case AllParties():
                return all(member in self.marks for member in self.members)
            case Count(n=n):
                return len(self.marks) >= n
            case Named(nodes=nodes):
                return {member.node for member in self.marks}.issuperset(nodes)

    def missing(self, view: View) -> dict[int, str]:
        """Who has not arrived, and why; for a `Count` everybody who still could."""
        here = {member.node for member in self.marks}
        match self.parties:
            case AllParties():
                wanted: Iterable[int] = (member.node for member in self.members)
            case Count():
                wanted = view.members
            case Named(nodes=nodes):
                wanted = nodes
        present = set(view.members)
        return {
            node: NOT_ARRIVED if node in present else NOT_A_MEMBER
            for node in wanted
            if node not in here
        }

    def gone(self, before: View, after: View) -> list[Member]:
        """The parties that were there in one view and are not in the next, in ascending order."""
        left = set(before.incarnations) - set(after.incarnations)
        if isinstance(self.parties, Count):
            # Nobody in particular is waited for; only who has arrived can be missed.
            return sorted(member for member in left if member in self.marks)
        return sorted(member for member in left if self.takes(member))

    def carried(self) -> Carried:
        """Its state, to be adopted in the next view."""
        return Carried(
            opened=self.opened,
            parties=self.parties,
            strength=self.strength,
            members=self.members,
            arrived=tuple(self.marks),
        )

    def same_settings(self, parties: Parties, strength: Strength) -> bool:
        """Whether an arrival with these settings belongs here."""
        return (self.parties, self.strength) == (parties, strength)


# --------------------------------------------------------------------- what an entry decided


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A fresh arrival counts in a generation."""

    member: Member
    serial: int
    opened: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """An arrival counts in an older generation of the same name from now on."""

    name: str
    member: Member
    source: Position
    target: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The last party has arrived."""

    generation: Generation
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """A party has taken its arrival back in time: broken for all."""

    generation: Generation
    by: Member
    cause: Cause
    reason: str
    missing: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dissolved:
    """An older generation with other settings came to light: all arrivals here are refused."""

    generation: Generation
    theirs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedAway:
    """A fresh arrival disagrees with the open generation's settings."""

    member: Member
    serial: int
    theirs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverLimit:
    """A fresh arrival would have opened one generation too many."""

    member: Member
    serial: int
    reason: str


Decision: TypeAlias = Counted | Moved | Completed | Withdrawn | Dissolved | TurnedAway | OverLimit


class Table:
    """All open generations of one view, as everybody sees them at one position of the order."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._present = frozenset(view.incarnations)
        self._open: dict[str, dict[Position, Generation]] = {}
        # Generations of *earlier* views that were closed in this one: a copy that is carried
        # late must not open them again. Bounded by what was open when the view began.
        self._closed: set[tuple[str, Position]] = set()
        self._refused = 0
        self._uses: dict[str, int] = {}

    def __iter__(self) -> Iterator[Generation]:
        """All open generations."""
        for generations in self._open.values():
            yield from generations.values()

    def __len__(self) -> int:
        return sum(len(generations) for generations in self._open.values())

    def uses(self, name: str) -> int:
        """How many generations of a name were closed in this view, if it was used of late."""
        return self._uses.get(name, 0)

    def take_refused(self) -> int:
        """Carried generations that could not be adopted since the last call; none if all are
        honest."""
        refused, self._refused = self._refused, 0
        return refused

    def get(self, name: str, opened: Position) -> Generation | None:
        """That generation, if it is open."""
        return self._open.get(name, {}).get(opened)

    def of(self, name: str) -> list[Generation]:
        """The open generations of a name, the oldest first."""
        return [generation for _, generation in sorted(self._open.get(name, {}).items())]

    def knows(self, name: str, opened: Position) -> bool:
        """Whether that generation is open here or was closed in this view."""
        return (name, opened) in self._closed or self.get(name, opened) is not None

    def arrive(
        self, arrive: Arrive, *, member: Member, mark: int, position: Position
    ) -> list[Decision]:
        """Adopt what the entry carries, then count a fresh arrival where it belongs."""
        decisions = self._adopt_all(arrive.name, arrive.carried, position)
        if not arrive.counted:
            self._count(arrive, member, mark, position, decisions)
        return decisions

    def withdraw(self, withdraw: Withdraw, *, member: Member, position: Position) -> list[Decision]:
        """Break the generation in which the member has arrived, unless it was released before."""
        decisions = self._adopt_all(withdraw.name, withdraw.carried, position)
        for generation in self.of(withdraw.name):
            if member in generation.marks:
                self._close(generation)
                timed_out = withdraw.cause is Cause.TIMEOUT
                decisions.append(
                    Withdrawn(
                        generation=generation,
                        by=member,
                        cause=withdraw.cause,
                        reason=f"node {member.node} timed out"
                        if timed_out
                        else f"cancelled by node {member.node}",
                        missing=generation.missing(self._view),
                    )
                )
                break
        return decisions

    # ------------------------------------------------------------------------- fresh arrivals

    def _count(
        self,
        arrive: Arrive,
        member: Member,
        mark: int,
        position: Position,
        decisions: list[Decision],
    ) -> None:
        for generation in self.of(arrive.name):
            if not generation.same_settings(arrive.parties, arrive.strength):
                decisions.append(
                    TurnedAway(member=member, serial=arrive.serial, theirs=generation.settings)
                )
                return
            if generation.takes(member):
                break
        else:
            refusal = self._limit_reached(arrive.name)
            if refusal is not None:
                decisions.append(OverLimit(member=member, serial=arrive.serial, reason=refusal))
                return
            generation = self._open_generation(arrive, position)
        # A member that has arrived before (its first wait ended without an outcome) joins its
        # own arrival: a set does not count it twice, and its later messages belong to it too.
        generation.marks[member] = max(mark, generation.marks.get(member, 0))
        decisions.append(Counted(member=member, serial=arrive.serial, opened=generation.opened))
        self._complete_if_all_here(generation, position, decisions)

    def _limit_reached(self, name: str) -> str | None:
        if len(self._open.get(name, ())) >= OPEN_GENERATIONS_PER_NAME_MAX:
            return f"{OPEN_GENERATIONS_PER_NAME_MAX} generations of barrier {name!r} are open"
        if name not in self._open and len(self._open) >= OPEN_NAMES_MAX:
            return f"{OPEN_NAMES_MAX} barriers are open"
        return None

    def _open_generation(self, arrive: Arrive, position: Position) -> Generation:
        view_id = self._view.id
        everybody = isinstance(arrive.parties, AllParties)
        generation = Generation(
            name=arrive.name,
            opened=Position(era=view_id.era, k=view_id.k, index=position.index),
            parties=arrive.parties,
            strength=arrive.strength,
            members=self._view.incarnations if everybody else (),
        )
        self._open.setdefault(arrive.name, {})[generation.opened] = generation
        return generation

    def _complete_if_all_here(
        self, generation: Generation, position: Position, decisions: list[Decision]
    ) -> None:
        if generation.complete:
            self._close(generation)
            decisions.append(Completed(generation=generation, position=position))

    def _close(self, generation: Generation) -> None:
        generations = self._open[generation.name]
        del generations[generation.opened]
        if not generations:
            del self._open[generation.name]
        # The newest stand at the end, the oldest are forgotten.
        self._uses[generation.name] = self._uses.pop(generation.name, 0) + 1
        if len(self._uses) > OPEN_NAMES_MAX:
            del self._uses[next(iter(self._uses))]
        if _view_of(generation.opened) != self._view.id:
            self._closed.add((generation.name, generation.opened))

    # ---------------------------------------------------------------------------- adoption

    def _adopt_all(
        self, name: str, copies: tuple[Carried, ...], position: Position
    ) -> list[Decision]:
        decisions: list[Decision] = []
        for carried in copies:
            if self.knows(name, carried.opened):
                continue
            if _view_of(carried.opened) >= self._view.id or not self._present.issuperset(
                carried.arrived
            ):
                self._refused += 1
                continue
            generation = Generation(
                name=name,
                opened=carried.opened,
                parties=carried.parties,
                strength=carried.strength,
                members=carried.members,
                # What they multicast before was inside the cut of the view in which they
                # arrived, or the generation would not be carried: nothing is left to wait for.
                marks=dict.fromkeys(carried.arrived, 0),
            )
            self._open.setdefault(name, {})[generation.opened] = generation
            self._reconcile(generation, position, decisions)
        return decisions

    def _reconcile(
        self, adopted: Generation, position: Position, decisions: list[Decision]
    ) -> None:
        for other in self.of(adopted.name):
            if other is adopted:
                continue
            older, younger = sorted((adopted, other), key=lambda generation: generation.opened)
            if not older.same_settings(younger.parties, younger.strength):
                self._close(younger)
                decisions.append(Dissolved(generation=younger, theirs=older.settings))
            elif not isinstance(older.parties, AllParties):
                self._pour(younger, older, position, decisions)
            if self.get(adopted.name, adopted.opened) is None:
                return

    def _pour(
        self,
        younger: Generation,
        older: Generation,
        position: Position,
        decisions: list[Decision],
    ) -> None:
        for member in list(younger.marks):
            if older.complete:
                break
            mark = younger.marks.pop(member)
            older.marks[member] = max(mark, older.marks.get(member, 0))
            decisions.append(
                Moved(name=older.name, member=member, source=younger.opened, target=older.opened)
            )
        if not younger.marks:
            self._close(younger)
        self._complete_if_all_here(older, position, decisions)


def _view_of(position: Position) -> ViewId:
    return ViewId(position.era, position.k)
