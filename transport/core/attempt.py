"""One attempt of a proposer: what it has gathered for one ballot (PROTOCOL 2)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from .. import wire
from ..events import Member
from ..wire import Ballot, ViewValue

PATIENCE_DOUBLINGS_MAX: Final = 5
"""The longest a phase may take is its first time-out, doubled so often."""
FAILURES_UNTIL_RESET: Final = 2
"""So many attempts in a row fail before the associations to those that were silent are reset, and
to those that were asked in vain for what the view lacks.
"""
BACK_OFF_PARTS: Final = 20
"""Of a phase's time-out; by each place in the order of ids a proposer waits one part longer."""
BACK_OFF_FAILURES_MAX: Final = 16
"""After each failure it waits for as much again, up to this many."""


class Phase(enum.Enum):
    """Where a proposer's attempt stands."""

    PREPARE = enum.auto()
    HOLD = enum.auto()
    ACCEPT = enum.auto()


@dataclass(slots=True)
class Attempt:
    """One ballot of ours for one instance; it can be thrown away at any moment."""

    k: int
    ballot: Ballot
    members: frozenset[Member]
    founding: int = 0
    """The era that it founds by the operator's word; 0 for none."""
    phase: Phase = Phase.PREPARE
    promises: dict[int, wire.Promise] = field(default_factory=dict[int, wire.Promise])
    value: ViewValue | None = None
    awaiting: set[int] = field(default_factory=set[int])
    """Members whose HELD is awaited."""
    accepted: set[int] = field(default_factory=set[int])
    asked: dict[int, wire.Control] = field(default_factory=dict[int, wire.Control])
    """What each member was last asked."""

    def silent(self) -> set[int]:
        """Members whose answer in this phase is missing."""
        if self.phase is Phase.HOLD:
            return self.awaiting
        answered = self.promises.keys() if self.phase is Phase.PREPARE else self.accepted
        return {member.node for member in self.members} - answered


def back_off_ns(phase_timeout_ns: int, place: float, failures: int) -> int:
    """How long a proposer leaves the field to others once an attempt of its own has failed.

    `place` is its place among all configured nodes and a random part of one.
    """
    return int(phase_timeout_ns // BACK_OFF_PARTS * place * min(failures, BACK_OFF_FAILURES_MAX))
