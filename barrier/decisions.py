"""What an entry of the agreed order has decided about a barrier, the same at every member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from phalanx.transport.events import Member, Position

from .generation import Generation
from .messages import Cause


@dataclass(slots=True, init=False)
class Counted:
    """The entry's arrival counts in a generation."""

    generation: Generation

    def __init__(self, generation: Generation) -> None:
        self.generation = generation


class Adopted(NamedTuple):
    """A generation of an earlier view is known to everybody now."""

    generation: Generation


class Moved(NamedTuple):
    """An arrival counts in an older generation of the same name from now on."""

    member: Member
    source: Position
    target: Generation


@dataclass(slots=True, init=False)
class Completed:
    """The last party has arrived."""

    generation: Generation
    position: Position

    def __init__(self, generation: Generation, position: Position) -> None:
        self.generation = generation
        self.position = position


class Withdrawn(NamedTuple):
    """A party has taken its arrival back in time: broken for all."""

    generation: Generation
    by: Member
    cause: Cause
    missing: dict[int, str]


class Spoiled(NamedTuple):
    """Whoever has arrived is told why the others must not go on."""

    generation: Generation


class Dissolved(NamedTuple):
    """Somebody came with other settings: all who have arrived are told."""

    generation: Generation
    theirs: str


class TurnedAway(NamedTuple):
    """An arrival or a registration disagrees with others at its name."""

    name: str
    member: Member
    ours: str
    theirs: str


class OverLimit(NamedTuple):
    """The entry would have made more of something than there may be."""

    reason: str


class Founding(NamedTuple):
    """Somebody registers at a name of which nothing is known: everybody says that it is so."""

    name: str


class Enrolled(NamedTuple):
    """A member is registered."""

    name: str
    member: Member


Decision: TypeAlias = (
    Counted
    | Adopted
    | Moved
    | Completed
    | Withdrawn
    | Spoiled
    | Dissolved
    | TurnedAway
    | OverLimit
    | Founding
    | Enrolled
)
