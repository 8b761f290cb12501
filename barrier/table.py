"""The agreed state of all barriers in one view: a pure function of the view and its entries.

Every member of a view, newcomers included, starts it with an empty table and feeds it the same
entries in the same order, so all tables are equal at every position. What outlives a view is
carried by its parties as entries of the next one: the first entry that carries a generation
has it *adopted* with everybody who had arrived, later copies change nothing. This replaces a
state transfer to newcomers.

A newcomer knows nothing of what will be carried, so its own arrival may be ordered before it:
the arrivals of the younger generation that the older one takes are poured into that. A party that
the older one does not take (with `AllParties`, whoever was no member when it was opened) waits in
the younger one; both stay open side by side, the older one first in line for who is in both.

All open generations of a name have the same settings. Whoever comes with others dissolves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from phalanx.transport.events import Member, Position, View, ViewId

from .decisions import (
    Adopted,
    Completed,
    Counted,
    Decision,
    Dissolved,
    Moved,
    OverLimit,
    Spoiled,
    TurnedAway,
    Withdrawn,
)
from .generation import Generation, adopted
from .messages import Again, Carried, Carry, Leaving, Quit, Register, Vouch, Withdraw
from .rosters import Rosters
from .settings import AllParties, Count, Entered, Named, Policy, Registered, Settings

OPEN_NAMES_MAX: Final = 1024
"""Names with an open generation; an arrival that would open one more is refused everywhere."""
OPEN_GENERATIONS_PER_NAME_MAX: Final = 8
"""Open generations of one name; there is more than one only while newcomers overtake."""
PAYLOADS_BYTES_MAX: Final = 64 << 20
"""Payloads of all open generations; an arrival whose payload would be more is refused everywhere.
What is carried from an earlier view comes on top of it."""
SPOILED_MAX: Final = 256
"""Spoiled generations that wait for who has not been told; of more the oldest is given up."""

NOT_A_PARTY: Final = "parties of which this node is none"
SINCE_IT_ENTERED: Final = "left the view since it entered"
_ALL_PARTIES: Final = AllParties
_POSITION: Final = Position


@dataclass(slots=True, init=False)
class Arriving:
    """What an arrival says; most parties of a name say the same, and it is read for each."""

    name: str
    settings: Settings
    payload: bytes
    spoiled: str
    bulk: bool
    """Bulk multicasts before it belong to it."""
    plain: bool
    """It brings nothing along."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        payload: bytes = b"",
        spoiled: str = "",
        bulk: bool = False,
    ) -> None:
        self.name = name
        self.settings = settings
        self.payload = payload
        self.spoiled = spoiled
        self.bulk = bulk
        self.plain = not (payload or spoiled or bulk)


