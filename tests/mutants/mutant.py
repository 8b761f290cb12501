"""What a deliberate bug is: it leaves out or bends one rule, and some run must notice.

A mutant is a change of source text. Text that is not there exactly once is an error, so that a
mutant cannot go stale unnoticed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """One passage of one file and what stands there in the mutant."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug."""

    name: str
    rule: str
    """What is left out or bent, with its place in the protocol."""
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A bug that only costs time, or needs a scene of its own: a test notices it."""

    mutant: Mutant
    judge: str
    """A file below tests/, and which test of it."""


def one(name: str, rule: str, path: str, old: str, new: str) -> Mutant:
    """A mutant of a single passage."""
    return Mutant(name, rule, (Edit(path, old, new),))


CORE = "transport/core/"
MEMBERSHIP = CORE + "membership.py"
GATHER = CORE + "gather.py"
DELIVERY = CORE + "delivery.py"
EPOCHS = CORE + "epochs.py"
FLUSH = CORE + "flush.py"
