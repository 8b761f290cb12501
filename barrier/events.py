"""What comes out of a barrier: a release, or one of the ways in which there is none.

A party that goes on to the next view sees the same `Release` or the same reason as every other
party that does (barrier uniformity); `Unknown` is the one answer that says nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import msgspec

from phalanx.transport.events import Member, Position


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """All parties of one generation of a barrier have arrived."""

    name: str
    generation: Position
    """Where the first arrival of the generation was ordered; grows from one to the next."""
    position: Position
    """Where the last arrival was ordered, which is where the release was decided; with index 0 if
    a view has decided it, by what was left of the parties (policy `shrink`).
    """
    parties: tuple[Member, ...]
    """Who arrived, in ascending order of node id."""
    payloads: Mapping[int, bytes] = {}
    """What came with the arrivals, by node id, of those who brought something."""
    token: Position | None = None
    """With strength `safe` a fencing token, else None. It is larger than that of every earlier
    release of this name; whoever compares tokens acts for the larger one and refuses smaller ones.
    """

    def __hash__(self) -> int:
        return hash((self.name, self.generation, self.position))


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a party that registers is told of the others, as of its place in the order."""

    name: str
    position: Position
    """That place: this node is a party of every generation that begins behind it."""
    parties: tuple[int, ...]
    """All nodes that are registered now, this one included, in ascending order."""
    generation: Position | None = None
    """The generation that is open, if there is one."""
    arrived: tuple[int, ...] = ()
    """Nodes that have arrived at it."""
    waited_for: tuple[int, ...] = ()
    """Nodes that it still waits for. This one is among them only if it was registered in an
    earlier incarnation and its rejoin is waited for; else it counts from the next generation on.
    """


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """The generation was released."""

    ticket: int
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The generation was broken, for every party and for the same reason."""

    ticket: int
    name: str
    generation: Position | None
    """None if the arrival was taken back before it was ordered in any generation."""
    reason: str
    missing: Mapping[int, str]
    """Why, by node id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOut:
    """This party's own deadline broke the generation; the other parties see `Broken`."""

    ticket: int
    name: str
    generation: Position | None
    """None if the arrival was taken back before it was ordered in any generation."""
    missing: Mapping[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """Parties came with different settings; all that had come are told so."""

    ticket: int
    name: str
    generation: Position | None
    """The one that was dissolved by it; None for who came and was turned away."""
    ours: str
    """The settings of this arrival, in words."""
    theirs: str
    """The settings on the other side, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """This arrival was refused at every member because a limit is reached."""

    ticket: int
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """This node cannot know what became of its arrival."""

    ticket: int
    name: str
    reason: str
    outcome: Literal["none", "unknown"]
    """`none` if the arrival never left this node, so that it counts nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """This node is registered."""

    ticket: int
    registration: Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """This node is not registered any more."""

    ticket: int
    name: str


Outcome: TypeAlias = (
    Released | Broken | TimedOut | Mismatch | Refused | Unknown | Enrolled | Retired
)
"""Every ticket gets exactly one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStatus:
    """One open generation, as every member of the view sees it at this place of the order."""

    name: str
    generation: Position
    settings: str
    arrived: tuple[Member, ...]
    """In the order of arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """How much later than the first a node has arrived, as this node learnt of it."""

    arrivals: int
    """In so many generations that were released."""
    mean_ns: int
    worst_ns: int
