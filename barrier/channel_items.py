"""What an ordered channel gives to its reader, and tells those who publish on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from phalanx.transport.events import Position, View, ViewInstalled


class Entries(msgspec.Struct, frozen=True):
    """Consecutive entries of one channel and one sender, in the agreed order."""

    sender: int
    payloads: list[bytes]
    first: Position
    """Of the first of them; the others follow one by one."""
    size: int
    """Bytes of payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """Here the channel begins; what follows is read when the `StateMade` for it has come.

    There may be several, for whoever was to give the state could not. If one comes with a state,
    what is before it is in that; if none does, the first of them counts.
    """

    position: Position
    anew: bool
    """Another life of this node, or another order, begins: openings before are void."""
    again: bool
    """It was open before: entries between what was read last and this position are not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMark:
    """The application's state is wanted here by a member that has just opened the channel."""

    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class StateMade:
    """What belongs to an `Opening`: another member's state, or word that there is none."""

    position: Position
    state: bytes | None
    donor: int
    too_large: int = 0
    """The state has so many bytes, which is more than this node takes."""


ChannelItem: TypeAlias = Entries | ViewInstalled | Opening | StateMark | StateMade


class Published(msgspec.Struct, frozen=True):
    """Messages of this node have got their place; tokens and positions go up together."""

    last_token: int
    number: int
    first: Position
    safe: bool


def follows(event: ViewInstalled, before: View) -> bool:
    """Whether a view continues the order of the one before."""
    era, k = before.id
    return event.view.id == (era, k + 1) and not event.started_over
