"""Registration: who is a party of the generations that begin from some position on.

A roster outlives views, and whoever goes on knows it; a newcomer does not. So whoever registers
at a name of which nothing is known may not found a roster at once: it would be alone in it, and
be released alone, until an older one of everybody else came to light. First every member of the
view *vouches*: what it knows of the name from earlier views stands before its word in the order.
A roster is carried as a whole, so that no generation begins with half of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from phalanx.transport.events import Member, Position, View

from .decisions import Decision, Enrolled, Founding, OverLimit
from .generation import Roster
from .messages import CarriedRoster
from .settings import Settings

ROSTERS_MAX: Final = 1024
"""Names with registered parties; one more is refused everywhere."""


@dataclass(slots=True, kw_only=True)
class Beginning:
    """A roster that is founded when everybody has vouched that there is none."""

    settings: Settings
    registrars: list[Member] = field(default_factory=list[Member])
    silent: set[int] = field(default_factory=set[int])
    """Who has not vouched."""


class Rosters:
    """All rosters of one view, a pure function of its entries; a part of the table."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._known: dict[str, Roster] = {}
        self._beginning: dict[str, Beginning] = {}
        self._ended: set[tuple[str, Position]] = set()
        """Older rosters that ended in this view: a late copy must not bring one back."""

    def __len__(self) -> int:
        return len(self._known)

    def all(self) -> list[Roster]:
        """Every roster, in any order."""
        return list(self._known.values())

    def get(self, name: str) -> Roster | None:
        """The roster of a name."""
        return self._known.get(name)

    def settings(self, name: str) -> Settings | None:
        """What is agreed on at a name, also while its roster is being founded."""
        found = self._known.get(name) or self._beginning.get(name)
        return found.settings if found is not None else None

    def knows(self, name: str, founded: Position) -> bool:
        """Whether there is one of that name, or that one has ended in this view."""
        return name in self._known or (name, founded) in self._ended

    def register(self, name: str, settings: Settings, member: Member) -> list[Decision]:
        """A member that agrees with what there is becomes a party of what begins from here on."""
        roster = self._known.get(name)
        if roster is not None:
            roster.members[member.node] = member
            return [Enrolled(name, member)]
        beginning = self._beginning.get(name)
        decisions: list[Decision] = []
        if beginning is None:
            if len(self._known) + len(self._beginning) >= ROSTERS_MAX:
                return [OverLimit(f"parties are registered at {ROSTERS_MAX} barriers")]
            beginning = Beginning(settings=settings, silent=set(self._view.members))
            self._beginning[name] = beginning
            decisions.append(Founding(name))
        if member not in beginning.registrars:
            beginning.registrars.append(member)
        return decisions

    def vouch(self, name: str, member: Member, position: Position) -> list[Decision]:
        """One member less that might know of an older roster."""
        beginning = self._beginning.get(name)
        if beginning is None:
            return []
        beginning.silent.discard(member.node)
        if beginning.silent:
            return []
        roster = Roster(name=name, founded=position, settings=beginning.settings)
        return self._found(roster)

    def adopt(self, name: str, carried: CarriedRoster) -> list[Decision] | None:
        """A roster of an earlier view, as a whole; None if there is one already."""
        if self.knows(name, carried.founded):
            return None
        members = {member.node: member for member in carried.members}
        roster = Roster(
            name=name, founded=carried.founded, settings=carried.settings, members=members
        )
        return self._found(roster)

    def _found(self, roster: Roster) -> list[Decision]:
        self._known[roster.name] = roster
        beginning = self._beginning.pop(roster.name, None)
        enrolled = beginning.registrars if beginning is not None else []
        for member in enrolled:
            roster.members[member.node] = member
        return [Enrolled(roster.name, member) for member in enrolled]

    def quit(self, name: str, member: Member) -> None:
        """A member is registered no more, or will not be when the roster is founded."""
        roster, beginning = self._known.get(name), self._beginning.get(name)
        if roster is not None and roster.has(member):
            del roster.members[member.node]
            if not roster.members:
                del self._known[name]
                if (roster.founded.era, roster.founded.k) != self._view.id:
                    self._ended.add((name, roster.founded))
        if beginning is not None and member in beginning.registrars:
            beginning.registrars.remove(member)
            if not beginning.registrars:
                del self._beginning[name]

    def dissolve(self, name: str) -> list[Member]:
        """Those who wait for a roster to be founded do not agree: nobody is registered."""
        beginning = self._beginning.pop(name, None)
        return beginning.registrars if beginning is not None else []