class Table:
    """All open generations of one view, fed by its entries in order."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._era, self._k = view.id
        self._present = set(view.incarnations)
        self._everybody = frozenset(view.members)
        self._open: dict[str, list[Generation]] = {}
        """By name; of one name the oldest first."""
        self.rosters = Rosters(view)
        self._closed: set[tuple[str, Position]] = set()
        """Generations of earlier views that got their outcome here: late copies are void."""
        self._moved: dict[tuple[str, int, Position], Position] = {}
        """By name, node and generation, to which older one an arrival was moved."""
        self._spoiled: dict[tuple[str, Position], Generation] = {}
        self._uses: dict[str, int] = {}
        """By name, how many generations were closed in this view; of names that were used last."""
        self._held_bytes = 0
        self._refused = 0

    # ----------------------------------------------------------------------------- questions

    def __iter__(self) -> Iterator[Generation]:
        """Every open generation, in any order."""
        for generations in self._open.values():
            yield from generations

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def of(self, name: str) -> list[Generation]:
        """The open generations of a name, the oldest first."""
        return list(self._open.get(name, ()))

    def get(self, name: str, opened: Position) -> Generation | None:
        """That generation, while it is open."""
        return next((it for it in self._open.get(name, ()) if it.opened == opened), None)

    def knows(self, name: str, opened: Position) -> bool:
        """Whether that generation is open here or was closed in this view."""
        return (name, opened) in self._closed or self.get(name, opened) is not None

    def uses(self, name: str) -> int:
        """How many generations of a name have been closed in this view, if it was used lately."""
        return self._uses.get(name, 0)

    @property
    def payload_bytes(self) -> int:
        """Payloads of open generations that were ordered in this view."""
        return self._held_bytes

    def take_refused(self) -> int:
        """Copies of generations that no honest member can have carried, since the last call."""
        refused, self._refused = self._refused, 0
        return refused

    # ------------------------------------------------------------------------------ arrivals

    def count(
        self, arriving: Arriving, member: Member, mark: int, now_ns: int
    ) -> Generation | None:
        """Count a plain arrival if nothing follows from it, as from most; None: `arrive` has to."""
        generations = self._open.get(arriving.name)
        if generations is None:
            return None
        generation = generations[0]
        if (
            generation.settings is not arriving.settings
            or generation.need <= 1
            or generation.spoiled
            or not generation.awaits(member)
        ):
            return None
        generation.count(member, mark, b"", now_ns)
        return generation

    def unison(
        self, arriving: Arriving, marks: dict[Member, int], first: int, now_ns: int
    ) -> Generation | None:
        """Everybody has arrived, one after the other from position `first` on, in the order of
        `marks`, and plainly; the generation, or None: `arrive` has to look at each.
        """
        name, settings = arriving.name, arriving.settings
        parties, size = settings.parties, len(marks)
        meets = type(parties) is _ALL_PARTIES or (isinstance(parties, Count) and parties.n == size)
        if not meets or name in self._open or self._is_full():
            return None
        if self._in_use_with(name, settings) is not None:
            return None
        generation = Generation(
            name=name,
            opened=self.position(first),
            settings=settings,
            wanted=self._wanted(name, settings),
            size=size,
            need=0,
        )
        generation.arrived(marks, now_ns)
        self._note_use(name)
        return generation

    def arrive(
        self, arriving: Arriving, member: Member, mark: int, index: int, now_ns: int
    ) -> list[Decision]:
        """Count an arrival where it belongs."""
        name, settings, payload = arriving.name, arriving.settings, arriving.payload
        generations = self._open.get(name)
        decisions: list[Decision] = []
        if generations is None or (
            generations[0].settings is not settings and generations[0].settings != settings
        ):
            theirs = self._in_use_with(name, settings)
            if theirs is not None:
                self._dissolve(name, settings, decisions)
                decisions.append(TurnedAway(name, member, settings.words, theirs.words))
                return decisions
        if payload and self._held_bytes + len(payload) > PAYLOADS_BYTES_MAX:
            decisions.append(OverLimit(f"payloads of {PAYLOADS_BYTES_MAX} bytes are held already"))
            return decisions
        for generation in generations or ():
            if generation.awaits(member):
                break
        else:
            if self._is_outsider(name, settings, member):
                decisions.append(TurnedAway(name, member, settings.words, NOT_A_PARTY))
                return decisions
            refusal = self._limit_reached(name)
            if refusal is not None:
                decisions.append(OverLimit(refusal))
                return decisions
            generation = self._open_generation(name, settings, index)
        if payload:
            self._held_bytes -= generation.held_bytes
            generation.count(member, mark, payload, now_ns)
            self._held_bytes += generation.held_bytes
        else:
            generation.count(member, mark, payload, now_ns)
        decisions.append(Counted(generation))
        if arriving.spoiled or generation.spoiled:
            self._spoil(generation, arriving.spoiled, decisions)
        elif generation.need <= 0:
            self._complete_if_all_here(generation, index, decisions)
        return decisions

    def again(self, again: Again, member: Member, index: int) -> list[Decision]:
        """Somebody who had arrived in an earlier view says again what came with it."""
        decisions: list[Decision] = []
        opened, node = again.opened, member.node
        while (again.name, node, opened) in self._moved:
            opened = self._moved[again.name, node, opened]
        generation = self.get(again.name, opened)
        if generation is not None and member in generation.marks and node in generation.owing:
            generation.owing.discard(node)
            generation.payloads[node] = again.payload
            generation.held_bytes += len(again.payload)
            self._held_bytes += len(again.payload)
            self._complete_if_all_here(generation, index, decisions)
        return decisions

    def withdraw(self, withdraw: Withdraw, member: Member) -> list[Decision]:
        """Break the generation in which the member has arrived, unless it was released before.

        Where it arrived in two, it has left its registration with the older arrival.
        """
        for generation in reversed(self._open.get(withdraw.name, ())):
            if member in generation.marks and not generation.spoiled:
                self._close(generation)
                missing = generation.missing(self._view)
                return [Withdrawn(generation, member, withdraw.cause, missing)]
        return []

    def _in_use_with(self, name: str, settings: Settings) -> Settings | None:
        """What a name is in use with, if that is something else."""
        generations = self._open.get(name)
        theirs = generations[0].settings if generations else self.rosters.settings(name)
        return theirs if theirs is not None and theirs != settings else None

    def _is_outsider(self, name: str, settings: Settings, member: Member) -> bool:
        """Whether a member is not among those with whom it wants to meet."""
        match settings.parties:
            case AllParties() | Count():
                return False
            case Registered():
                roster = self.rosters.get(name)
                return roster is None or not roster.has(member)
            case _:
                return not settings.allows(member)

    def _limit_reached(self, name: str) -> str | None:
        generations = self._open.get(name)
        if generations is None:
            return f"{OPEN_NAMES_MAX} barriers are open" if self._is_full() else None
        if len(generations) >= OPEN_GENERATIONS_PER_NAME_MAX:
            return f"{OPEN_GENERATIONS_PER_NAME_MAX} generations of barrier {name!r} are open"
        return None

    def _is_full(self) -> bool:
        return len(self._open) >= OPEN_NAMES_MAX

    def _open_generation(self, name: str, settings: Settings, index: int) -> Generation:
        wanted = self._wanted(name, settings)
        size = settings.parties.n if isinstance(settings.parties, Count) else len(wanted or ())
        generation = Generation(
            name=name,
            opened=self.position(index),
            settings=settings,
            wanted=wanted,
            size=size,
            need=size,
        )
        if isinstance(settings.parties, Entered) and settings.policy is not Policy.SHRINK:
            absent = [m.node for m in settings.parties.members if m not in self._present]
            if absent:
                generation.spoiled = f"node {absent[0]} {SINCE_IT_ENTERED}"
        self._open.setdefault(name, []).append(generation)
        return generation

    def _wanted(self, name: str, settings: Settings) -> frozenset[int] | None:
        match settings.parties:
            case AllParties():
                return self._everybody
            case Count():
                return None
            case Named(nodes=nodes):
                return frozenset(nodes)
            case Entered(members=members):
                return frozenset(member.node for member in members if member in self._present)
            case Registered():
                roster = self.rosters.get(name)
                assert roster is not None, "only who is registered opens a generation"
                return frozenset(roster.members)

    def position(self, index: int) -> Position:
        """The place of an entry of this view."""
        return _POSITION(self._era, self._k, index)

    def _spoil(self, generation: Generation, reason: str, decisions: list[Decision]) -> None:
        """Whoever is in it is told; who is not here yet will be, when it comes."""
        generation.spoiled = generation.spoiled or reason
        decisions.append(Spoiled(generation))
        self._spoiled[generation.name, generation.opened] = generation
        if generation.need <= 0:
            self._close(generation)
        elif len(self._spoiled) > SPOILED_MAX:
            self._close(next(iter(self._spoiled.values())))

    def _complete_if_all_here(
        self, generation: Generation, index: int, decisions: list[Decision]
    ) -> None:
        if generation.complete and not generation.spoiled:
            self._close(generation)
            decisions.append(Completed(generation, self.position(index)))

    def _close(self, generation: Generation) -> None:
        name = generation.name
        generations = self._open[name]
        generations.remove(generation)
        if not generations:
            del self._open[name]
        self._held_bytes -= generation.held_bytes
        if generation.spoiled:
            self._spoiled.pop((name, generation.opened), None)
        self._note_use(name)
        opened = generation.opened
        if opened.k != self._k or opened.era != self._era:
            self._closed.add((name, opened))

    def _note_use(self, name: str) -> None:
        """A generation of this name is closed."""
        uses = self._uses.get(name)
        if uses is None and len(self._uses) >= OPEN_NAMES_MAX:
            # Which is forgotten counts for nothing but how soon a meeting is known as one.
            self._uses.clear()
        self._uses[name] = 1 if uses is None else uses + 1

    def _dissolve(self, name: str, theirs: Settings, decisions: list[Decision]) -> None:
        for generation in self.of(name):
            if generation.settings != theirs:
                self._close(generation)
                decisions.append(Dissolved(generation, theirs.words))

    # -------------------------------------------------------------------------- registration

    def register(self, register: Register, member: Member) -> list[Decision]:
        """Register a member, unless it disagrees with what is open."""
        name, settings = register.name, register.settings
        if not isinstance(settings.parties, Registered):
            return []
        generations = self._open.get(name)
        theirs = generations[0].settings if generations else self.rosters.settings(name)
        if theirs is None or theirs == settings:
            return self.rosters.register(name, settings, member)
        decisions: list[Decision] = []
        self._dissolve(name, settings, decisions)
        for other in self.rosters.dissolve(name):
            decisions.append(TurnedAway(name, other, theirs.words, settings.words))
        decisions.append(TurnedAway(name, member, settings.words, theirs.words))
        return decisions

    def vouch(self, vouch: Vouch, member: Member, index: int) -> list[Decision]:
        """A member has said all that it knows of a name."""
        return self.rosters.vouch(vouch.name, member, self.position(index))

    def quit(
        self, quit_: Quit, member: Member, mark: int, index: int, now_ns: int
    ) -> list[Decision]:
        """The member is no party of what begins from here on, and nobody waits for it."""
        decisions: list[Decision] = []
        roster = self.rosters.get(quit_.name)
        if roster is None or not roster.has(member):
            self.rosters.quit(quit_.name, member)
            return decisions
        waiting = [it for it in self._open.get(quit_.name, ()) if it.takes(member)]
        has_arrived = any(member in generation.marks for generation in waiting)
        awaited = bool(waiting) and not has_arrived
        if quit_.leaving is Leaving.ARRIVE or (awaited and quit_.leaving is Leaving.DEREGISTER):
            arriving = Arriving(quit_.name, roster.settings, quit_.payload)
            decisions += self.arrive(arriving, member, mark, index, now_ns)
        self.rosters.quit(quit_.name, member)
        for generation in self.of(quit_.name):
            if member not in generation.marks:
                generation.excuse((member.node,))
                self._complete_if_all_here(generation, index, decisions)
        return decisions

    # ---------------------------------------------------------------------------- adoption

    def carry(self, carry: Carry, index: int) -> list[Decision]:
        """Adopt what is not known yet of earlier views."""
        decisions: list[Decision] = []
        if carry.roster is not None:
            if self._is_older(carry.roster.founded):
                decisions += self.rosters.adopt(carry.name, carry.roster) or ()
            else:
                self._refused += 1
        for carried in carry.generations:
            if self.knows(carry.name, carried.opened):
                continue
            if not (self._is_older(carried.opened) and self._present.issuperset(carried.arrived)):
                self._refused += 1
                continue
            self._adopt(carry.name, carried, index, decisions)
        return decisions

    def _is_older(self, position: Position) -> bool:
        return ViewId(position.era, position.k) < self._view.id

    def _adopt(self, name: str, carried: Carried, index: int, decisions: list[Decision]) -> None:
        generation = adopted(name, carried)
        generations = self._open.setdefault(name, [])
        generations.append(generation)
        generations.sort(key=lambda it: it.opened)
        if generation.spoiled:
            self._spoiled[name, generation.opened] = generation
        decisions.append(Adopted(generation))
        for other in self.of(name):
            if other is generation:
                continue
            if other.settings != generation.settings:
                self._dissolve_both(generation, other, decisions)
            else:
                older, younger = sorted((generation, other), key=lambda it: it.opened)
                self._pour(younger, older, index, decisions)
            if self.get(name, generation.opened) is None:
                return

    def _dissolve_both(self, one: Generation, other: Generation, decisions: list[Decision]) -> None:
        """Neither side has done anything wrong but to disagree."""
        for generation, theirs in ((one, other), (other, one)):
            if self.get(generation.name, generation.opened) is not None:
                self._close(generation)
                decisions.append(Dissolved(generation, theirs.settings.words))

    def _pour(
        self, younger: Generation, older: Generation, index: int, decisions: list[Decision]
    ) -> None:
        """Who has come to the younger one is a party of the older one, where that takes it."""
        for member, mark in list(younger.marks.items()):
            if older.need <= 0:
                break
            if not older.awaits(member):
                continue
            payload = younger.payloads.get(member.node, b"")
            self._held_bytes -= younger.held_bytes
            older.count(member, mark, payload, younger.times.get(member.node, 0))
            if member.node in younger.owing:
                older.owing.add(member.node)
            if member.node in younger.bulk_marks:
                older.bulk_marks[member.node] = younger.bulk_marks[member.node]
            younger.forget((member,))
            younger.held_bytes -= len(payload)
            self._held_bytes += younger.held_bytes + len(payload)
            self._moved[older.name, member.node, younger.opened] = older.opened
            decisions.append(Moved(member, younger.opened, older))
        if not younger.marks:
            self._close(younger)
        if older.spoiled:
            self._spoil(older, "", decisions)
        else:
            self._complete_if_all_here(older, index, decisions)
