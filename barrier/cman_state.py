"""What a node remembers of a barrier in cman's manner, and which arguments cman took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import TypeAlias, TypeGuard

from .arrival import Arrival

NAME_BYTES_MAX = 32
TIMEOUT_S_MAX = 1 << 31

Callback: TypeAlias = Callable[[str, int], object]


class Flag(IntFlag):
    """The attributes of a barrier, as `register` takes them."""

    AUTODELETE = 1
    MULTISTEP = 2
    MANUAL = 4
    ENABLED = 8
    CALLBACK = 16


class Attribute(IntEnum):
    """What `change` changes."""

    AUTODELETE = 1
    MULTISTEP = 2
    ENABLED = 3
    NODES = 4
    CALLBACK = 5
    TIMEOUT = 6


KNOWN_FLAGS = 0b11111
SWITCHES = {
    Attribute.AUTODELETE: Flag.AUTODELETE,
    Attribute.MULTISTEP: Flag.MULTISTEP,
}


@dataclass(slots=True, eq=False)
class Use:
    """One generation of a barrier, as this node takes part in it."""

    arrived: asyncio.Future[int]
    """0 once the arrival is made, or the code of why not."""
    arrival: Arrival | None = None
    """While it stands."""
    taken_back: bool = False
    code: int | None = None
    """The outcome."""
    told: bool = False
    """A wait has returned the outcome."""
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class Registered:
    """A registered barrier."""

    name: str
    flags: int
    nodes: int
    timeout_s: int = 0
    callback: Callback | None = None
    use: Use | None = None
    waiters: set[asyncio.Future[int]] = field(default_factory=set["asyncio.Future[int]"])

    @property
    def multistep(self) -> bool:
        """Whether it may be used again when it is complete."""
        return bool(self.flags & Flag.MULTISTEP)

    @property
    def complete(self) -> bool:
        """Whether its last use has its outcome."""
        return self.use is not None and self.use.code is not None

    @property
    def active(self) -> bool:
        """Whether this node has arrived, or is about to."""
        return self.use is not None and self.use.code is None


def wake(barrier: Registered, code: int) -> None:
    """Give a code to all who wait at this node."""
    for waiter in barrier.waiters:
        if not waiter.done():
            waiter.set_result(code)


def is_name(name: object) -> bool:
    """Whether a barrier may be called so."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and 1 <= len(name.encode(errors="replace")) <= NAME_BYTES_MAX
    )


def is_number(value: object, most: int) -> TypeGuard[int]:
    """Whether an argument is a whole number in its range."""
    return isinstance(value, int) and 0 <= value <= most
