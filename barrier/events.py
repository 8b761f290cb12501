"""What comes out of a barrier: a release, or one of the ways in which there is none.

A party that goes on to the next view sees the same `Release` or the same reason as every other
party that does (barrier uniformity); `Unknown` is the one answer that says nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from phalanx.transport.events import Member, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """All parties of one generation of a barrier have arrived."""

    name: str
    generation: Position
    """Where the first arrival of the generation was ordered; grows from one to the next."""
    position: Position
    """Where the last arrival was ordered, which is where the release was decided."""
    parties: tuple[Member, ...]
    """Who arrived, in ascending order of node id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
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
    """This arrival was refused: the generation was opened with other settings."""

    ticket: int
    name: str
    ours: str
    """The settings of the refused arrival, in words."""
    theirs: str
    """The settings that the others use, in words."""


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


Outcome: TypeAlias = Released | Broken | TimedOut | Mismatch | Refused | Unknown
"""Every ticket gets exactly one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStatus:
    """One open generation, as every member of the view sees it at this place of the order."""

    name: str
    generation: Position
    settings: str
    arrived: tuple[Member, ...]
    """In the order of arrival."""
